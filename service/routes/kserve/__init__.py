"""``/v2``: KServe V2, the Open Inference Protocol, on the same core as ``/loss``."""
