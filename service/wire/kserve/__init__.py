"""KServe V2, the Open Inference Protocol: JSON, and tensors as binary data behind it."""
