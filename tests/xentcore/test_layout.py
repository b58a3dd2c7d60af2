"""Logits of any shape as rows x classes, cut into blocks, and back."""

from itertools import pairwise
from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xentcore import Evaluation, Options, ShapeMismatch, Spec, evaluate
from xentcore.layout import Layout

SHAPES = [
    # shape, class axis, rows, classes, shape of the rows
    ((7,), 1, 7, 1, (7,)),
    ((7,), 0, 7, 1, (7,)),
    ((7, 1), 1, 7, 1, (7,)),
    ((7, 5), 1, 7, 5, (7,)),
    ((7, 5), -1, 7, 5, (7,)),
    ((7, 5), 0, 5, 7, (5,)),
    ((7, 5), -2, 5, 7, (5,)),
    ((2, 5, 3), 1, 6, 5, (2, 3)),
    ((2, 5, 3), -1, 10, 3, (2, 5)),
    ((2, 5, 3, 4), 1, 24, 5, (2, 3, 4)),
    ((2, 5, 3, 4), -4, 60, 2, (5, 3, 4)),
    ((2, 5, 3, 4), 3, 30, 4, (2, 5, 3)),
    ((0, 5), 1, 0, 5, (0,)),
    ((0, 5, 3), 1, 0, 5, (0, 3)),
    ((2, 5, 0), 1, 0, 5, (2, 0)),
    ((0,), 1, 0, 0, (0,)),
]


@pytest.mark.parametrize(("shape", "class_axis", "rows", "classes", "row_shape"), SHAPES)
def test_rows_and_classes_of_a_shape(
    shape: tuple[int, ...],
    class_axis: int,
    rows: int,
    classes: int,
    row_shape: tuple[int, ...],
) -> None:
    layout = Layout.of(shape, class_axis)
    assert (layout.rows, layout.classes, layout.row_shape) == (rows, classes, row_shape)


@pytest.mark.parametrize(("shape", "class_axis"), [case[:2] for case in SHAPES])
def test_classes_last_is_a_view_of_rows_by_classes(shape: tuple[int, ...], class_axis: int) -> None:
    logits = torch.arange(prod(shape)).reshape(shape)
    layout = Layout.of(shape, class_axis)
    view = layout.classes_last(logits)
    assert view.shape == (*layout.row_shape, layout.classes)
    assert view.data_ptr() == logits.data_ptr()


def test_a_scalar_is_no_batch() -> None:
    with pytest.raises(ShapeMismatch, match="single number") as caught:
        Layout.of((), 1)
    assert caught.value.pointer == "/logits"


@pytest.mark.parametrize("class_axis", [2, -3, 10**30])
def test_an_axis_that_is_not_there(class_axis: int) -> None:
    with pytest.raises(ShapeMismatch, match=r"have axes -2 to 1") as caught:
        Layout.of((7, 5), class_axis)
    assert caught.value.pointer == "/class_axis"


def test_rows_without_classes() -> None:
    with pytest.raises(ShapeMismatch, match="no classes along axis 1") as caught:
        Layout.of((7, 0), 1)
    assert caught.value.pointer == "/logits"


def test_no_rows_without_classes_are_nothing_to_complain_about() -> None:
    assert Layout.of((0, 0), 1).rows == 0


# --- blocks --------------------------------------------------------------------------------------

row_shapes = st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple)


@given(shape=row_shapes, rows=st.integers(1, 40), axis=st.integers(0, 4))
def test_blocks_cover_every_row_once_and_in_order(
    shape: tuple[int, ...], rows: int, axis: int
) -> None:
    axis %= len(shape) + 1
    layout = Layout.of((*shape[:axis], 3, *shape[axis:]), axis)
    logits = torch.arange(layout.rows * 3).reshape(*shape, 3).movedim(-1, axis)
    view = layout.classes_last(logits)
    seen = [view[block.index].reshape(-1, 3) for block in layout.blocks(rows)]
    assert torch.equal(
        torch.cat([*seen, view.new_empty(0, 3)]).flatten(), torch.arange(view.numel())
    )


@given(shape=row_shapes, rows=st.integers(1, 40))
def test_blocks_name_their_rows_and_hold_no_more_than_asked(
    shape: tuple[int, ...], rows: int
) -> None:
    layout = Layout.of((*shape, 3), -1)
    blocks = list(layout.blocks(rows))
    cuts = [0, *(block.stop for block in blocks)]
    assert [(block.start, block.stop) for block in blocks] == list(pairwise(cuts))
    assert cuts[-1] == layout.rows
    assert all(0 < block.stop - block.start <= rows for block in blocks)


def test_blocks_of_no_rows_hold_one() -> None:
    assert len(list(Layout.of((4, 3), 1).blocks(0))) == 4


@given(shape=row_shapes, rows=st.integers(1, 40))
def test_halves_hold_the_rows_of_the_block(shape: tuple[int, ...], rows: int) -> None:
    layout = Layout.of((*shape, 1), -1)
    numbers = torch.arange(layout.rows).reshape(*shape, 1)
    waiting = list(layout.blocks(rows))
    found = []
    while waiting:
        block = waiting.pop(0)
        halves = layout.halves(block)
        if not halves:
            found.append(numbers[block.index].reshape(-1))
            assert found[-1].tolist() == list(range(block.start, block.stop))
        else:
            waiting = [*halves, *waiting]
    assert torch.equal(torch.cat([*found, numbers.new_empty(0)]), torch.arange(layout.rows))


@given(shape=row_shapes, rows=st.integers(1, 40))
def test_halves_are_at_most_half_and_only_a_single_row_has_none(
    shape: tuple[int, ...], rows: int
) -> None:
    layout = Layout.of((*shape, 1), -1)
    for block in layout.blocks(rows):
        length = block.stop - block.start
        halves = layout.halves(block)
        assert bool(halves) == (length > 1)
        assert all(half.stop - half.start <= length / 2 for half in halves)


# --- positions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "class_axis"), [case[:2] for case in SHAPES])
def test_positions_are_those_of_the_row_in_the_shape(
    shape: tuple[int, ...], class_axis: int
) -> None:
    layout = Layout.of(shape, class_axis)
    numbers = torch.arange(layout.rows).reshape(layout.row_shape)
    assert [int(numbers[layout.position(row)]) for row in range(layout.rows)] == list(
        range(layout.rows)
    )


@pytest.mark.parametrize(("shape", "class_axis"), [case[:2] for case in SHAPES])
def test_element_positions_are_those_in_the_logits(shape: tuple[int, ...], class_axis: int) -> None:
    layout = Layout.of(shape, class_axis)
    logits = torch.arange(prod(shape)).reshape(shape)
    matrix = layout.classes_last(logits).reshape(layout.rows, layout.classes)
    for row in range(layout.rows):
        for cls in range(layout.classes):
            assert logits[layout.element_position(row, cls)] == matrix[row, cls]


# --- labels that do not fit ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "logits", "class_axis", "way_out"),
    [
        ((8, 4), (8, 4, 16), 1, "with class_axis=-1 they fit"),
        ((4, 16), (8, 4, 16), 1, "with class_axis=0 they fit"),
        ((8, 16), (8, 4, 16), 0, "with class_axis=1 they fit"),
        ((8, 8), (8, 8, 4), 1, "with class_axis=-1 they fit"),
        (
            (4, 4),
            (4, 4, 4, 5),
            1,
            "give indices of shape (4, 4, 5), or labels of the logits' shape",
        ),
        ((8,), (8, 4, 16), 1, "give indices of shape (8, 16), or labels of the logits' shape"),
        ((3,), (8, 4), 1, "give indices of shape (8,), or labels of the logits' shape"),
        ((), (8, 4), 1, "give indices of shape (8,), or labels of the logits' shape"),
        ((4, 4), (4, 5, 4), 0, "with class_axis=1 they fit"),
    ],
)
def test_labels_that_do_not_fit_are_told_what_would(
    labels: tuple[int, ...], logits: tuple[int, ...], class_axis: int, way_out: str
) -> None:
    with pytest.raises(ShapeMismatch) as caught:
        evaluate(
            torch.zeros(logits),
            torch.zeros(labels, dtype=torch.int64),
            [Spec("sparse")],
            options=Options(class_axis=class_axis),
        )
    assert str(caught.value).endswith(way_out)
    assert caught.value.pointer == "/labels"


def test_two_axes_that_would_fit_are_both_named() -> None:
    # Equal extents: taking the classes from axis 0 or from axis 1 leaves the same rows.
    error = Layout.of((4, 4, 5), -1).mismatch((4, 5))
    assert str(error).endswith("with class_axis=0 or 1 they fit")


# --- weights per row -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logits", "weights"),
    [((6,), (6,)), ((6,), (6, 1)), ((6, 1), (6,)), ((6, 1), (6, 1)), ((6, 3), (6,))],
)
def test_a_weight_per_row(logits: tuple[int, ...], weights: tuple[int, ...]) -> None:
    labels = torch.zeros(logits, dtype=torch.int64)
    (result,) = evaluate(
        torch.zeros(logits),
        labels,
        [Spec("binary")],
        sample_weights=torch.arange(6.0).reshape(weights),
        outputs={"per_sample"},
    )
    assert result.per_sample is not None
    classes = 1 if len(logits) == 1 else logits[1]
    expected = torch.arange(6.0) * classes * torch.tensor(2.0, dtype=torch.float64).log()
    torch.testing.assert_close(result.per_sample.flatten(), expected.double())


def test_a_weight_per_sample_serves_all_its_positions() -> None:
    logits, labels = torch.randn(4, 3, 2, 5), torch.randint(3, (4, 2, 5))
    per_sample = torch.rand(4)
    per_row = per_sample[:, None, None].expand(4, 2, 5)
    (found,) = evaluate(logits, labels, [Spec("sparse")], sample_weights=per_sample)
    (expected,) = evaluate(logits, labels, [Spec("sparse")], sample_weights=per_row)
    assert found == expected


@pytest.mark.parametrize("weights", [(), (5,), (3,), (6, 1), (1, 6), (6, 3), (0,)])
def test_weights_that_fit_no_rows(weights: tuple[int, ...]) -> None:
    with pytest.raises(ShapeMismatch, match=r"give one per row, \(6,\)") as caught:
        evaluate(
            torch.zeros(6, 3),
            torch.zeros(6, dtype=torch.int64),
            [Spec("sparse")],
            sample_weights=torch.ones(weights),
        )
    assert caught.value.pointer == "/sample_weights"


# --- answers in the shape of the question --------------------------------------------------------


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        ((6,), (6,)),
        ((6,), (6, 1)),
        ((6, 1), (6,)),
        ((6, 1), (6, 1)),
        ((6, 4), (6,)),
        ((2, 4, 3), (2, 3)),
        ((2, 4, 3, 5), (2, 3, 5)),
    ],
)
def test_per_row_answers_have_the_labels_shape_and_the_gradient_the_logits(
    logits: tuple[int, ...], labels: tuple[int, ...]
) -> None:
    (result,) = evaluate(
        torch.zeros(logits),
        torch.zeros(labels, dtype=torch.int64),
        [Spec("binary")],
        outputs={"per_sample", "gradient"},
    )
    assert result.per_sample is not None
    assert result.row_status is not None
    assert result.gradient is not None
    assert result.per_sample.shape == result.row_status.shape == labels
    assert result.gradient.shape == logits


def test_labels_of_the_logits_shape_answer_in_the_rows_shape() -> None:
    (result,) = evaluate(
        torch.zeros(2, 4, 3),
        torch.zeros(2, 4, 3),
        [Spec("binary")],
        outputs={"per_sample"},
    )
    assert result.per_sample is not None
    assert result.per_sample.shape == (2, 3)


@pytest.mark.parametrize("shape", [(0,), (0, 4), (0, 4, 3), (2, 4, 0)])
def test_no_rows_have_answers_of_no_rows(shape: tuple[int, ...]) -> None:
    layout = Layout.of(shape, 1)
    evaluation = Evaluation([Spec("sparse")], outputs={"per_sample", "gradient", "row_statistics"})
    evaluation.update(torch.zeros(shape), torch.zeros(layout.row_shape, dtype=torch.int64))
    (result,) = evaluation.result()
    assert result.per_sample is not None
    assert result.gradient is not None
    assert result.row_statistics is not None
    assert result.per_sample.shape == result.row_statistics["rank"].shape == layout.row_shape
    assert result.gradient.shape == shape
