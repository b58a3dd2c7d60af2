"""The Poisson bootstrap: in each replicate a row counts k times, k drawn from Poisson(1).

What is drawn follows from the name of the row and the number of the replicate alone: the same
sample has the same weights in every batch, process and machine. Replicates of two models on the
same samples are therefore paired, and sums of any split of the rows merge to those of all.

Source: Chamandy, Muralidharan, Najmi, Naidu, "Estimating Uncertainty for Massive Data Streams",
2012; the sketch: Bar-Yossef et al., "Counting Distinct Elements in a Data Stream", 2002.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise, repeat
from typing import Final

import numpy as np
import orjson
import xxhash
from numpy.typing import NDArray

from service.history.sums import ALL_CLASSES, REPLICATE, REPLICATES, SKETCH, SKETCH_SIZE, Records

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.float64]

# Up to this many classes each has replicates of its own. By the classes that there are, not by
# those that a batch holds: a class is in the replicates of every batch of a series, or of none.
MOST_CLASSES: Final = 64

# Changed, samples hash and draw otherwise than in what was stored: never change these.
_ID_SEED: Final = 0x58656E74
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)

_DRAWS_PER_WORD: Final = 4
_WORDS: Final = REPLICATES // _DRAWS_PER_WORD
_BLOCK_ROWS: Final = 2048  # weights of a block stay in the cache
# From so many rows on, products with one vector after the other take a quarter of the time of one
# with all of them.
_TALL: Final = 64

# How many of the 65536 values of 16 bits draw 0, 1, ..., 8: round(65536 e^-1 / k!), but for one 4
# that became a 1. So the mean is exactly 1 and the variance 1 + 9.2e-5; each probability is off by
# at most 1.1e-5, and what exact draws have above 8, 1.1e-6, is never drawn.
_OCCURRENCES: Final = (24109, 24110, 12055, 4018, 1004, 201, 33, 5, 1)
# One byte each: they stay in the cache while they are looked up.
_QUANTILES: Final = np.repeat(np.arange(len(_OCCURRENCES), dtype=np.uint8), _OCCURRENCES)
_STEPS: Final = _GOLDEN * np.arange(1, _WORDS + 1, dtype=np.uint64)


def hash_ids(ids: Sequence[str | int]) -> Hashes:
    """Return the 64-bit hash of each id, (rows,). A number is its decimal text: 7 is "7"."""
    digests = b"".join(map(xxhash.xxh3_64_digest, _texts(ids), repeat(_ID_SEED)))
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def _texts(ids: Sequence[str | int]) -> Iterable[bytes]:
    """Return the text of each id, without a line of Python for each."""
    if set(map(type, ids)) == {int}:
        with suppress(orjson.JSONEncodeError):  # a number that 64 bits do not hold
            return orjson.dumps(list(ids))[1:-1].split(b",")
    # Half a surrogate pair, which JSON can write, is a name like any other.
    return map(str.encode, map(str, ids), repeat("utf-8"), repeat("surrogatepass"))


def draws(hashes: Hashes) -> Numbers:
    """Return how often each row counts in each replicate, (rows, replicates)."""
    # splitmix64, seeded by the hash; Steele, Lea, Flood 2014. Overflow is meant.
    words = hashes[:, None] + _STEPS
    words ^= words >> np.uint64(30)
    words *= _MIX_1
    words ^= words >> np.uint64(27)
    words *= _MIX_2
    words ^= words >> np.uint64(31)
    return _QUANTILES.take(words.astype("<u8", copy=False).view("<u2")).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Units:
    """The rows of a batch, as they are resampled and recognised.

    Attributes:
        drawn: hashes of what is resampled: clusters, or else samples; (rows,).
        seen: hashes of what is recognised in other batches: samples, or else clusters; (rows,).
    """

    drawn: Hashes
    seen: Hashes

    @classmethod
    def of(cls, samples: Hashes | None, clusters: Hashes | None) -> "Units | None":
        """Return the units of rows with these names, ``None`` where they have none."""
        drawn = samples if clusters is None else clusters
        seen = clusters if samples is None else samples
        return None if drawn is None or seen is None else cls(drawn, seen)


@dataclass(frozen=True, slots=True)
class RowSums:
    """What each row added to the sums of one evaluation; see :meth:`xentcore.Evaluation.recorded`.

    Attributes:
        losses: what it added to the loss, nats, NaN where it was not evaluated; (rows,).
        weights: what it added to the denominator; (rows,).
        classes: its class, or -1 for all rows where they belong to none; (rows,).
    """

    losses: Numbers
    weights: Numbers
    classes: NDArray[np.int64]


def replicate(
    rows: Sequence[RowSums],
    units: Units,
    *,
    classes: int,
    proceed: Callable[[], None] = lambda: None,
) -> list[Records]:
    """Return the replicates of evaluations of the same rows; what is drawn is drawn once.

    Args:
        rows: of each evaluation.
        units: what the rows are.
        classes: how many there are.
        proceed: called between blocks; may raise to give up.

    Returns:
        for each evaluation records of class -1, all rows, and, up to :data:`MOST_CLASSES`, of each
        class that rows belong to, ascending.
    """
    per_class = classes <= MOST_CLASSES
    # The label of a row is the same for every evaluation that evaluated it.
    labels = np.full(len(units.drawn), ALL_CLASSES, np.int64)
    for each in rows if per_class else ():
        np.maximum(labels, each.classes, out=labels)
    order = np.argsort(labels, kind="stable") if per_class else np.arange(len(labels))
    sums = np.zeros((int(labels.max(initial=ALL_CLASSES)) + 2, 2 * len(rows), REPLICATES))
    for first in range(0, len(order), _BLOCK_ROWS):
        proceed()
        _add_block(sums, order[first : first + _BLOCK_ROWS], labels, rows, units)
    return [_records(sums[:, place :: len(rows)], each, labels) for place, each in enumerate(rows)]


def _add_block(
    sums: Numbers,
    block: NDArray[np.int64],
    labels: NDArray[np.int64],
    rows: Sequence[RowSums],
    units: Units,
) -> None:
    """Add a block of rows, ascending by label, to the (labels + 1, numbers, replicates) sums."""
    drawn = draws(units.drawn[block])
    losses = np.array([each.losses[block] for each in rows])
    weights = np.array([each.weights[block] for each in rows])
    counted = np.isfinite(losses)
    if not counted.all():
        losses, weights = np.where(counted, losses, 0.0), np.where(counted, weights, 0.0)
    numbers = np.concatenate((losses, weights))
    own = labels[block]
    starts = [0, *(np.flatnonzero(own[1:] != own[:-1]) + 1).tolist(), len(own)]
    for first, last in pairwise(starts):
        sums[own[first] + 1] += _product(numbers[:, first:last], drawn[first:last])


def _product(numbers: Numbers, drawn: Numbers) -> Numbers:
    """Return the product of a wide matrix of few rows and a tall one."""
    if len(drawn) < _TALL:
        return numbers @ drawn
    return np.stack([row @ drawn for row in numbers])


def _records(sums: Numbers, rows: RowSums, labels: NDArray[np.int64]) -> Records:
    """Return the records of one evaluation from its sums, (labels + 1, loss and weight, ...)."""
    # Of its own classes: others may have labels where this one, of the sigmoid family, has none.
    own = np.minimum(rows.classes, labels)[np.isfinite(rows.losses)]
    present = np.flatnonzero(np.bincount(own - ALL_CLASSES)[1:])
    records = np.zeros(1 + len(present), REPLICATE)
    records["class"] = [ALL_CLASSES, *present]
    for name, column in zip(("loss_sums", "weight_sums"), (0, 1), strict=True):
        records[name][0] = sums[:, column].sum(axis=0)
        records[name][1:] = sums[present + 1, column]
    return records


def sketch(hashes: Hashes) -> Records:
    """Return the smallest hashes that there are, each once, ascending."""
    if len(hashes) > 4 * SKETCH_SIZE:
        # Hashes are spread evenly: this many are to be expected below, and far fewer to sort.
        share = np.uint64(4 * SKETCH_SIZE / len(hashes) * 2.0**64)
        smallest = _ascending(hashes[hashes < share])
        if len(smallest) >= SKETCH_SIZE:
            return smallest[:SKETCH_SIZE].astype(SKETCH, copy=False)
    return _ascending(hashes)[:SKETCH_SIZE].astype(SKETCH, copy=False)


def _ascending(hashes: Hashes) -> Hashes:
    # Not unique: it looks each up in a table first, and takes ten times as long.
    ordered = np.sort(hashes)
    another = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=another[1:])
    return ordered[another]
