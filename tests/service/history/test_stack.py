"""Many sums at once are what they are one by one."""

import numpy as np
import pytest

from service.history import stack
from service.history.rollups import COLUMNS
from service.history.stack import Stack
from service.history.sums import SCALARS, Sums, from_columns
from tests.service.history.histories import Batch, history, simulated, sums_of
from tests.service.history.merging import merge

PARTS = [sums_of(each) for each in history(3, minutes=12, versions=("v1",), rows=30)]


def decoded(parts: list[Sums]) -> Stack:
    rows = []
    for part in parts:
        stored = {"revision": 1, "pending": False, **part.columns()}
        rows.append([stored[name] for name in COLUMNS])
    return stack.decode(COLUMNS, rows)


def test_what_was_decoded_is_written_as_it_was() -> None:
    for part, stored in zip(PARTS, decoded(PARTS).columns(), strict=True):
        assert stored == {"revision": 1, "pending": False, **part.columns()}


def test_groups_are_the_merged_sums_of_their_members() -> None:
    random = np.random.default_rng(0)
    place = random.integers(0, 4, len(PARTS))
    for group, stored in enumerate(stack.fold(decoded(PARTS), place, 4).columns()):
        members = [part for part, at in zip(PARTS, place, strict=True) if at == group]
        merged, found = merge(members), from_columns(stored)
        for name in SCALARS:
            assert getattr(found, name) == pytest.approx(getattr(merged, name), rel=1e-14)
        for name in ("classes", "histogram", "calibration", "sketch"):
            assert getattr(found, name).tobytes() == getattr(merged, name).tobytes()
        assert found.hardest == merged.hardest
        assert stored["revision"] == len(members)


def test_replicates_are_added() -> None:
    random = np.random.default_rng(1)
    parts = [sums_of(Batch(f"b{each}", 0, simulated(random, 20), clusters=5)) for each in range(3)]
    (stored,) = stack.fold(decoded(parts), np.zeros(3, np.int64), 1).columns()
    assert from_columns(stored).replicates.tobytes() == merge(parts).replicates.tobytes()


@pytest.mark.parametrize("cut", [1, 5, len(PARTS) - 1])
def test_folding_further_gives_the_bits_of_folding_at_once(cut: int) -> None:
    def folded(sums: Stack) -> Stack:
        return stack.fold(sums, np.zeros(sums.count, np.int64), 1)

    begun = folded(decoded(PARTS[:cut]))
    further = folded(stack.concatenate([begun, decoded(PARTS[cut:])]))
    assert list(further.columns()) == list(folded(decoded(PARTS)).columns())


def test_another_order_is_that_of_decoding_in_it() -> None:
    order = np.random.default_rng(2).permutation(len(PARTS))
    taken = decoded(PARTS).take(order)
    assert list(taken.columns()) == list(decoded([PARTS[each] for each in order]).columns())


@pytest.mark.parametrize("values", [[], [7], [5, 5, -3, 9], [10**12, 3, 10**12, -(10**12)]])
def test_distinct_values_ascend_and_each_value_knows_its_place(values: list[int]) -> None:
    given = np.array(values, np.int64)
    distinct, place = stack.compact(given)
    assert distinct.tolist() == sorted(set(values))
    assert distinct[place].tolist() == values


def test_nothing_is_nothing() -> None:
    empty = stack.decode(COLUMNS, [])
    folded = stack.fold(empty, np.zeros(0, np.int64), 0)
    assert folded.count == 0
    assert list(folded.columns()) == []
