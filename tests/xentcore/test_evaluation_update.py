"""Evaluation as a sequence of calls: what each leaves behind, above all when it fails."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.xentcore.conftest import blocks_of
from xentcore import (
    EAGER,
    OUTPUTS,
    VARIANTS,
    Cancelled,
    CannotMerge,
    DeviceUnavailable,
    Evaluation,
    InvalidLabel,
    InvalidProbability,
    InvalidSetting,
    InvalidWeight,
    NonFinite,
    Options,
    Output,
    Result,
    ShapeMismatch,
    Spec,
    UnsupportedDtype,
    XentError,
    evaluate,
    resolve_device,
)
from xentcore.chunk import BlockRows, Chunk
from xentcore.device import CPU_BLOCK_ROWS, VECTOR_ROWS, block_rows
from xentcore.layout import Block

LOGITS = torch.randn(12, 3, generator=torch.Generator().manual_seed(5))
LABELS = torch.tensor([0, 1, 2, 0, 0, 1, 2, 2, 1, 0, -100, 1])
ONE_HOT = torch.eye(3)[LABELS.clamp_min(0)]
SHARES = torch.full((12, 3), 1 / 3)
MULTI_HOT = torch.ones(12, 3)
SPARSE = [Spec("sparse")]
BINARY = [Spec("binary")]


def seen(
    *chunks: Sequence[Tensor],
    specs: Sequence[Spec] = SPARSE,
    outputs: Collection[Output] = (),
    options: Options | None = None,
) -> Evaluation:
    """Return an evaluation that has seen these chunks."""
    evaluation = Evaluation(specs, outputs=outputs, options=options)
    for chunk in chunks:
        evaluation.update(*chunk)
    return evaluation


def same(first: Result, second: Result) -> bool:
    """Tell whether two answers agree in what every answer has."""
    return (first.reduction, first.rows, first.label_kind, first.diagnostics) == (
        second.reduction,
        second.rows,
        second.label_kind,
        second.diagnostics,
    )


@pytest.fixture
def small_blocks() -> Iterator[None]:
    """Blocks of two rows of three classes."""
    with blocks_of(6):
        yield


# --- errors leave an evaluation as it was --------------------------------------------------------

BAD_LABELS, BAD_LOGITS, BAD_WEIGHTS = LABELS.clone(), LOGITS.clone(), torch.ones(12)
BAD_LABELS[11], BAD_LOGITS[11, 0], BAD_WEIGHTS[11] = 7, torch.nan, -1


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("chunk", "error"),
    [
        ((LOGITS, BAD_LABELS), InvalidLabel),
        ((BAD_LOGITS, LABELS), NonFinite),
        ((LOGITS, LABELS, BAD_WEIGHTS), InvalidWeight),
        ((LOGITS, LABELS, torch.ones(11)), ShapeMismatch),
        ((LOGITS, LABELS, torch.ones(12, dtype=torch.complex64)), UnsupportedDtype),
        ((LOGITS.int(), LABELS), UnsupportedDtype),
        ((LOGITS, LABELS[:5]), ShapeMismatch),
        ((torch.zeros(12, 4), LABELS), ShapeMismatch),
        ((LOGITS[..., None].expand(12, 3, 2), LABELS[:, None].expand(12, 2)), ShapeMismatch),
    ],
)
@pytest.mark.parametrize("before", [0, 1])
def test_after_an_error_the_evaluation_is_as_it_was(
    chunk: tuple[Tensor, ...], error: type[XentError], before: int
) -> None:
    options = Options(nonfinite="reject")
    outputs: set[Output] = {"gradient", "per_sample", "hardest", "row_statistics"}
    evaluation = Evaluation(SPARSE, outputs=outputs, options=options, classes=3)
    for _ in range(max(before, 0 if chunk[0].ndim < 3 else 1)):
        evaluation.update(LOGITS, LABELS)
    expected = evaluation.result()
    with pytest.raises(error):
        evaluation.update(*chunk)
    after = evaluation.result()
    assert same(after[0], expected[0])
    evaluation.update(LOGITS, LABELS)
    (result,) = evaluation.result()
    assert result.rows.total == expected[0].rows.total + 12
    assert result.gradient is not None
    assert len(result.gradient) == result.rows.total
    assert result.hardest is not None
    assert len({row.row for row in result.hardest}) == len(result.hardest)


def test_a_refused_chunk_decides_nothing() -> None:
    evaluation = Evaluation(SPARSE)
    with pytest.raises(InvalidLabel):
        evaluation.update(torch.zeros(2, 5), torch.tensor([0, 9]))
    evaluation.update(LOGITS, LABELS)
    assert evaluation.result()[0].classes == 3


def test_probabilities_that_are_none_are_named() -> None:
    evaluation = Evaluation(SPARSE, options=Options(input="probabilities"))
    with pytest.raises(InvalidProbability, match=r"at position \(1, 2\)") as caught:
        evaluation.update(torch.tensor([[0.2, 0.3, 0.5], [0.5, 0.0, 1.5]]), torch.tensor([0, 1]))
    assert caught.value.pointer == "/logits/1/2"


# --- chunks that follow each other ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("specs", "first", "second", "joined"),
    [
        ([Spec("categorical")], ONE_HOT, ONE_HOT, "one_hot"),
        ([Spec("categorical")], ONE_HOT, SHARES, "probabilities"),
        ([Spec("categorical")], SHARES, ONE_HOT, "probabilities"),
        (BINARY, ONE_HOT, MULTI_HOT, "multi_hot"),
        (BINARY, MULTI_HOT, SHARES, "probabilities"),
        (SPARSE, LABELS, LABELS, "integer"),
    ],
)
def test_kinds_of_chunks_are_joined(
    specs: Sequence[Spec], first: Tensor, second: Tensor, joined: str
) -> None:
    chunks = [(LOGITS, first), (LOGITS, second)]
    merged = seen(chunks[0], specs=specs)
    merged.merge(seen(chunks[1], specs=specs))
    for evaluation in (seen(*chunks, specs=specs), merged):
        (result,) = evaluation.result()
        assert result.label_kind == joined
        assert result.rows.evaluated + result.rows.ignored == 24


def test_binary_labels_and_probabilities_are_joined() -> None:
    values = torch.zeros(4)
    evaluation = seen((values, torch.tensor([0, 1, 1, 0])), specs=BINARY)
    evaluation.update(values, torch.tensor([0.5, 1.0, 0.0, 0.1]))
    assert evaluation.result()[0].label_kind == "probabilities"


@pytest.mark.parametrize(
    ("specs", "first", "second"),
    [
        (BINARY, LABELS, ONE_HOT),
        (BINARY, SHARES, LABELS),
        ([Spec("focal")], ONE_HOT, MULTI_HOT),
        ([Spec("focal")], MULTI_HOT, SHARES),
    ],
)
def test_kinds_that_cannot_be_joined(specs: Sequence[Spec], first: Tensor, second: Tensor) -> None:
    evaluation = seen((LOGITS, first), specs=specs)
    with pytest.raises(InvalidSetting, match="state their kind") as caught:
        evaluation.update(LOGITS, second)
    assert caught.value.pointer == "/label_kind"
    with pytest.raises(CannotMerge, match="state their kind"):
        evaluation.merge(seen((LOGITS, second), specs=specs))


def test_the_first_chunk_fixes_the_classes() -> None:
    evaluation = seen((LOGITS, LABELS))
    with pytest.raises(ShapeMismatch, match="have 4 classes, and 3 were expected") as caught:
        evaluation.update(torch.zeros(2, 4), torch.zeros(2))
    assert caught.value.pointer == "/logits"


def test_stated_classes_hold_for_the_first_chunk() -> None:
    with pytest.raises(ShapeMismatch, match="have 3 classes, and 4 were expected"):
        Evaluation(SPARSE, classes=4).update(LOGITS, LABELS)


def test_an_empty_list_fixes_nothing() -> None:
    evaluation = seen((torch.empty(0), torch.empty(0)), outputs={"per_sample"})
    evaluation.update(torch.zeros(2, 3, 4), torch.zeros(2, 4))
    assert evaluation.result()[0].rows.total == 8


def test_chunks_of_other_rows_are_refused() -> None:
    evaluation = seen((LOGITS, LABELS), outputs={"per_sample"})
    with pytest.raises(ShapeMismatch, match="behind their first axis"):
        evaluation.update(torch.zeros(2, 3, 4), torch.zeros(2, 4))


def test_chunks_may_differ_in_dtype() -> None:
    (found,) = seen((LOGITS.double(), LABELS), (LOGITS.float(), LABELS)).result()
    (expected,) = evaluate(torch.cat([LOGITS, LOGITS]), torch.cat([LABELS, LABELS]), SPARSE)
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)


def test_gradients_of_chunks_follow_each_other_along_the_rows() -> None:
    options = Options(class_axis=0, reduction="sum")
    outputs: set[Output] = {"gradient", "per_sample"}
    chunks = [(LOGITS[:5].t(), LABELS[:5]), (LOGITS[5:].t(), LABELS[5:])]
    (found,) = seen(*chunks, outputs=outputs, options=options).result()
    (expected,) = evaluate(LOGITS.t(), LABELS, SPARSE, outputs=outputs, options=options)
    assert found.gradient is not None
    assert expected.gradient is not None
    assert torch.equal(found.gradient, expected.gradient)


# --- results -------------------------------------------------------------------------------------


def test_a_result_may_be_asked_for_again() -> None:
    evaluation = seen((LOGITS, LABELS), outputs=OUTPUTS)
    first, second = evaluation.result()[0], evaluation.result()[0]
    assert same(first, second)
    assert first.gradient is not None
    assert second.gradient is not None
    assert torch.equal(first.gradient, second.gradient)


def test_a_result_does_not_change_when_more_rows_come() -> None:
    evaluation = seen((LOGITS, LABELS), outputs={"per_class", "distribution", "calibration"})
    (before,) = evaluation.result()
    assert before.per_class is not None
    assert before.calibration is not None
    support, counts = before.per_class["support"].clone(), before.calibration.count.clone()
    evaluation.update(LOGITS, LABELS)
    assert torch.equal(before.per_class["support"], support)
    assert torch.equal(before.calibration.count, counts)


@pytest.mark.parametrize("family", ["sparse", "binary"])
def test_nothing_seen_is_an_answer(family: str) -> None:
    outputs = [name for name in OUTPUTS if family == "sparse" or name != "row_statistics"]
    (result,) = Evaluation([Spec(family)], outputs=outputs, classes=3).result()
    assert (result.loss, result.undefined, result.reduction.sum) == (None, "no_rows", 0.0)
    assert result.gradient is None
    assert result.hardest == ()
    assert result.per_class is not None
    assert result.per_class["support"].tolist() == [0, 0, 0]
    assert result.per_class["loss_mean"].isnan().all()
    assert [note.code for note in result.diagnostics] == ["nothing_evaluated"]


def test_the_gradient_of_a_batch_that_is_ignored_is_zero() -> None:
    (result,) = evaluate(LOGITS, torch.full((12,), -100), SPARSE, outputs={"gradient"})
    assert result.gradient is not None
    assert torch.equal(result.gradient, torch.zeros(12, 3))
    assert result.undefined == "no_rows"


def test_without_specs_there_is_nothing_to_evaluate() -> None:
    with pytest.raises(InvalidSetting, match="give at least one") as caught:
        Evaluation([])
    assert caught.value.pointer == "/variants"


# --- merging -------------------------------------------------------------------------------------

WeightedSettings: Any = VARIANTS["weighted"].settings_type
FocalSettings: Any = VARIANTS["focal"].settings_type
BALANCED = [Spec("weighted", WeightedSettings(class_weights="balanced"))]


@pytest.mark.parametrize(
    "other",
    [
        lambda: Evaluation([Spec("binary")]),
        lambda: Evaluation([Spec("focal", FocalSettings(gamma=1.0))]),
        lambda: Evaluation([Spec("focal", name="another")]),
        lambda: Evaluation([Spec("focal"), Spec("focal")]),
        lambda: Evaluation([Spec("focal")], outputs={"per_class"}),
        lambda: Evaluation([Spec("focal")], options=Options(reduction="sum")),
    ],
)
def test_other_questions_cannot_be_merged(other: Callable[[], Evaluation]) -> None:
    with pytest.raises(CannotMerge, match="differ in variants, settings, options or outputs"):
        Evaluation([Spec("focal")]).merge(other())


def test_weights_derived_from_other_counts_cannot_be_merged() -> None:
    mine = Evaluation(BALANCED, class_counts=[1, 2, 3])
    with pytest.raises(CannotMerge):
        mine.merge(Evaluation(BALANCED, class_counts=[3, 2, 1]))


def test_other_classes_cannot_be_merged() -> None:
    with pytest.raises(CannotMerge, match="one has 3 classes, the other 4"):
        seen((LOGITS, LABELS)).merge(Evaluation(SPARSE, classes=4))


def test_merge_refuses_rows_of_another_shape() -> None:
    mine = seen((LOGITS, LABELS), outputs={"per_sample"})
    other = seen((torch.zeros(2, 3, 4), torch.zeros(2, 4)), outputs={"per_sample"})
    with pytest.raises(CannotMerge):
        mine.merge(other)


def test_an_evaluation_that_could_not_be_merged_is_as_it_was() -> None:
    mine = seen((LOGITS, ONE_HOT), specs=BINARY)
    (before,) = mine.result()
    with pytest.raises(CannotMerge):
        mine.merge(seen((LOGITS, LABELS), specs=BINARY))
    assert same(mine.result()[0], before)


def test_an_empty_evaluation_takes_over_what_the_other_one_saw() -> None:
    empty = Evaluation(SPARSE)
    empty.merge(seen((LOGITS, LABELS)))
    assert (empty.result()[0].classes, empty.result()[0].label_kind) == (3, "integer")


@pytest.mark.parametrize("output", ["per_sample", "gradient", "row_statistics"])
def test_rows_do_not_travel_as_sums(output: Output) -> None:
    with pytest.raises(CannotMerge, match="rows, not sums"):
        seen((LOGITS, LABELS), outputs={output}).state_dict()


def test_unreduced_losses_do_not_travel_as_sums() -> None:
    with pytest.raises(CannotMerge, match="rows, not sums"):
        seen((LOGITS, LABELS), options=Options(reduction="none")).state_dict()


def test_a_state_of_nothing_travels() -> None:
    arrived = seen((LOGITS, LABELS))
    arrived.load_state_dict(Evaluation(SPARSE).state_dict())
    assert same(arrived.result()[0], Evaluation(SPARSE).result()[0])
    arrived.update(torch.zeros(2, 5), torch.zeros(2))
    assert arrived.result()[0].classes == 5


# --- between two blocks --------------------------------------------------------------------------


@pytest.mark.usefixtures("small_blocks")
def test_cancelled_between_two_blocks_keeps_nothing_of_the_chunk() -> None:
    asked = iter([False, False, True])
    evaluation = Evaluation(SPARSE, cancelled=lambda: next(asked, False))
    with pytest.raises(Cancelled):
        evaluation.update(LOGITS, LABELS)
    assert evaluation.result()[0].rows.total == 0


@pytest.mark.usefixtures("small_blocks")
def test_cancelled_while_the_gradient_is_computed() -> None:
    gone = False
    evaluation = Evaluation(SPARSE, outputs={"gradient"}, cancelled=lambda: gone)
    evaluation.update(LOGITS, LABELS)
    gone = True
    with pytest.raises(Cancelled):
        evaluation.result()


@pytest.fixture
def memory_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Make blocks of more than so many rows run out of memory; lists the sizes that were tried."""

    def limit(rows: int) -> list[int]:
        tried: list[int] = []
        read = Chunk.read

        def read_a_little(chunk: Chunk, block: Block) -> BlockRows:
            tried.append(block.stop - block.start)
            if tried[-1] > rows:
                raise torch.OutOfMemoryError("injected")
            return read(chunk, block)

        monkeypatch.setattr(Chunk, "read", read_a_little)
        return tried

    return limit


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("shape", [(12, 3), (1, 3, 12), (2, 3, 2, 3)])
def test_a_block_that_is_too_large_is_halved_until_it_fits(
    rows: int, shape: tuple[int, ...], memory_for: Callable[[int], list[int]]
) -> None:
    logits, labels = LOGITS.reshape(shape), LABELS.reshape(shape[0], *shape[2:])
    outputs: set[Output] = {"gradient", "per_sample", "hardest"}
    (expected,) = evaluate(logits, labels, SPARSE, outputs=outputs)
    tried = memory_for(rows)
    (found,) = evaluate(logits, labels, SPARSE, outputs=outputs)
    assert tried[0] == 12
    assert sum(size for size in tried if size <= rows) == 12
    assert found.gradient is not None
    assert expected.gradient is not None
    assert torch.equal(found.gradient, expected.gradient)
    assert found.per_sample is not None
    assert expected.per_sample is not None
    assert torch.equal(found.per_sample.nan_to_num(nan=-1), expected.per_sample.nan_to_num(nan=-1))
    assert found.hardest == expected.hardest


def test_a_row_that_does_not_fit_is_the_device_s_fault(
    memory_for: Callable[[int], list[int]],
) -> None:
    evaluation = Evaluation(SPARSE)
    tried = memory_for(0)
    with pytest.raises(DeviceUnavailable, match="the memory of cpu is exhausted"):
        evaluation.update(LOGITS, LABELS)
    assert tried == [12, 6, 3, 1]
    assert evaluation.result()[0].rows.total == 0


# --- devices -------------------------------------------------------------------------------------


def test_the_names_of_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", "cpu:0", "mps"])
def test_other_names_are_no_devices(name: str) -> None:
    with pytest.raises(DeviceUnavailable, match="use auto, cpu, cuda or cuda:N"):
        resolve_device(name)


@pytest.mark.parametrize(
    ("devices", "name", "found"),
    [(0, "auto", "cpu"), (1, "auto", "cuda:0"), (2, "cuda", "cuda:0"), (2, "cuda:1", "cuda:1")],
)
def test_devices_that_are_there(
    devices: int, name: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    assert resolve_device(name) == torch.device(found)


@pytest.mark.parametrize(("devices", "name"), [(0, "cuda"), (1, "cuda:1"), (2, "cuda:999")])
def test_devices_that_are_not_there(
    devices: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    with pytest.raises(DeviceUnavailable, match=f"this machine has {devices} CUDA devices"):
        resolve_device(name)


@pytest.mark.parametrize("classes", [1, 3, 100, 1000, 400_000])
def test_a_block_fits_the_cache(classes: int) -> None:
    elements = EAGER.block_elements
    rows = block_rows(classes, torch.device("cpu"), elements=elements)
    assert rows * classes <= elements
    assert rows <= CPU_BLOCK_ROWS
    # As many as fit, but for what does not fill a vector.
    assert rows == CPU_BLOCK_ROWS or elements < (rows + VECTOR_ROWS) * classes
    assert rows < VECTOR_ROWS or not rows % VECTOR_ROWS


@pytest.mark.parametrize("classes", [0, 1 << 40])
def test_a_block_holds_a_row_at_least(classes: int) -> None:
    assert block_rows(classes, torch.device("cpu"), elements=1 << 19) >= 1


@pytest.mark.parametrize(("free", "rows"), [(80 << 30, 33554), (1 << 20, 4), (0, 1)])
def test_a_block_on_a_gpu_leaves_memory_to_others(
    free: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 80 << 30))
    assert block_rows(1000, torch.device("cuda", 0), elements=1 << 19) == rows


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"reduction": "average"}, "reduction must be one of mean, sum, none"),
        ({"normaliser": "batch"}, "normaliser must be one of weights, rows, elements, None"),
        ({"label_kind": "labels"}, "label_kind must be one of integer, one_hot"),
        ({"input": "odds"}, "input must be one of logits, log_probabilities, probabilities"),
        ({"nonfinite": "ignore"}, "nonfinite must be one of exclude, reject, propagate"),
        ({"gradient_dtype": torch.int64}, "gradient_dtype must be"),
        ({"hardest": 0}, "hardest must be at least 1, not 0"),
        ({"per_class_limit": 0}, "per_class_limit must be at least 1, not 0"),
        ({"probability_floor": 0.0, "input": "probabilities"}, "must lie in (0, 0.5), not 0.0"),
        ({"probability_floor": 0.5, "input": "probabilities"}, "must lie in (0, 0.5), not 0.5"),
        ({"probability_floor": 1e-7}, "clips probabilities, and the input is logits"),
    ],
)
def test_options_outside_their_range_are_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        Options(**given)
    assert words in str(caught.value)
    assert caught.value.pointer == f"/{next(iter(given))}"


def test_a_weight_that_the_arithmetic_cannot_hold_is_refused() -> None:
    spec = Spec("weighted", WeightedSettings(class_weights=(1e39, 1.0, 1.0)))
    with pytest.raises(InvalidSetting, match="must not exceed"):
        evaluate(LOGITS, LABELS, [spec])
    assert evaluate(LOGITS.double(), LABELS, [spec])[0].loss is not None


def test_counts_are_taken_from_labels_of_a_stated_kind() -> None:
    (stated,) = evaluate(LOGITS, ONE_HOT, BALANCED, options=Options(label_kind="one_hot"))
    (decided,) = evaluate(LOGITS, ONE_HOT, BALANCED)
    assert same(stated, decided)


def test_merging_what_has_seen_nothing_decides_no_kind() -> None:
    evaluation = seen((LOGITS, LABELS))
    evaluation.merge(Evaluation(SPARSE))
    assert evaluation.result()[0].label_kind == "integer"


def test_logits_that_require_a_gradient_are_evaluated_outside_of_their_graph() -> None:
    outputs: set[Output] = {"per_sample", "gradient", "per_class"}
    (expected,) = evaluate(LOGITS, LABELS, SPARSE, outputs=outputs)
    (found,) = evaluate(LOGITS.clone().requires_grad_(), LABELS, SPARSE, outputs=outputs)
    assert same(found, expected)
    assert found.gradient is not None
    assert not found.gradient.requires_grad


# --- gradients that are written while the rows are read -------------------------------------------


def test_who_asks_again_is_given_a_gradient_of_his_own() -> None:
    evaluation = Evaluation.of(LOGITS, LABELS, SPARSE, outputs={"gradient"})
    (first,), (second,) = evaluation.result(), evaluation.result()
    assert first.gradient is not None
    assert second.gradient is not None
    assert torch.equal(first.gradient, second.gradient)
    first.gradient.zero_()
    assert second.gradient.any()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
def test_a_gradient_whose_divisor_was_not_foreseen_is_made_anew(bad: float, reduction: str) -> None:
    logits = LOGITS.clone()
    logits[4] = bad
    options = Options(reduction=reduction)  # type: ignore[arg-type]
    (found,) = evaluate(logits, LABELS, SPARSE, outputs={"gradient"}, options=options)
    expected = Evaluation(SPARSE, outputs={"gradient"}, options=options)
    expected.update(logits, LABELS)
    assert found.gradient is not None
    theirs = expected.result()[0].gradient
    assert theirs is not None
    assert torch.equal(found.gradient, theirs)
    assert not found.gradient[4].any()
