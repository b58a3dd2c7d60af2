"""Bytes to tensors and back: one file per media type, and the registry that chooses."""
