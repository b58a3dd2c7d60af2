"""Blocks that are swept strip by strip: the same numbers as blocks that are measured at once."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.xentcore.conftest import draw, name_of
from tests.xentcore.oracle import CASES, Case
from xentcore import EAGER, Evaluation, Options, Output, Result, Spec, evaluate
from xentcore.spec import BoundSpec

SWEEPING = replace(EAGER, sweep_elements=600, strip_elements=45)
OUTPUTS: tuple[Output, ...] = ("per_sample", "per_class", "row_statistics", "calibration")
ROWS = 400
LABELS = torch.arange(ROWS) % 3
LOGITS = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(3)) * 4
SWEPT = [
    case
    for case in CASES
    if "integer" in case.labels and BoundSpec(case.spec, [9, 9, 9]).family("integer") == "softmax"
]


def assert_same(found: Result, expected: Result) -> None:
    assert found.rows == expected.rows
    assert found.diagnostics == expected.diagnostics
    assert found.loss == pytest.approx(expected.loss, rel=1e-13, nan_ok=True)
    assert torch.equal(column(found), column(expected))
    assert found.row_status is not None
    assert expected.row_status is not None
    assert torch.equal(found.row_status, expected.row_status)
    for name in ("per_class", "row_statistics"):
        mine, theirs = getattr(found, name), getattr(expected, name)
        for key in theirs or ():
            torch.testing.assert_close(mine[key], theirs[key], rtol=1e-6, atol=1e-9, equal_nan=True)


def column(result: Result) -> Tensor:
    assert result.per_sample is not None
    return result.per_sample.nan_to_num(nan=-1.5)


def both(
    logits: Tensor,
    labels: Tensor,
    spec: Spec,
    options: Options | None = None,
    outputs: Sequence[Output] = OUTPUTS,
) -> tuple[Result, Result]:
    """Return the answers with and without sweeping."""
    answers = [
        evaluate(logits, labels, [spec], outputs=outputs, options=options, passes=passes)[0]
        for passes in (SWEEPING, EAGER)
    ]
    return answers[0], answers[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=name_of)
@pytest.mark.parametrize("case", SWEPT, ids=name_of)
def test_every_variant_gives_the_same_answer(case: Case, dtype: torch.dtype) -> None:
    batch = draw("integer", ROWS, dtype, ranks=case.ranks)
    assert_same(*both(batch.logits, batch.labels, case.spec))


@pytest.mark.parametrize("outputs", [("per_sample",), ("per_sample", "per_class"), OUTPUTS])
@pytest.mark.parametrize("policy", ["exclude", "propagate"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_rows_that_cannot_be_evaluated(bad: float, policy: str, outputs: list[Output]) -> None:
    logits = LOGITS.clone()
    logits[7, 0] = bad
    logits[300] = bad
    options = Options(nonfinite=policy)  # type: ignore[arg-type]
    assert_same(*both(logits, LABELS, Spec("sparse"), options, outputs))


def test_rows_that_are_ignored() -> None:
    labels = LABELS.clone()
    labels[5:250:3] = -100
    found, expected = both(LOGITS, labels, Spec("sparse"))
    assert found.rows.ignored > 0
    assert_same(found, expected)


def test_rows_are_awaited_strip_by_strip() -> None:
    awaited: list[int] = []
    evaluate(LOGITS, LABELS, [Spec("sparse")], await_rows=awaited.append, passes=SWEEPING)
    assert awaited == sorted(awaited)
    assert awaited[0] == 45 // 3
    assert awaited[-1] == ROWS
    assert len(awaited) > 20


def test_chunks_are_swept_like_one_batch() -> None:
    evaluation = Evaluation([Spec("sparse")], outputs={"per_sample", "per_class"}, passes=SWEEPING)
    for rows in (slice(0, 7), slice(7, 260), slice(260, ROWS)):
        evaluation.update(LOGITS[rows], LABELS[rows])
    (found,) = evaluation.result()
    (expected,) = evaluate(LOGITS, LABELS, [Spec("sparse")], outputs={"per_sample", "per_class"})
    assert_same(found, expected)


@pytest.mark.parametrize("outputs", [("per_sample",), ("per_sample", "row_statistics")])
def test_variants_of_all_sources_together(outputs: tuple[Output, ...]) -> None:
    specs = [Spec(slug) for slug in ("sparse", "label-smoothing", "confidence-penalty", "focal")]
    found, expected = (
        evaluate(LOGITS, LABELS, specs, outputs=outputs, passes=passes)
        for passes in (SWEEPING, EAGER)
    )
    for mine, theirs in zip(found, expected, strict=True):
        assert_same(mine, theirs)


def test_variants_that_tell_their_source_are_swept() -> None:
    awaited: list[int] = []
    specs = [Spec("label-smoothing"), Spec("confidence-penalty")]
    evaluate(LOGITS, LABELS, specs, await_rows=awaited.append, passes=SWEEPING)
    assert awaited[0] == 45 // 3


def test_breakdowns_of_several_variants_write_exp_down_once() -> None:
    specs = [Spec("sparse"), Spec("focal")]
    outputs: tuple[Output, ...] = ("per_sample", "per_class")
    found = evaluate(LOGITS, LABELS, specs, outputs=outputs, passes=SWEEPING)
    for mine, theirs in zip(found, evaluate(LOGITS, LABELS, specs, outputs=outputs), strict=True):
        assert_same(mine, theirs)
