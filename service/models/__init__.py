"""ONNX models that hold features -> logits: found, checked, run. Loaded when first asked for."""
