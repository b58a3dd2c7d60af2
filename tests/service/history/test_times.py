"""Times, steps and levels."""

from itertools import pairwise

import pytest

from service.history import times


@pytest.mark.parametrize("text", ["1m", "15m", "90m", "1h", "6h", "36h", "1d", "7d"])
def test_a_step_is_written_as_it_is_read(text: str) -> None:
    assert times.step_text(times.parse_step(text)) == text


def test_the_longest_unit_is_written() -> None:
    assert times.step_text(times.parse_step("1440m")) == "1d"


def test_each_level_is_whole_ones_of_the_one_before_and_each_step_of_few() -> None:
    for shorter, longer in pairwise(times.LEVELS):
        assert longer % shorter == 0
    for step in times.STEPS:
        if step <= 2 * times.DAY:
            assert step // times.level_of(step) <= 6
