"""Labels of every kind: what is accepted, what is refused, and what a refusal says."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from xentcore import (
    VARIANTS,
    Evaluation,
    InvalidLabel,
    InvalidSetting,
    LabelKind,
    LabelKindRefused,
    Options,
    Result,
    ShapeMismatch,
    Spec,
    UnsupportedDtype,
    evaluate,
)

CLASSES = 4
INDEX = [0, 3, 1, 1]
ONE_HOT = torch.eye(CLASSES)[INDEX]
SIGNED = (torch.int8, torch.int16, torch.int32, torch.int64)
UNSIGNED = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def logits(*shape: int) -> Tensor:
    """Return logits of a shape, by default (4, CLASSES)."""
    shape = shape or (len(INDEX), CLASSES)
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def ask(
    variant: str, labels: Tensor, values: Tensor | None = None, options: Options | None = None
) -> Result:
    """Return the answer of a variant at its default settings."""
    values = logits() if values is None else values
    return evaluate(values, labels, [Spec(variant)], options=options)[0]


def stated(kind: LabelKind) -> Options:
    """Return options that state the kind."""
    return Options(label_kind=kind)


# --- dtypes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*SIGNED, *UNSIGNED, *FLOATS])
def test_an_index_may_have_any_numeric_dtype(dtype: torch.dtype) -> None:
    expected = ask("sparse", torch.tensor(INDEX))
    assert ask("sparse", torch.tensor(INDEX).to(dtype)) == expected


def test_an_index_may_be_boolean() -> None:
    labels = torch.tensor([0, 1, 1, 0])
    assert ask("sparse", labels.bool()) == ask("sparse", labels)


@pytest.mark.parametrize("dtype", [*SIGNED, *UNSIGNED, *FLOATS, torch.bool])
@pytest.mark.parametrize("kind", ["one_hot", "probabilities", "multi_hot", "auto"])
def test_targets_may_have_any_dtype(dtype: torch.dtype, kind: LabelKind) -> None:
    expected = ask("binary", ONE_HOT, options=stated(kind))
    assert ask("binary", ONE_HOT.to(dtype), options=stated(kind)) == expected


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn])
@pytest.mark.parametrize("labels", [torch.tensor(INDEX), ONE_HOT])
def test_what_holds_no_labels_is_refused(labels: Tensor, dtype: torch.dtype) -> None:
    with pytest.raises(UnsupportedDtype, match=r"labels are (complex64|float8)") as caught:
        ask("binary", labels.to(dtype))
    assert caught.value.pointer == "/labels"


# --- integer -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.5, "label 1.5 at position (2,) is not a whole number"),
        (1.0000001, "label 1.0000001 at position (2,) is not a whole number"),
        (float("nan"), "label nan at position (2,) is not a whole number"),
        (float("inf"), "label inf at position (2,) is not a whole number"),
        (1e300, "label 1e+300 at position (2,) is not a whole number"),
        (12345678, "label 12345678 at position (2,) is outside 0 to 3"),
        (4, "label 4 at position (2,) is outside 0 to 3: there are 4 classes"),
        (-1, "label -1 at position (2,) is outside 0 to 3"),
        (-(2**63), f"label {-(2**63)} at position (2,) is outside 0 to 3"),
    ],
)
def test_what_is_no_class_is_named_with_its_position(value: object, words: str) -> None:
    dtype = torch.float64 if isinstance(value, float) else torch.int64
    labels = torch.tensor([0, 3, value, value], dtype=dtype)
    with pytest.raises(InvalidLabel) as caught:
        ask("sparse", labels)
    assert str(caught.value).startswith(words)
    assert caught.value.position == (2,)
    assert caught.value.pointer == "/labels/2"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (2**64 - 100, r"above 2\^63 - 1"),
        (2**64 - 1, r"above 2\^63 - 1"),
        (2**63, r"above 2\^63 - 1"),
        (2**32, "outside 0 to 3"),
    ],
)
def test_a_huge_unsigned_label_is_none_of_the_negative_ones(value: int, why: str) -> None:
    labels = torch.tensor([0, 3, value, 1], dtype=torch.uint64)
    with pytest.raises(InvalidLabel, match=rf"label {value} at position \(2,\) is {why}"):
        ask("sparse", labels)


def test_an_unsigned_byte_is_not_the_ignored_index_it_would_wrap_to() -> None:
    with pytest.raises(InvalidLabel, match=r"label 156 at position \(1,\)"):
        ask("sparse", torch.tensor([0, 156, 1, 1], dtype=torch.uint8))


def test_a_label_of_a_wide_batch_is_found_in_a_late_block() -> None:
    values, labels = torch.zeros(3, 1000, 100), torch.zeros(3, 100, dtype=torch.int64)
    labels[2, 71] = 1000
    with pytest.raises(InvalidLabel) as caught:
        ask("sparse", labels, values)
    assert caught.value.position == (2, 71)
    assert caught.value.pointer == "/labels/2/71"


def test_a_label_is_found_where_the_class_axis_was_moved() -> None:
    values, labels = torch.zeros(1000, 300, 2), torch.zeros(300, 2, dtype=torch.int64)
    labels[211, 1] = -7
    with pytest.raises(InvalidLabel, match="label -7") as caught:
        ask("sparse", labels, values, Options(class_axis=0))
    assert caught.value.position == (211, 1)


def test_the_first_wrong_label_is_the_one_named() -> None:
    labels = torch.zeros(400, dtype=torch.int64)
    labels[[7, 150, 399]] = torch.tensor([-3, 9999, 1.0e6]).long()
    with pytest.raises(InvalidLabel, match=r"label -3 at position \(7,\)"):
        ask("sparse", labels, torch.zeros(400, 1000))


# --- ignored rows --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*SIGNED, *FLOATS])
def test_the_ignored_index_leaves_rows_out(dtype: torch.dtype) -> None:
    labels = torch.tensor([0, -100, 1, -100]).to(dtype)
    result = ask("sparse", labels)
    expected = ask("sparse", torch.tensor([0, 1]), logits()[[0, 2]])
    assert result.rows.ignored == 2
    assert result.reduction == expected.reduction


def test_the_ignored_index_may_be_a_class() -> None:
    result = ask("sparse", torch.tensor(INDEX), options=Options(ignore_index=1))
    assert result.rows.ignored == 2


def test_no_index_is_ignored_when_none_is_named() -> None:
    with pytest.raises(InvalidLabel, match=r"label -100 .* and ignore_index is None"):
        ask("sparse", torch.tensor([0, -100, 1, 1]), options=Options(ignore_index=None))


@pytest.mark.parametrize("ignored", [-(2**63), 2**63 - 1, -1000, 300])
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float16, torch.bool])
def test_an_ignored_index_that_the_dtype_cannot_hold_ignores_nothing(
    dtype: torch.dtype, ignored: int
) -> None:
    labels = torch.tensor([0, 1, 1, 1]).to(dtype)
    assert ask("sparse", labels, options=Options(ignore_index=ignored)).rows.ignored == 0


@pytest.mark.parametrize("ignored", [-(2**63) - 1, 2**63])
def test_an_ignored_index_beyond_64_bits_is_refused(ignored: int) -> None:
    with pytest.raises(InvalidSetting, match="64 bits") as caught:
        Options(ignore_index=ignored)
    assert caught.value.pointer == "/ignore_index"


@pytest.mark.parametrize("kind", ["one_hot", "probabilities", "multi_hot", "auto"])
def test_a_row_of_ignored_values_is_left_out(kind: LabelKind) -> None:
    labels = ONE_HOT.clone()
    labels[1] = -100
    kept = [0, 2, 3]
    result = ask("binary", labels, options=stated(kind))
    expected = ask("binary", ONE_HOT[kept], logits()[kept], stated(kind))
    assert result.rows.ignored == 1
    assert result.reduction == expected.reduction


@pytest.mark.parametrize("kind", ["one_hot", "probabilities", "multi_hot"])
def test_a_row_that_holds_the_ignored_value_only_in_part_is_wrong(kind: LabelKind) -> None:
    labels = ONE_HOT.clone()
    labels[1, 2] = -100
    with pytest.raises(InvalidLabel, match=r"label -100.0 at position \(1, 2\)"):
        ask("binary", labels, options=stated(kind))


@pytest.mark.parametrize("kind", ["one_hot", "probabilities", "multi_hot"])
def test_an_ignored_class_and_labels_shaped_like_logits_exclude_each_other(
    kind: LabelKind,
) -> None:
    options = Options(label_kind=kind, ignore_index=0)
    with pytest.raises(InvalidSetting, match=f"labels are {kind}") as caught:
        ask("binary", ONE_HOT, options=options)
    assert caught.value.pointer == "/ignore_index"


# --- labels shaped like the logits ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("one_hot", 0.5, "label 0.5 at position (1, 2) is neither 0 nor 1: labels are one_hot"),
        ("one_hot", 2.0, "label 2.0 at position (1, 2) is neither 0 nor 1"),
        ("one_hot", float("nan"), "label nan at position (1, 2) is neither 0 nor 1"),
        ("one_hot", 1.0, "labels of row (1,) hold 2 ones, not one"),
        ("multi_hot", -1.0, "label -1.0 at position (1, 2) is neither 0 nor 1: labels are multi"),
        ("multi_hot", float("nan"), "label nan at position (1, 2) is neither 0 nor 1"),
        ("probabilities", 1.0000001, "label 1.0000001 at position (1, 2) is no probability"),
        ("probabilities", -1e-9, "label -1e-09 at position (1, 2) is no probability"),
        ("probabilities", float("nan"), "label nan at position (1, 2) is no probability"),
        ("probabilities", 1e-3, "labels of row (1,) hold 1.001 in all, not 1"),
    ],
)
def test_what_is_no_label_is_named_with_its_position(
    kind: LabelKind, value: float, words: str
) -> None:
    labels = ONE_HOT.double()
    labels[1, 2] = value
    spec = "binary" if kind == "multi_hot" else "categorical"
    with pytest.raises(InvalidLabel) as caught:
        ask(spec, labels, options=stated(kind))
    assert str(caught.value).startswith(words)
    assert caught.value.pointer.startswith("/labels/1")


def test_a_row_without_a_one_is_not_one_hot() -> None:
    labels = ONE_HOT.clone()
    labels[3] = 0
    with pytest.raises(InvalidLabel, match=r"labels of row \(3,\) hold 0 ones, not one") as caught:
        ask("categorical", labels, options=stated("one_hot"))
    assert caught.value.position == (3,)


def test_an_element_is_found_in_a_late_block_with_the_class_axis_first() -> None:
    labels = torch.zeros(1000, 300, 2)
    labels[0] = 1
    labels[640, 211, 1] = 0.25
    with pytest.raises(InvalidLabel, match=r"label 0.25") as caught:
        ask(
            "categorical",
            labels,
            torch.zeros(1000, 300, 2),
            Options(label_kind="one_hot", class_axis=0),
        )
    assert caught.value.position == (640, 211, 1)
    assert caught.value.pointer == "/labels/640/211/1"


def test_a_whole_row_is_pointed_at_where_one_element_holds_it() -> None:
    with pytest.raises(InvalidLabel) as caught:
        ask("categorical", torch.zeros(2, 4, 3), torch.zeros(2, 4, 3), stated("one_hot"))
    assert caught.value.position == (0, 0)
    # (0, 0) of labels (2, 4, 3) is another thing than row (0, 0): the pointer names them all.
    assert caught.value.pointer == "/labels"


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_softmax_of_any_precision_is_a_distribution(dtype: torch.dtype) -> None:
    labels = torch.randn(50, 30, generator=torch.Generator().manual_seed(1)).softmax(1).to(dtype)
    assert ask("categorical", labels, torch.zeros(50, 30)).label_kind == "probabilities"


def test_sigmoid_takes_rows_that_are_no_distribution() -> None:
    result = ask("binary", torch.full((4, CLASSES), 0.9), options=stated("probabilities"))
    assert result.loss is not None


@pytest.mark.parametrize(
    ("shape", "labels"), [((6,), (6,)), ((6,), (6, 1)), ((6, 1), (6,)), ((6, 1), (6, 1))]
)
def test_binary_labels_have_either_shape(shape: tuple[int, ...], labels: tuple[int, ...]) -> None:
    answers = torch.tensor([0, 1, 1, 0, 1, 0])
    result = ask("binary", answers.reshape(labels), logits(6).reshape(shape))
    assert result.label_kind == "binary"
    assert result.loss == ask("binary", answers, logits(6)).loss


def test_binary_labels_of_several_classes_are_multi_hot() -> None:
    with pytest.raises(InvalidSetting, match=r"'binary' is for one class.*use 'multi_hot'"):
        ask("binary", ONE_HOT, options=stated("binary"))


# --- what auto decides ---------------------------------------------------------------------------

TWO = [[1, 0, 1, 0], [0, 0, 0, 0]]
SHARES = [[0.25, 0.25, 0.5, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("shape", "labels", "decided"),
    [
        ((2, 4), torch.tensor([0, 3]), "integer"),
        ((2, 4), torch.tensor([0.0, 3.0]), "integer"),
        ((2, 4), torch.tensor([-100, -100]), "integer"),
        ((2, 4), torch.eye(4)[:2], "one_hot"),
        ((2, 4), torch.eye(4)[:2].bool(), "one_hot"),
        ((2, 4), torch.tensor(TWO), "multi_hot"),
        ((2, 4), torch.tensor([TWO[0], [-100] * 4]), "multi_hot"),
        ((2, 4), torch.tensor(SHARES), "probabilities"),
        ((2, 1), torch.tensor([0, 1]), "binary"),
        ((2, 1), torch.tensor([[0.0], [1.0]]), "binary"),
        ((2,), torch.tensor([1, -100]), "binary"),
        ((2,), torch.tensor([0.5, 1.0]), "probabilities"),
        ((2, 4, 2), torch.tensor([[0, 1], [2, 3]]), "integer"),
    ],
)
def test_auto_names_what_it_decided(
    shape: tuple[int, ...], labels: Tensor, decided: LabelKind
) -> None:
    assert ask("binary", labels, logits(*shape)).label_kind == decided


def test_auto_looks_at_every_label_before_it_decides() -> None:
    labels = torch.eye(1000)[torch.arange(2000) % 1000]
    labels[1999] = 0.001
    assert ask("categorical", labels, torch.zeros(2000, 1000)).label_kind == "probabilities"


def test_auto_decides_nothing_where_there_are_no_rows() -> None:
    result = ask("sparse", torch.empty(0), torch.empty(0, 4))
    assert (result.label_kind, result.undefined) == (None, "no_rows")


@pytest.mark.parametrize(
    ("kind", "labels", "words"),
    [
        ("integer", ONE_HOT, "which one_hot labels have, and label_kind is 'integer'"),
        ("one_hot", torch.tensor(INDEX), "which integer labels have, and label_kind is 'one_hot'"),
    ],
)
def test_a_kind_that_the_shape_contradicts(kind: LabelKind, labels: Tensor, words: str) -> None:
    with pytest.raises(ShapeMismatch, match=words) as caught:
        ask("binary", labels, options=stated(kind))
    assert caught.value.pointer == "/labels"


# --- kinds that a variant does not take ----------------------------------------------------------

SOFTMAX = [slug for slug, variant in VARIANTS.items() if variant.families == ("softmax",)]


@pytest.mark.parametrize("slug", SOFTMAX)
def test_softmax_refuses_multi_hot_and_names_the_way_out(slug: str) -> None:
    with pytest.raises(LabelKindRefused) as caught:
        Evaluation([example_spec(slug)], options=stated("multi_hot")).update(
            logits(), torch.ones(4, CLASSES)
        )
    assert "each class is an independent yes/no: use /loss/binary" in str(caught.value)
    assert caught.value.pointer == "/labels"


@pytest.mark.parametrize("slug", [*SOFTMAX, "focal"])
@pytest.mark.parametrize("kind", ["integer", "probabilities"])
def test_softmax_refuses_one_class(slug: str, kind: LabelKind) -> None:
    evaluation = Evaluation([example_spec(slug, classes=1)], options=stated(kind))
    labels = torch.zeros(4) if kind == "integer" else torch.ones(4, 1)
    with pytest.raises(ShapeMismatch, match="softmax over one class is constant: use /loss/binary"):
        evaluation.update(logits(4, 1), labels)


@pytest.mark.parametrize(
    ("slug", "labels", "way_out"),
    [
        ("categorical", torch.tensor(INDEX), "labels are integer: .* use /loss/sparse"),
        ("sparse", ONE_HOT, "labels are one_hot: .* use /loss/categorical"),
        ("sparse", torch.full((4, 4), 0.25), "labels are probabilities: .* /loss/categorical"),
    ],
)
def test_sparse_and_categorical_name_each_other(slug: str, labels: Tensor, way_out: str) -> None:
    with pytest.raises(LabelKindRefused, match=way_out):
        ask(slug, labels)


# --- ranks ---------------------------------------------------------------------------------------


def test_ranks_are_one_more_than_their_thresholds() -> None:
    passed = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    by_rank = ask("ordinal", torch.tensor([0, 4, 2, 1]))
    by_threshold = ask("ordinal", passed)
    assert (by_rank.label_kind, by_threshold.label_kind) == ("integer", "multi_hot")
    assert by_rank.loss == by_threshold.loss == ask("binary", passed).loss


def test_a_rank_above_all_ranks_is_named() -> None:
    with pytest.raises(InvalidLabel, match=r"label 5 .* outside 0 to 4: there are 5 ranks") as e:
        ask("ordinal", torch.tensor([0, 4, 5, 1]))
    assert (e.value.position, e.value.pointer) == ((2,), "/labels/2")


def test_the_top_rank_is_no_class_of_another_variant() -> None:
    specs = [Spec("ordinal"), Spec("sparse")]
    together = evaluate(logits(), torch.tensor(INDEX), specs)
    assert together[0].loss == ask("ordinal", torch.tensor(INDEX)).loss
    with pytest.raises(InvalidLabel, match=r"label 4 .* outside 0 to 3: there are 4 classes"):
        evaluate(logits(), torch.tensor([0, 4, 2, 1]), specs)


@pytest.mark.parametrize("class_axis", [1, 0])
def test_a_threshold_passed_behind_one_that_is_not_is_named(class_axis: int) -> None:
    passed = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0], [1, 0, 1, 1], [0, 1, 0, 0]])
    options = Options(label_kind="multi_hot", class_axis=class_axis)
    labels, values = (x.movedim(-1, class_axis) for x in (passed, logits()))
    with pytest.raises(InvalidLabel, match=r"follows a 0: columns are thresholds") as caught:
        evaluate(values, labels, [Spec("binary"), Spec("ordinal")], options=options)
    assert caught.value.position == ((2, 2) if class_axis else (2, 2)[::-1])


def test_ignored_ranks_may_be_anything() -> None:
    labels = torch.tensor([[1, 1, 0, 0], [-100] * 4, [-100] * 4, [0, 0, 0, 0]])
    by_threshold = ask("ordinal", labels, options=stated("multi_hot"))
    assert by_threshold.rows.ignored == 2
    assert by_threshold.loss == ask("ordinal", torch.tensor([2, -100, -100, 0])).loss


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("options", [stated("integer"), stated("binary"), Options()])
def test_two_ranks_have_one_threshold(shape: tuple[int, ...], options: Options) -> None:
    values, labels = logits(*shape), torch.tensor([0, 1, 1, 0])
    found = ask("ordinal", labels, values, options)
    assert found.loss == ask("binary", labels, values, stated("binary")).loss
    assert found.classes == 1


@pytest.mark.parametrize(
    ("labels", "way_out"),
    [(ONE_HOT, "state label_kind 'multi_hot'"), (torch.full((4, 4), 0.5), "use /loss/binary")],
)
def test_ranks_that_look_like_something_else_name_the_way_out(labels: Tensor, way_out: str) -> None:
    with pytest.raises(LabelKindRefused, match=way_out):
        ask("ordinal", labels)
    first_only = torch.tensor([[1, 0, 0, 0]] * 4)
    found = ask("ordinal", first_only, options=stated("multi_hot"))
    assert found.loss == ask("ordinal", torch.ones(4)).loss


# --- kinds and specs -----------------------------------------------------------------------------


def test_a_margin_of_a_distribution_is_refused() -> None:
    with pytest.raises(LabelKindRefused, match="a distribution has several: use /loss/logit-adj"):
        ask("ldam", torch.full((4, 4), 0.25))


def test_a_refusal_names_the_spec_it_is_about() -> None:
    with pytest.raises(LabelKindRefused) as caught:
        evaluate(logits(), torch.tensor(INDEX), [Spec("sparse"), Spec("categorical")])
    assert caught.value.spec == 1


@pytest.mark.parametrize("slug", VARIANTS)
def test_every_kind_is_either_taken_or_refused_with_a_sentence(slug: str) -> None:
    variant = VARIANTS[slug]
    kinds: Sequence[LabelKind] = ("integer", "one_hot", "probabilities", "multi_hot", "binary")
    for kind in kinds:
        assert (kind in variant.label_kinds) != bool(variant.refusals.get(kind))


def example_spec(slug: str, classes: int = CLASSES) -> Spec:
    """Return a variant with its documented settings, cut to a number of classes."""
    variant = VARIANTS[slug]
    documented = variant.example["settings"]
    assert isinstance(documented, dict)
    settings = {
        name: tuple(value[:classes]) if isinstance(value, list) else value
        for name, value in documented.items()
    }
    return Spec(slug, variant.settings_type(**settings))
