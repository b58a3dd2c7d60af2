"""Many sums at once, column by column: decoded and added together, without a loop over them."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from service.history.sums import ARRAYS as DTYPES
from service.history.sums import (
    BINS,
    COUNTS,
    HARDEST,
    SKETCH,
    SKETCH_SIZE,
    Records,
    hardness,
)

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

# Which member of a record says what it is of; the bins of confidence are told by their place.
KEYS: Final[Mapping[str, str | None]] = {
    "classes": "class",
    "histogram": "bucket",
    "calibration": None,
    "replicates": "class",
}
# What a stored row says beside its sums.
PENDING: Final = "pending"
REVISION: Final = "revision"
_INTEGERS: Final = frozenset({*COUNTS, REVISION})
_LOW: Final = "loss_min"
_HIGH: Final = "loss_max"


@dataclass(frozen=True, slots=True)
class Pile:
    """Records of many sums, (records,): whose, ascending; under which key; and what."""

    owner: Integers
    key: Integers
    records: Records

    def where(self, kept: NDArray[np.bool_]) -> "Pile":
        """Return the records that are kept."""
        return Pile(self.owner[kept], self.key[kept], self.records[kept])


@dataclass(slots=True)
class Stack:
    """Sums, one after the other.

    Attributes:
        count: how many.
        scalars: a column for each scalar that was read, (count,).
        piles: the records of each array that was read.
        blobs: sketches and hardest rows as they are stored, where they were read.
    """

    count: int
    scalars: dict[str, NDArray[Any]] = field(default_factory=dict)
    piles: dict[str, Pile] = field(default_factory=dict)
    blobs: dict[str, list[bytes]] = field(default_factory=dict)

    def take(self, order: Integers) -> "Stack":
        """Return the sums in another order."""
        taken = Stack(len(order), {name: each[order] for name, each in self.scalars.items()})
        for name, pile in self.piles.items():
            begins = np.searchsorted(pile.owner, np.arange(self.count + 1))
            lengths = np.diff(begins)[order]
            owner = np.repeat(np.arange(len(order)), lengths)
            before = np.cumsum(lengths) - lengths
            index = np.repeat(begins[:-1][order] - before, lengths) + np.arange(len(owner))
            taken.piles[name] = Pile(owner, pile.key[index], pile.records[index])
        places = order.tolist()
        taken.blobs = {name: [each[at] for at in places] for name, each in self.blobs.items()}
        return taken

    def columns(self) -> Iterator[dict[str, object]]:
        """Yield what is stored of each, by column name."""
        names = list(self.scalars)
        rows: list[dict[str, object]] = [
            {name: _plain(name, value) for name, value in zip(names, values, strict=True)}
            for values in zip(*(self.scalars[name].tolist() for name in names), strict=True)
        ]
        for name, pile in self.piles.items():
            ends = np.searchsorted(pile.owner, np.arange(self.count + 1)).tolist()
            stored = pile.records.tobytes()
            size = pile.records.dtype.itemsize
            for row, begin, end in zip(rows, ends, ends[1:], strict=False):
                row[name] = stored[begin * size : end * size]
        for name, blobs in self.blobs.items():
            for row, blob in zip(rows, blobs, strict=True):
                row[name] = blob
        yield from rows


def decode(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Stack:
    """Return stored rows, whose members are the columns of these names."""
    stack = Stack(len(rows))
    columns = list(zip(*rows, strict=True)) if rows else [() for _ in names]
    for name, column in zip(names, columns, strict=True):
        if name in KEYS:
            stack.piles[name] = _pile(name, column)
        elif name in DTYPES or name == "hardest":
            stack.blobs[name] = list(column)
        else:
            stack.scalars[name] = np.array(column, _dtype(name))
    return stack


def concatenate(stacks: Sequence[Stack]) -> Stack:
    """Return the sums of all stacks, which hold the same columns, one after the other."""
    first = stacks[0]
    if len(stacks) == 1:
        return first
    whole = Stack(sum(each.count for each in stacks))
    for name in first.scalars:
        whole.scalars[name] = np.concatenate([each.scalars[name] for each in stacks])
    before = np.cumsum([0, *(each.count for each in stacks)]).tolist()
    for name in first.piles:
        piles = [each.piles[name] for each in stacks]
        owners = [pile.owner + start for pile, start in zip(piles, before, strict=False)]
        whole.piles[name] = Pile(
            np.concatenate(owners),
            np.concatenate([pile.key for pile in piles]),
            np.concatenate([pile.records for pile in piles]),
        )
    for name in first.blobs:
        whole.blobs[name] = [blob for each in stacks for blob in each.blobs[name]]
    return whole


def fold(stack: Stack, place: Integers, groups: int) -> Stack:
    """Return the sums of each group, added in the order in which they come.

    Added one by one, never in pairs: to fold what was folded before, and then more, gives the
    same bits as to fold all at once.

    Args:
        stack: what is added.
        place: which group each belongs to, (count,), from 0 up to ``groups``.
        groups: how many there are.
    """
    whole = Stack(groups)
    for name, values in stack.scalars.items():
        whole.scalars[name] = _folded_scalar(name, values, place, groups)
    for name, pile in stack.piles.items():
        whole.piles[name] = _folded_pile(pile, place, KEYS[name])
    if stack.blobs:
        members: defaultdict[int, list[int]] = defaultdict(list)
        for row, group in enumerate(place.tolist()):
            members[group].append(row)
        for name, blobs in stack.blobs.items():
            whole.blobs[name] = [
                _MERGED[name]([blobs[row] for row in members[group]]) for group in range(groups)
            ]
    return whole


def compact(values: Integers) -> tuple[Integers, Integers]:
    """Return the distinct values, ascending, and where among them each value stands."""
    if not len(values):
        return values, values
    low = int(values.min())
    span = int(values.max()) - low + 1
    if span > 16 * len(values) + 65536:
        distinct, index = np.unique(values, return_inverse=True)
        return distinct, index.astype(np.int64)
    # Marking what is there takes a tenth of the time of sorting.
    held = np.zeros(span, np.bool_)
    held[values - low] = True
    return np.flatnonzero(held) + low, (np.cumsum(held) - 1)[values - low]


def _dtype(name: str) -> type:
    if name == PENDING:
        return np.bool_
    return np.int64 if name in _INTEGERS else np.float64


def _plain(name: str, value: Any) -> object:  # noqa: ANN401
    return None if name in (_LOW, _HIGH) and value != value else value  # noqa: PLR0124  (NaN)


def _pile(name: str, blobs: Sequence[bytes]) -> Pile:
    dtype, key = DTYPES[name], KEYS[name]
    records = np.frombuffer(b"".join(blobs), dtype)
    lengths = np.fromiter(map(len, blobs), np.int64, len(blobs)) // dtype.itemsize
    owner = np.repeat(np.arange(len(blobs)), lengths)
    keys = np.arange(len(records)) % BINS if key is None else np.ascontiguousarray(records[key])
    return Pile(owner, keys, records)


def _folded_scalar(name: str, values: NDArray[Any], place: Integers, groups: int) -> NDArray[Any]:
    if name in (_LOW, _HIGH):
        extreme = np.full(groups, np.nan)
        (np.fmin if name == _LOW else np.fmax).at(extreme, place, values)
        return extreme
    whole = np.zeros(groups, values.dtype)
    (np.logical_or if name == PENDING else np.add).at(whole, place, values)
    return whole


def _folded_pile(pile: Pile, place: Integers, key: str | None) -> Pile:
    keys, column = compact(pile.key)
    cells, target = compact(place[pile.owner] * max(1, len(keys)) + column)
    owner, column = np.divmod(cells, max(1, len(keys)))
    records = np.zeros(len(cells), pile.records.dtype)
    for name in pile.records.dtype.names or ():
        if name != key:
            _add(records, pile.records, name, target)
    if key is not None:
        records[key] = keys[column]
    return Pile(owner, keys[column], records)


def _add(whole: Records, parts: Records, name: str, target: Integers) -> None:
    """Add one member of records to that of the records they belong to, in their order."""
    values = np.ascontiguousarray(parts[name])
    added = np.zeros(whole[name].shape, values.dtype)
    width = added[0].size if len(added) else 1
    at = target if width == 1 else (target[:, None] * width + np.arange(width)).ravel()
    np.add.at(added.reshape(-1), at, values.reshape(-1))
    whole[name] = added


def _merged_sketches(blobs: list[bytes]) -> bytes:
    if len(blobs) == 1:
        return blobs[0]
    return np.unique(np.frombuffer(b"".join(blobs), SKETCH))[:SKETCH_SIZE].tobytes()


def _merged_hardest(blobs: list[bytes]) -> bytes:
    if len(blobs) == 1:
        return blobs[0]
    rows = [row for blob in blobs for row in orjson.loads(blob)]
    return json.dumps(sorted(rows, key=hardness)[:HARDEST], separators=(",", ":")).encode()


_MERGED: Final = {"sketch": _merged_sketches, "hardest": _merged_hardest}
