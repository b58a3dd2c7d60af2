"""Batches that come in chunks and whose labels are known: the answers of the whole."""

from itertools import pairwise

import pytest
import torch

from xentcore import (
    Evaluation,
    InvalidLabel,
    InvalidSetting,
    Options,
    ShapeMismatch,
    Spec,
    evaluate,
    evaluation_of,
)
from xentcore.variants.weighted import WeightedSettings

LOGITS = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
INDEX = torch.arange(40) % 4
CUTS = (0, 7, 7, 30, 40)
BALANCED = Spec("weighted", WeightedSettings(class_weights="balanced"))


def in_chunks(evaluation: Evaluation, labels: torch.Tensor) -> Evaluation:
    for first, last in pairwise(CUTS):
        evaluation.update(LOGITS[first:last], labels[first:last])
    return evaluation


def test_class_counts_are_those_of_all_labels() -> None:
    (expected,) = evaluate(LOGITS, INDEX, [BALANCED])
    (found,) = in_chunks(evaluation_of(LOGITS.shape, INDEX, [BALANCED]), INDEX).result()
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    with pytest.raises(InvalidSetting, match="class_counts"):
        Evaluation([BALANCED])


def test_the_kind_is_that_of_all_labels() -> None:
    labels = torch.nn.functional.one_hot(INDEX, 5)
    labels[35:, :2] = 1
    specs = [Spec("focal")]
    (expected,) = evaluate(LOGITS, labels, specs)
    (found,) = in_chunks(evaluation_of(LOGITS.shape, labels, specs), labels).result()
    assert found.label_kind == expected.label_kind == "multi_hot"
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    with pytest.raises(InvalidSetting, match="state their kind"):
        in_chunks(Evaluation(specs), labels)


def test_shapes_are_checked_before_the_first_chunk() -> None:
    with pytest.raises(ShapeMismatch, match=r"\(39,\)"):
        evaluation_of(LOGITS.shape, INDEX[:-1], [Spec("sparse")])
    with pytest.raises(ShapeMismatch, match="sample_weights"):
        evaluation_of(LOGITS.shape, INDEX, [Spec("sparse")], sample_weights=torch.ones(39))
    evaluation_of(LOGITS.shape, INDEX, [Spec("sparse")], sample_weights=torch.ones(40))


def test_an_empty_batch_decides_nothing() -> None:
    options = Options(label_kind="auto")
    evaluation = evaluation_of((0, 5), INDEX[:0], [Spec("sparse")], options=options)
    evaluation.update(LOGITS[:0], INDEX[:0])
    assert evaluation.result()[0].label_kind is None


def test_positions_count_from_the_first_chunk() -> None:
    labels = INDEX.clone()
    labels[33] = 9
    with pytest.raises(InvalidLabel, match=r"label 9 at position \(33,\)") as caught:
        in_chunks(Evaluation([Spec("sparse")]), labels)
    assert caught.value.position == (33,)
    assert caught.value.pointer == "/labels/33"


def test_the_hardest_rows_are_known_at_any_time() -> None:
    evaluation = in_chunks(Evaluation([Spec("sparse")], outputs={"hardest"}), INDEX)
    hardest = evaluation.result()[0].hardest
    assert hardest is not None
    assert evaluation.hardest_rows() == {row.row for row in hardest}
    assert in_chunks(Evaluation([Spec("sparse")]), INDEX).hardest_rows() == set()


@pytest.mark.parametrize("class_axis", [0, 1])
def test_gradients_of_chunks_follow_each_other(class_axis: int) -> None:
    options = Options(class_axis=class_axis)
    logits = LOGITS.movedim(1, class_axis).contiguous()
    (expected,) = evaluate(logits, INDEX, [Spec("sparse")], outputs={"gradient"}, options=options)
    evaluation = Evaluation([Spec("sparse")], outputs={"gradient"}, options=options)
    for first, last in pairwise(CUTS):
        chunk = logits.narrow(1 - class_axis, first, last - first)
        evaluation.update(chunk, INDEX[first:last])
    (found,) = evaluation.result()
    assert found.gradient is not None
    assert expected.gradient is not None
    torch.testing.assert_close(found.gradient, expected.gradient)
    (none,) = Evaluation([Spec("sparse")], outputs={"gradient"}).result()
    assert none.gradient is None
