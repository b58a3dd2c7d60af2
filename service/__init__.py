"""Xent over HTTP: bytes in, bytes out. Everything numeric is asked of :mod:`xentcore`."""
