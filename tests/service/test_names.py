"""What rows may be called: looked at together, and one after the other where that does not do."""

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from service.schema.names import INT64_MAX, LONGEST, Ids


class Named(BaseModel):
    model_config = ConfigDict(strict=True)

    ids: Ids


@pytest.mark.parametrize(
    "ids",
    [
        [],
        [0, -(10**30), INT64_MAX],
        ["", "a" * LONGEST],
        ["é" * LONGEST, "a"],
        ["7", 7],
    ],
)
def test_names_and_numbers_stay_as_they_are(ids: list[Any]) -> None:
    assert Named(ids=ids).ids == ids


@pytest.mark.parametrize(
    ("ids", "place"),
    [
        ([0, INT64_MAX + 1], 1),
        (["a", "a" * (LONGEST + 1)], 1),
        (["é", "é" * (LONGEST + 1)], 1),
        (["a", "\ud800"], 1),
        ([True, False], 0),
        ([1, True], 1),
        ([1, 2.0], 1),
        ([1, None], 1),
        ([["a"]], 0),
    ],
)
def test_the_first_that_is_neither_is_told(ids: list[Any], place: int) -> None:
    with pytest.raises(ValidationError) as caught:
        Named(ids=ids)
    assert {error["loc"][:2] for error in caught.value.errors()} == {("ids", place)}


@pytest.mark.parametrize("ids", [("a", "b"), "ab", {"a": 1}, 7, None])
def test_names_are_a_list(ids: object) -> None:
    with pytest.raises(ValidationError):
        Named(ids=ids)  # type: ignore[arg-type]
