"""Losses as ONNX graphs: the same numbers where no service is, in a browser or on a device."""
