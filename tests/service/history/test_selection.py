"""Selections: which series, and a time covered exactly once."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidDocument
from service.history import times, timeseries
from service.history.database import Database
from service.history.questions import Question, Selection, read
from service.history.rollups import view
from service.history.selection import BATCHES, Piece, Schema, cover, gather, matching
from service.history.track import classes_digest
from tests.service.history.histories import (
    NAMES,
    START,
    Batch,
    animals,
    history,
    insert_batches,
    simulated,
    sums_of,
)

MOMENT = st.integers(-3 * times.DAY, 9 * times.DAY)


@given(MOMENT, MOMENT, st.sampled_from(times.LEVELS))
def test_pieces_cover_a_time_once_and_are_whole_buckets(one: int, two: int, longest: int) -> None:
    start, end = min(one, two), max(one, two) + 1
    chosen = Selection.model_validate({"from": str(0), "to": str(1)}).model_copy(
        update={"from_": start, "to": end}
    )
    pieces = cover(chosen, [], longest)
    assert pieces[0].start == start
    assert pieces[-1].end == end
    for before, after in pairwise(pieces):
        assert before.end == after.start
    for piece in pieces:
        assert piece.length <= longest
        if piece.length == BATCHES:
            # Never the batches of a whole minute: that is what its rollup is for.
            assert times.floor(piece.start, times.MINUTE) == times.floor(
                piece.end - 1, times.MINUTE
            )
            assert piece.end - piece.start < times.MINUTE
        else:
            assert piece.start % piece.length == piece.end % piece.length == 0
    # No more than one piece of each length on either side.
    assert len(pieces) <= 2 * len(times.LEVELS) + 2


def test_ragged_edges_are_exact_to_the_microsecond(database: Database) -> None:
    batches = history(minutes=150, versions=("v1",), rows=5)
    insert_batches(database, batches)
    random = np.random.default_rng(1)
    moments = [each.time for each in batches]
    with view(database, "p") as seen:
        for _ in range(20):
            start, end = sorted(random.choice(moments, 2, replace=False).tolist())
            chosen = Selection().model_copy(update={"from_": start, "to": end})
            series = matching(seen, chosen)
            found = gather(seen, series, cover(chosen, series), ["rows", "loss_sum"])
            within = [sums_of(each) for each in batches if start <= each.time < end]
            assert found.sums.scalars["rows"].sum() == sum(each.rows for each in within)
            expected = sum(each.loss_sum for each in within)
            assert found.sums.scalars["loss_sum"].sum() == pytest.approx(expected, rel=1e-12)


def many_series() -> list[Batch]:
    random = np.random.default_rng(2)
    first = Batch("b0", START, simulated(random, 5))
    second = replace(first, version="v2")
    return [
        replace(each, batch_id=f"b{number}", rows=simulated(random, 5))
        for number, each in enumerate(
            [
                first,
                replace(second, tags={"site": "oslo", "line": "1"}),
                replace(second, tags={"site": "rome"}),
                replace(second, variant="focal", settings='{"gamma": 2.0}'),
                replace(first, model="n", schema_version=2, names=(*NAMES, "eel")),
            ]
        )
    ]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ([], [0, 1, 2, 3, 4]),
        ([("model", "m")], [0, 1, 2, 3]),
        ([("model", "m"), ("model", "n")], [0, 1, 2, 3, 4]),
        ([("model_version", "v2"), ("variant", "sparse")], [1, 2]),
        ([("tag.site", "oslo")], [1]),
        ([("tag.site", "oslo"), ("tag.site", "rome")], [1, 2]),
        ([("tag.site", "oslo"), ("tag.line", "2")], []),
        ([("label_schema", animals(*NAMES, "eel"))], [4]),
        ([("label_schema", "animals")], [0, 1, 2, 3, 4]),
        ([("model", ""), ("variant", "focal")], [3]),
    ],
)
def test_parameters_say_which_series(
    database: Database, query: Iterable[tuple[str, str]], found: list[int]
) -> None:
    batches = many_series()
    insert_batches(database, batches)
    with view(database, "p") as seen:
        series = matching(seen, read(Selection, query))
        rows = gather(seen, series, cover(Selection(), series), ["loss_sum"]).sums
    expected = sorted(sums_of(batches[each]).loss_sum for each in found)
    assert sorted(rows.scalars["loss_sum"].tolist()) == pytest.approx(expected)


def test_a_label_schema_is_called_after_its_classes() -> None:
    schema = Schema(1, "animals", classes_digest(("ant", "bee")), changed=False)
    assert str(schema) == "animals@2ff1e033"  # for ever


def test_the_order_of_series_is_not_that_of_their_arrival(database: Database) -> None:
    def names() -> list[tuple[str, ...]]:
        with view(database, "p") as seen:
            return [
                (each.model, each.model_version, each.variant, str(each.tags))
                for each in matching(seen, Selection())
            ]

    batches = many_series()
    insert_batches(database, batches[::-1])
    assert names() == sorted(names())


@pytest.mark.parametrize(
    ("query", "pointer", "message"),
    [
        ([("modell", "m")], "/modell", "no such parameter; known: model, .*tag.KEY, from, to, met"),
        ([("tags", "m")], "/tags", "no such parameter"),
        ([("from", "2026-01-01T00:00:00")], "/from", "no offset"),
        ([("from", "yesterday")], "/from", "write a time as"),
        ([("from", "2"), ("to", "1")], "", "from must be before to"),
        ([("from", "2"), ("from", "1")], "/from", "give it once"),
        ([("metric", "loss")], "/metric", "no such metric; known: loss.mean, .*rows"),
        ([("step", "1s")], "/step", "write a step as"),
        ([("by", "model,color")], "/by/1", "group by model, .* or tag.KEY"),
        ([("max_points", "0")], "/max_points", "greater than or equal to 1"),
        ([("min_rows", "many")], "/min_rows", "integer"),
    ],
)
def test_what_is_not_meaningful_is_named(
    query: Iterable[tuple[str, str]], pointer: str, message: str
) -> None:
    with pytest.raises(InvalidDocument, match=message) as caught:
        read(timeseries.Question, query)
    assert [fault.pointer for fault in caught.value.faults] == [pointer]


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T00:00:00Z",
        "1767225600000",
        "2026-01-01T01:00:00+01:00",
        "2026-01-01T01:00 01:00",
    ],
)
def test_times_are_read_as_people_and_grafana_send_them(text: str) -> None:
    assert read(Selection, [("from", text)]).from_ == START


def test_several_offences_are_named_at_once() -> None:
    with pytest.raises(InvalidDocument) as caught:
        read(timeseries.Question, [("from", "x"), ("step", "y"), ("max_points", "z")])
    assert len(caught.value.faults) == 3


def test_parameters_are_described() -> None:
    described = {each["name"]: each for each in timeseries.Question.parameters()}
    assert set(described) >= {"tag", "from", "metric", "by", "class", "step", "max_points"}
    assert all(each["description"] for each in described.values())
    assert Question.parameters() == []


def test_pieces_of_an_open_selection_are_whole_buckets(database: Database) -> None:
    insert_batches(database, history(minutes=3, versions=("v1",), rows=5))
    with view(database, "p") as seen:
        pieces = cover(Selection(), matching(seen, Selection()))
    assert pieces == [Piece(times.DAY, START, START + times.DAY)]
