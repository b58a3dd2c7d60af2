"""Sums of a few evaluations, added one by one: what folding and rebuilding are compared with."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from service.history.sums import (
    ADDED,
    BIN,
    BUCKET,
    CLASS,
    HARDEST,
    REPLICATE,
    SKETCH,
    SKETCH_SIZE,
    Records,
    Sums,
    hardness,
)


def merge(parts: Iterable[Sums]) -> Sums:
    """Return the sums of all parts, added in their order."""
    parts = list(parts)
    whole = Sums(**{name: sum(getattr(part, name) for part in parts) for name in ADDED})
    lows = [part.loss_min for part in parts if part.loss_min is not None]
    highs = [part.loss_max for part in parts if part.loss_max is not None]
    whole.loss_min, whole.loss_max = min(lows, default=None), max(highs, default=None)
    whole.classes = _merged(CLASS, "class", [part.classes for part in parts])
    whole.histogram = _merged(BUCKET, "bucket", [part.histogram for part in parts])
    whole.replicates = _merged(REPLICATE, "class", [part.replicates for part in parts])
    for part in parts:
        for name in BIN.names or ():
            whole.calibration[name] += part.calibration[name]
    hashes = [part.sketch for part in parts]
    whole.sketch = np.unique(np.concatenate([np.zeros(0, SKETCH), *hashes]))[:SKETCH_SIZE]
    rows = [row for part in parts for row in part.hardest]
    whole.hardest = sorted(rows, key=hardness)[:HARDEST]
    return whole


def _merged(dtype: np.dtype[Any], key: str, parts: Sequence[Records]) -> Records:
    """Return records with the same key added up, in their order, ascending by key."""
    records = np.concatenate([np.zeros(0, dtype), *parts])
    keys, place = np.unique(records[key], return_inverse=True)
    merged = np.zeros(len(keys), dtype)
    merged[key] = keys
    for name in dtype.names or ():
        if name != key:
            np.add.at(merged[name], place, records[name])
    return merged
