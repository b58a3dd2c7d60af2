"""The demo against a real server, and the parts that its output is made of."""

import math
from collections.abc import Iterator

import pytest
import torch

from demo.__main__ import main
from demo.batches import batches
from demo.client import difference
from demo.running import answers_as_xent, started
from demo.tables import WIDTH, table
from tests.service.harness import Running
from xentcore import VARIANTS


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = Running(data_dir=tmp_path_factory.mktemp("data"))
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


@pytest.mark.slow
def test_every_variant_is_shown_within_the_width_and_the_same_every_time(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(url) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{slug} " in shown for slug in VARIANTS)
    assert "use /loss/categorical" in shown
    assert "FAIL" not in shown
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert "worse since the blur: three and eight, and no other digit" in shown
    # Every batch of the month is there already, and counted once.
    assert main(url) == 0
    assert capsys.readouterr().out == shown


def test_an_address_that_nobody_answers_at_is_named_and_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main("http://127.0.0.1:9") == 1
    assert "nothing at http://127.0.0.1:9 answers as Xent" in capsys.readouterr().err


@pytest.mark.slow
def test_a_service_of_its_own_is_started_and_stopped() -> None:
    with started() as own:
        assert answers_as_xent(own)
    assert not answers_as_xent(own)


def test_pages_hold_the_digits_of_their_images() -> None:
    logits = torch.zeros(6, 10)
    logits[0, 7] = 20.0
    pages = batches(logits, torch.tensor([7, 7, 1, 0, 1, 2]))[-1]
    assert [row.nonzero()[:, 0].tolist() for row in pages.labels] == [[1, 7], [0, 1, 2]]
    # log p - log(1-p): of one among ten equal logits, and of the sure image.
    expected = torch.full((2, 10), -math.log(9))
    expected[0, 7] = 20 - math.log(9)
    assert torch.allclose(pages.logits, expected)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ({"x": [1.0, None]}, {"x": [1.5, None]}, 0.5 / 1.5),
        ({"x": 1}, {"y": 1}, math.inf),
        ([1.0], [1.0, 2.0], math.inf),
        ({"rows": 3}, {"rows": 4}, math.inf),
        ({}, {}, 0.0),
    ],
)
def test_answers_differ_by_their_largest_number(a: object, b: object, expected: float) -> None:
    assert difference(a, b) == expected


def test_a_short_row_of_a_table_ends_in_a_remark_that_wraps() -> None:
    shown = table(["name", "a", "b"], [["first", "1.0", "2.0"], ["2nd", "word " * 30]])
    assert shown.splitlines()[:3] == ["name     a    b", "---------------", "first  1.0  2.0"]
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert shown.count("word") == 30
