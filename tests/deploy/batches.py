"""What is posted to a service before it is looked at."""

from base64 import b64encode
from datetime import UTC, datetime

# (2, 4) float32, the first row all NaN.
NAN = {
    "dtype": "float32",
    "shape": [2, 4],
    "data": b64encode(b"\x00\x00\xc0\x7f" * 4 + bytes(16)).decode(),
}

TRACK = {
    "project": "digits",
    "model": "reader",
    "model_version": "1",
    "batch_id": "first",
    "event_time": datetime.now(UTC).isoformat(),
    "label_schema": {"name": "four", "classes": ["a", "b", "c", "d"]},
}
ALERT = {
    "name": "loss",
    "kind": "threshold",
    "metric": "loss.mean",
    "threshold": 2.0,
    "selection": {"model": "reader", "variant": "sparse"},
    "step": "1h",
}
