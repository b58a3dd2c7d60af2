"""What holds for every variant, whatever its formula.

Variants, their label kinds and settings come from the registry: a variant that is added is tested
here without a change to this file.
"""

import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from itertools import pairwise, product
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.xentcore.conftest import blocks_of
from xentcore import (
    OUTPUTS,
    VARIANTS,
    Evaluation,
    InvalidSetting,
    LabelKind,
    Options,
    Output,
    Result,
    Settings,
    Spec,
)
from xentcore.options import InputKind, Reading

IGNORED = -100
HARD_KINDS: tuple[LabelKind, ...] = ("integer", "one_hot", "probabilities")
RELATIVE = 1e-12


def pairs(kinds: Sequence[LabelKind] = (*HARD_KINDS, "multi_hot", "binary")) -> list[Any]:
    """Every variant with every label kind it takes."""
    return [
        pytest.param(slug, kind, id=f"{slug}-{kind}")
        for slug, variant in VARIANTS.items()
        for kind in variant.label_kinds
        if kind in kinds
    ]


def softmax_of_differences() -> list[Any]:
    """Those of :func:`families` that know logits by their differences alone."""
    return [pair for pair in families("softmax") if VARIANTS[pair.values[0]].shift_invariant]


def families(family: str) -> list[Any]:
    """Those of :func:`pairs` that some settings evaluate in this family."""
    return [
        pair
        for pair in pairs()
        if any(
            _family(pair.values[0], s, pair.values[1]) == family
            for s in some_settings(*pair.values)
        )
    ]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """One thread: waking a second one costs more than these batches do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def several_threads() -> Iterator[None]:
    """Three threads, whatever the machine has."""
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(1)


for_every_variant = pytest.mark.parametrize(("slug", "kind"), pairs())


# --- settings, derived from what a variant declares ----------------------------------------------


@cache
def some_settings(slug: str, kind: LabelKind, classes: int = 3) -> list[Settings]:
    """Return valid settings of a variant for labels of this kind, the simplest first."""
    variant = VARIANTS[slug]
    hints = get_type_hints(variant.settings_type)
    columns = [
        [(field.name, value) for value in _values(hints[field.name], field.metadata, classes)]
        for field in fields(variant.settings_type)
    ]
    found = []
    for combination in product(*columns):
        try:
            settings = variant.settings_type(**dict(combination))
            settings.check_classes(classes)
            variant.check_labels(settings, kind)
        except InvalidSetting:  # two settings that exclude each other
            continue
        found.append(settings)
    return found


def _values(hint: object, bounds: Mapping[str, float], classes: int) -> Iterator[object]:
    """Yield values that a setting of this type and these bounds may have."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        for member in get_args(hint):
            yield from _values(member, bounds, classes)
    elif origin is Literal:
        yield from get_args(hint)
    elif hint is type(None):
        yield None
    elif origin is tuple:
        numbers = list(_values(get_args(hint)[0], bounds, classes))
        yield tuple(numbers[place % len(numbers)] for place in range(classes))
        yield tuple(numbers[-1 - place % len(numbers)] for place in range(classes))
    else:
        yield from _numbers(bounds, whole=hint is int)


def _numbers(bounds: Mapping[str, float], *, whole: bool) -> Iterator[float]:
    low, high = bounds.get("minimum", -2), bounds.get("maximum", 3)
    above, below = bounds.get("above", -3), bounds.get("below", 4)
    for number in (0, 1, 2) if whole else (0.5, 0.0, 1.0, 0.1, 2.5, -0.75):
        if low <= number <= high and above < number < below:
            yield number


def _family(slug: str, settings: Settings, kind: LabelKind) -> str:
    return VARIANTS[slug].family(settings, kind)


def readings(slugs: Iterable[str], kind: LabelKind) -> set[Reading]:
    """Return what labels of a kind are about, for all variants that will read them."""
    return {VARIANTS[slug].reading(some_settings(slug, kind)[0], kind) for slug in slugs}


# --- batches -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Logits (rows, classes), labels and weights, and what is asked about them."""

    logits: Tensor
    labels: Tensor
    weights: Tensor | None
    specs: tuple[Spec, ...]
    options: Options

    @property
    def classes(self) -> int:
        return self.logits.shape[1]

    def new(self, outputs: Sequence[Output] | None = None) -> Evaluation:
        """Return an evaluation of this question that has seen nothing."""
        kind = self.options.label_kind
        assert kind != "auto"
        if outputs is None:
            sigmoid = any(
                _family(spec.variant, spec.settings, kind) == "sigmoid"
                for spec in self.specs
                if spec.settings is not None
            )
            outputs = [name for name in OUTPUTS if not (sigmoid and name == "row_statistics")]
        return Evaluation(
            self.specs,
            outputs=outputs,
            options=self.options,
            # One class has no row in the counts: its derived weight is 0.
            class_counts=range(self.classes),
        )

    def run(self, outputs: Sequence[Output] | None = None) -> tuple[Result, ...]:
        """Evaluate the batch in one chunk."""
        evaluation = self.new(outputs)
        evaluation.update(self.logits, self.labels, self.weights)
        return evaluation.result()

    def at(self, rows: Tensor | slice) -> "Batch":
        """Return the batch of some rows."""
        return replace(
            self,
            logits=self.logits[rows],
            labels=self.labels[rows],
            weights=None if self.weights is None else self.weights[rows],
        )


@st.composite
def batches(  # noqa: PLR0913  (one keyword per restriction of a law)
    draw: st.DrawFn,
    slug: str,
    kind: LabelKind,
    *,
    family: str | None = None,
    inputs: Sequence[InputKind] = ("logits", "probabilities", "log_probabilities"),
    weighted: bool = True,
    finite: bool = False,
    rows: st.SearchStrategy[int] = st.integers(0, 40),  # noqa: B008  (strategies do not change)
    beside: Sequence[str] = (),
) -> Batch:
    """Draw a batch for a variant: small, of any dtype, with ties, ignored rows and infinities.

    Its labels will do for the variants ``beside`` it too.
    """
    count = draw(rows)
    classes = 1 if kind == "binary" else draw(st.sampled_from([3, 2, 7, 130]))
    settings = [
        found
        for found in some_settings(slug, kind, classes)
        if family is None or _family(slug, found, kind) == family
    ]
    chosen = draw(st.lists(st.sampled_from(settings), min_size=1, max_size=3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    options = Options(
        reduction="sum",
        label_kind=kind,
        ignore_index=IGNORED,
        input=draw(st.sampled_from(inputs)),
        normaliser=draw(st.sampled_from([None, "weights", "rows", "elements"])),
        hardest=max(1, count),
        gradient_dtype=torch.float64,
    )
    logits = draw(st.sampled_from([1.0, 0.1, 30.0])) * torch.randn(
        count, classes, generator=generator, dtype=torch.float64
    )
    if draw(st.booleans()):
        logits = logits.round()
    if not finite and draw(st.booleans()):
        odd = torch.tensor([torch.nan, torch.inf, -torch.inf], dtype=torch.float64)
        odd = odd[torch.randint(3, logits.shape, generator=generator)]
        logits = torch.where(torch.rand(logits.shape, generator=generator) < 0.05, odd, logits)
    labels = make_labels(kind, count, classes, generator, readings([slug, *beside], kind))
    if draw(st.booleans()):
        labels[torch.rand(count, generator=generator) < 0.2] = IGNORED
    return Batch(
        logits=stated_as(logits, options.input).to(draw(st.sampled_from(DTYPES))),
        labels=labels,
        weights=make_weights(count, generator) if weighted and draw(st.booleans()) else None,
        specs=tuple(Spec(slug, s, f"{place}") for place, s in enumerate(chosen)),
        options=options,
    )


DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def stated_as(logits: Tensor, stated: InputKind) -> Tensor:
    """Return numbers that are what the input kind says."""
    if stated == "logits":
        return logits
    p = logits.sigmoid()
    return p if stated == "probabilities" else p.log()


def make_labels(
    kind: LabelKind, rows: int, classes: int, generator: torch.Generator, about: set[Reading]
) -> Tensor:
    """Return labels of a kind, without ignored rows, for all who read them about that."""
    ranks = classes + 1 if about == {"ranks"} else classes
    index = torch.randint(ranks, (rows,), generator=generator)
    if kind == "integer":
        return index
    if kind == "one_hot":
        return torch.nn.functional.one_hot(index, classes)
    if kind == "probabilities":
        drawn = torch.rand(rows, classes, generator=generator, dtype=torch.float64)
        certain = torch.nn.functional.one_hot(index, classes).double()
        picked = torch.rand(rows, 1, generator=generator) < 0.3
        return torch.where(picked, certain, drawn / drawn.sum(dim=1, keepdim=True)).float()
    shape = (rows, 1) if kind == "binary" else (rows, classes)
    yes = torch.randint(2, shape, generator=generator)
    return yes.cumprod(dim=1) if "ranks" in about else yes


def make_weights(rows: int, generator: torch.Generator) -> Tensor:
    """Return sample weights, some of them 0."""
    weights = torch.rand(rows, generator=generator, dtype=torch.float64) * 3
    return weights.masked_fill(torch.rand(rows, generator=generator) < 0.1, 0)


# --- comparing answers ---------------------------------------------------------------------------

# Sums, and what is divided out of sums: equal but for the order in which they were added.
SUMS = ("loss", "reduction.", "per_class.", "calibration.")
PER_ROW = ("per_sample", "row_status", "gradient", "row_statistics", "hardest")


def leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Yield every number, string and tensor of an answer by its dotted name."""
    if is_dataclass(value) and not isinstance(value, Settings):
        for field in fields(value):
            yield from leaves(getattr(value, field.name), f"{name}.{field.name}".lstrip("."))
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from leaves(entry, f"{name}.{key}")
    else:
        yield name, value


def assert_same(
    found: Result, expected: Result, *, exactly: bool = True, without: tuple[str, ...] = ()
) -> None:
    """Check that two answers agree: sums to 1e-12 unless exactly, all else bit for bit."""
    mine, theirs = dict(leaves(found)), dict(leaves(expected))
    names = [name for name in {**theirs, **mine} if not name.startswith(without)]
    for name in names:
        a, b = mine.get(name, "missing"), theirs.get(name, "missing")
        if not exactly and name.startswith(SUMS) and _is_real(a) and _is_real(b):
            scale = _magnitude(name, expected)
            torch.testing.assert_close(
                torch.as_tensor(a, dtype=torch.float64),
                torch.as_tensor(b, dtype=torch.float64),
                rtol=RELATIVE,
                atol=RELATIVE * scale,
                equal_nan=True,
                msg=about(name),
            )
        else:
            assert _equal(a, b), f"{name}: {a} is not {b}"


def about(name: str) -> Callable[[str], str]:
    """Return what puts a name in front of a message."""
    return lambda text: f"{name}: {text}"


def _is_real(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.is_floating_point()
    return isinstance(value, float)


def _equal(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        same = a.shape == b.shape and a.dtype == b.dtype
        return same and bool(((a == b) | (a.isnan() & b.isnan())).all())
    return type(a) is type(b) and a == b


def _magnitude(name: str, result: Result) -> float:
    """Return what a sum that cancels is compared with: the sum of the magnitudes it adds."""
    assert result.per_sample is not None
    assert result.gradient is not None
    if name.startswith("calibration."):
        return 1.0
    added = result.gradient if name == "per_class.gradient_sum" else result.per_sample
    return float(added[added.isfinite()].abs().sum())


def cut(batch: Batch, data: st.DataObject) -> list[Batch]:
    """Return the batch as consecutive pieces, some of which may be empty."""
    rows = len(batch.logits)
    cuts = data.draw(st.lists(st.integers(0, rows), max_size=5).map(sorted), label="cuts")
    return [batch.at(slice(a, b)) for a, b in pairwise([0, *cuts, rows])]


def evaluated(batch: Batch, outputs: Sequence[Output] | None = None) -> Evaluation:
    """Return an evaluation that has seen the batch."""
    evaluation = batch.new(outputs)
    evaluation.update(batch.logits, batch.labels, batch.weights)
    return evaluation


# --- splitting and merging -----------------------------------------------------------------------


@for_every_variant
@given(data=st.data())
def test_any_split_into_chunks_gives_the_same_answer(
    slug: str, kind: LabelKind, data: st.DataObject
) -> None:
    batch = data.draw(batches(slug, kind))
    evaluation = batch.new()
    for piece in cut(batch, data):
        evaluation.update(piece.logits, piece.labels, piece.weights)
    for found, expected in zip(evaluation.result(), batch.run(), strict=True):
        assert_same(found, expected, exactly=False)


@for_every_variant
@given(data=st.data())
def test_any_block_size_gives_the_same_answer(
    slug: str, kind: LabelKind, data: st.DataObject
) -> None:
    batch = data.draw(batches(slug, kind))
    with blocks_of(data.draw(st.integers(1, 300), label="block")):
        cut_up = batch.run()
    for found, expected in zip(cut_up, batch.run(), strict=True):
        assert_same(found, expected, exactly=False)


@pytest.mark.slow
@pytest.mark.usefixtures("several_threads")
@for_every_variant
def test_a_batch_that_fills_threads_and_blocks_splits_the_same(slug: str, kind: LabelKind) -> None:
    generator = torch.Generator().manual_seed(7)
    classes = 1 if kind == "binary" else 7
    rows = 40_000 // classes  # torch shares 32,768 elements and more among threads
    batch = Batch(
        logits=3 * torch.randn(rows, classes, generator=generator),
        labels=make_labels(kind, rows, classes, generator, readings([slug], kind)),
        weights=make_weights(rows, generator),
        specs=tuple(Spec(slug, s) for s in thinned(some_settings(slug, kind, classes))),
        options=Options(reduction="sum", label_kind=kind, gradient_dtype=torch.float64),
    )
    evaluation = batch.new()
    for piece in (batch.at(slice(0, 1001)), batch.at(slice(1001, None))):
        evaluation.update(piece.logits, piece.labels, piece.weights)
    for found, expected in zip(evaluation.result(), batch.run(), strict=True):
        assert_same(found, expected, exactly=False)


def thinned(settings: list[Settings]) -> list[Settings]:
    """Return a few of many settings, from first to last."""
    return settings[:: len(settings) // 3 or 1]


@for_every_variant
@given(data=st.data())
def test_any_grouping_of_merges_gives_the_same_answer(
    slug: str, kind: LabelKind, data: st.DataObject
) -> None:
    batch = data.draw(batches(slug, kind))
    parts = [evaluated(piece) for piece in cut(batch, data)]
    while len(parts) > 1:
        place = data.draw(st.integers(0, len(parts) - 2), label="merge")
        parts[place].merge(parts.pop(place + 1))
    for found, expected in zip(parts[0].result(), batch.run(), strict=True):
        assert_same(found, expected, exactly=False)


@for_every_variant
@given(data=st.data())
def test_any_order_of_merges_gives_the_same_sums(
    slug: str, kind: LabelKind, data: st.DataObject
) -> None:
    batch = data.draw(batches(slug, kind))
    parts = data.draw(st.permutations([evaluated(piece) for piece in cut(batch, data)]))
    for part in parts[1:]:
        parts[0].merge(part)
    for found, expected in zip(parts[0].result(), batch.run(), strict=True):
        assert_same(found, expected, exactly=False, without=PER_ROW)


@for_every_variant
@given(data=st.data())
def test_merging_an_empty_evaluation_changes_nothing(
    slug: str, kind: LabelKind, data: st.DataObject
) -> None:
    batch = data.draw(batches(slug, kind))
    empty_first, empty_last = batch.new(), evaluated(batch)
    empty_first.merge(evaluated(batch))
    empty_last.merge(batch.new())
    expected = batch.run()
    for evaluation in (empty_first, empty_last):
        for found, other in zip(evaluation.result(), expected, strict=True):
            assert_same(found, other)


@for_every_variant
@given(data=st.data())
def test_a_chunk_without_rows_changes_nothing(
    slug: str, kind: LabelKind, data: st.DataObject
) -> None:
    batch = data.draw(batches(slug, kind))
    evaluation = evaluated(batch.at(slice(0, 0)))
    evaluation.update(batch.logits, batch.labels, batch.weights)
    for found, expected in zip(evaluation.result(), batch.run(), strict=True):
        assert_same(found, expected)


@for_every_variant
@given(data=st.data())
def test_a_state_travels_and_merges(slug: str, kind: LabelKind, data: st.DataObject) -> None:
    batch = data.draw(batches(slug, kind))
    outputs: list[Output] = ["per_class", "distribution", "calibration", "hardest"]
    there, here = (evaluated(piece, outputs) for piece in halves(batch, data))
    arrived = batch.new(outputs)
    arrived.load_state_dict({name: sums.clone() for name, sums in there.state_dict().items()})
    arrived.merge(here)
    there.merge(here)
    for found, expected in zip(arrived.result(), there.result(), strict=True):
        assert_same(found, expected)


def halves(batch: Batch, data: st.DataObject) -> tuple[Batch, Batch]:
    """Return the batch as two."""
    middle = data.draw(st.integers(0, len(batch.logits)), label="middle")
    return batch.at(slice(0, middle)), batch.at(slice(middle, None))


# --- rows ----------------------------------------------------------------------------------------


@for_every_variant
@given(data=st.data())
def test_permuting_rows_permutes_per_row_outputs_and_nothing_else(
    slug: str, kind: LabelKind, data: st.DataObject
) -> None:
    batch = data.draw(batches(slug, kind))
    order = torch.tensor(data.draw(st.permutations(range(len(batch.logits)))), dtype=torch.int64)
    for found, expected in zip(batch.at(order).run(), batch.run(), strict=True):
        moved = replace(
            expected,
            per_sample=take(expected.per_sample, order),
            row_status=take(expected.row_status, order),
            gradient=take(expected.gradient, order),
            row_statistics=expected.row_statistics
            and {name: take(column, order) for name, column in expected.row_statistics.items()},
        )
        assert_same(found, moved, exactly=False, without=("hardest",))
        assert found.hardest is not None
        assert expected.hardest is not None
        came_from = {replace(row, row=int(order[row.row])) for row in found.hardest}
        assert came_from == set(expected.hardest)


def take(column: Tensor | None, order: Tensor) -> Tensor:
    """Return the rows of an output in this order."""
    assert column is not None
    return column[order]


@for_every_variant
@given(data=st.data())
def test_ignored_rows_contribute_nothing_whatever_they_hold(
    slug: str, kind: LabelKind, data: st.DataObject
) -> None:
    batch = data.draw(batches(slug, kind))
    ignored = torch.tensor(
        data.draw(st.lists(st.booleans(), min_size=len(batch.logits), max_size=len(batch.logits))),
        dtype=torch.bool,
    )
    junk = data.draw(st.sampled_from([torch.nan, torch.inf, -torch.inf, 6e4, 0.0]))
    logits, labels = batch.logits.clone(), batch.labels.clone()
    logits[ignored], labels[ignored] = junk, IGNORED
    kept = (~ignored).nonzero()[:, 0]
    masked = replace(batch, logits=logits, labels=labels).run()
    for found, expected in zip(masked, batch.at(kept).run(), strict=True):
        assert found.gradient is not None
        assert not found.gradient[ignored].any()
        assert found.rows.ignored == expected.rows.ignored + int(ignored.sum())
        filtered = replace(
            found,
            rows=replace(found.rows, total=len(kept), ignored=expected.rows.ignored),
            per_sample=take(found.per_sample, kept),
            row_status=take(found.row_status, kept),
            gradient=take(found.gradient, kept),
            row_statistics=found.row_statistics
            and {name: take(column, kept) for name, column in found.row_statistics.items()},
            hardest=found.hardest
            and tuple(replace(row, row=int((kept == row.row).nonzero())) for row in found.hardest),
        )
        assert_same(filtered, expected, exactly=False)


@for_every_variant
@given(data=st.data())
def test_a_sample_weight_of_two_is_the_row_twice(
    slug: str, kind: LabelKind, data: st.DataObject
) -> None:
    batch = data.draw(batches(slug, kind, weighted=False))
    times = torch.tensor(
        data.draw(
            st.lists(st.integers(0, 2), min_size=len(batch.logits), max_size=len(batch.logits))
        ),
        dtype=torch.int64,
    )
    options = replace(batch.options, normaliser="weights")
    repeated = torch.arange(len(batch.logits)).repeat_interleave(times)
    weighted = replace(batch, weights=times.double(), options=options).run()
    again = replace(batch, options=options).at(repeated).run()
    for found, expected in zip(weighted, again, strict=True):
        for name, value, other in (
            ("sum", found.reduction.sum, expected.reduction.sum),
            ("denominator", found.reduction.denominator, expected.reduction.denominator),
            *(
                (f"per_class.{name}", column(found, name), column(expected, name))
                for name in ("weight", "loss_sum", "gradient_sum")
            ),
        ):
            torch.testing.assert_close(
                value,
                other,
                rtol=RELATIVE,
                atol=RELATIVE * _magnitude(name, expected),
                msg=about(name),
            )


def column(result: Result, name: str) -> Tensor:
    """Return a column of the per-class breakdown."""
    assert result.per_class is not None
    return result.per_class[name]


# --- memory --------------------------------------------------------------------------------------


@for_every_variant
@given(data=st.data())
def test_inputs_may_be_read_only_and_are_never_written_to(
    slug: str, kind: LabelKind, data: st.DataObject
) -> None:
    batch = data.draw(batches(slug, kind, rows=st.integers(1, 20)))
    tensors = [batch.logits, batch.labels]
    tensors += [] if batch.weights is None else [batch.weights]
    memories = [as_bytes(tensor) for tensor in tensors]
    # A copy in new memory: bytes(b) would be the same object.
    before = [bytes(bytearray(memory)) for memory in memories]
    views = [view_of(m, tensor) for m, tensor in zip(memories, tensors, strict=True)]
    evaluation = batch.new()
    evaluation.update(*views)
    results = evaluation.result()
    assert memories == before
    for found, expected in zip(results, batch.run(), strict=True):
        assert_same(found, expected)


def as_bytes(tensor: Tensor) -> bytes:
    """Return the memory of a tensor."""
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def view_of(memory: bytes, like: Tensor) -> Tensor:
    """Return a tensor over memory that must not be written to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that writing would be undefined behaviour
        return torch.frombuffer(memory, dtype=like.dtype).reshape(like.shape)


@for_every_variant
@given(data=st.data())
def test_strides_do_not_matter(slug: str, kind: LabelKind, data: st.DataObject) -> None:
    batch = data.draw(batches(slug, kind))
    strided: list[Callable[[Tensor], Tensor]] = [
        lambda tensor: tensor.repeat_interleave(2, dim=0)[::2],
        lambda tensor: torch.stack([tensor, tensor], dim=-1)[..., 0],
        lambda tensor: tensor.t().contiguous().t() if tensor.ndim == 2 else tensor,
        lambda tensor: torch.cat([tensor, tensor], dim=-1)[..., : tensor.shape[-1]],
    ]
    change = data.draw(st.sampled_from(strided))
    spread = replace(batch, logits=change(batch.logits), labels=change(batch.labels))
    for found, expected in zip(spread.run(), batch.run(), strict=True):
        assert_same(found, expected)


@for_every_variant
@given(data=st.data())
def test_the_class_axis_may_be_anywhere(slug: str, kind: LabelKind, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3), label="row shape")
    rows = torch.Size(shape).numel()
    batch = data.draw(batches(slug, kind, rows=st.just(rows), weighted=False))
    if kind == "binary":
        shape = [rows]
    axis = data.draw(st.integers(0, len(shape)), label="class axis")
    negative = data.draw(st.booleans(), label="negative")

    def arranged(tensor: Tensor) -> Tensor:
        if tensor.ndim == 1:
            return tensor.reshape(shape)
        return tensor.reshape(*shape, -1).movedim(-1, axis).contiguous()

    evaluation = replace(
        batch,
        options=replace(batch.options, class_axis=axis - len(shape) - 1 if negative else axis),
    ).new()
    evaluation.update(arranged(batch.logits), arranged(batch.labels))
    for found, expected in zip(evaluation.result(), batch.run(), strict=True):
        assert found.gradient is not None
        flat = replace(
            found,
            gradient=found.gradient.movedim(axis, -1).reshape(batch.logits.shape),
            per_sample=flattened(found.per_sample, expected.per_sample),
            row_status=flattened(found.row_status, expected.row_status),
            row_statistics=found.row_statistics
            and {name: column.flatten() for name, column in found.row_statistics.items()},
        )
        assert_same(flat, expected)


def flattened(found: Tensor | None, expected: Tensor | None) -> Tensor:
    """Return a column in the shape of the one that is expected."""
    assert found is not None
    assert expected is not None
    return found.reshape(expected.shape)


# --- labels and specs ----------------------------------------------------------------------------


def in_several_forms() -> list[str]:
    """Return the variants to which a class may be named in several forms."""
    return [
        slug
        for slug, variant in VARIANTS.items()
        if len(set(HARD_KINDS) & set(variant.label_kinds)) > 1
    ]


@pytest.mark.parametrize("slug", in_several_forms())
@given(data=st.data())
def test_index_one_hot_and_one_hot_as_probabilities_are_equal(
    slug: str, data: st.DataObject
) -> None:
    kinds = [kind for kind in HARD_KINDS if kind in VARIANTS[slug].label_kinds]
    batch = data.draw(batches(slug, kinds[0]))
    index = batch.labels if batch.labels.ndim == 1 else batch.labels.argmax(dim=1)
    first = batch.labels if batch.labels.ndim == 1 else batch.labels[:, 0]
    ignored = first == IGNORED
    one_hot = torch.nn.functional.one_hot(index.masked_fill(ignored, 0), batch.classes)
    one_hot[ignored] = IGNORED
    forms: dict[LabelKind, Tensor] = {
        "integer": index.masked_fill(ignored, IGNORED),
        "one_hot": one_hot,
        "probabilities": one_hot.float(),
    }
    answers = [
        replace(batch, labels=forms[kind], options=replace(batch.options, label_kind=kind)).run()
        for kind in kinds
    ]
    for answer in answers[1:]:
        for found, expected in zip(answer, answers[0], strict=True):
            assert_same(found, expected, without=("label_kind",))


@given(data=st.data())
def test_sparse_on_indices_equals_categorical_on_one_hot(data: st.DataObject) -> None:
    batch = data.draw(batches("categorical", "one_hot"))
    sparse = replace(
        batch,
        labels=torch.where(batch.labels[:, 0] == IGNORED, IGNORED, batch.labels.argmax(dim=1)),
        specs=tuple(
            Spec("sparse", class_weights_of("sparse", spec.settings), spec.name)
            for spec in batch.specs
        ),
        options=replace(batch.options, label_kind="integer"),
    )
    for found, expected in zip(sparse.run(), batch.run(), strict=True):
        assert_same(found, expected, without=("label_kind", "variant", "settings"))


def class_weights_of(slug: str, settings: Settings | None) -> Settings:
    """Return a variant's settings with the class weights of another one's."""
    weights = {f.name: getattr(settings, f.name) for f in fields(settings)} if settings else {}
    found: Settings = VARIANTS[slug].settings_type(class_weights=weights["class_weights"])
    return found


@pytest.mark.parametrize("kind", [*HARD_KINDS, "multi_hot", "binary"])
@given(data=st.data())
def test_several_specs_at_once_equal_one_at_a_time(kind: LabelKind, data: st.DataObject) -> None:
    takers = [slug for slug, variant in VARIANTS.items() if kind in variant.label_kinds]
    batch = data.draw(batches(takers[0], kind, beside=takers))
    specs = [
        Spec(slug, data.draw(st.sampled_from(some_settings(slug, kind, batch.classes))))
        for slug in takers
    ]
    outputs = [name for name in OUTPUTS if name != "row_statistics"]
    together = replace(batch, specs=tuple(specs)).run(outputs)
    for spec, found in zip(specs, together, strict=True):
        (alone,) = replace(batch, specs=(spec,)).run(outputs)
        assert_same(found, alone)


# --- sums that must agree, and what softmax promises ---------------------------------------------


@for_every_variant
@given(data=st.data())
def test_parts_add_up_to_the_whole(slug: str, kind: LabelKind, data: st.DataObject) -> None:
    for result in data.draw(batches(slug, kind)).run():
        assert result.per_sample is not None
        assert result.row_status is not None
        whole = result.reduction.sum
        tolerance = pytest.approx(whole, rel=RELATIVE, abs=RELATIVE * _magnitude("loss", result))
        assert float(result.per_sample[result.row_status == 0].sum()) == tolerance
        assert float(column(result, "loss_sum").sum()) == tolerance


@for_every_variant
@given(data=st.data())
def test_columns_of_the_gradient_add_up_to_gradient_sum(
    slug: str, kind: LabelKind, data: st.DataObject
) -> None:
    for result in data.draw(batches(slug, kind)).run():
        gradient = result.gradient
        assert gradient is not None
        # The gradient's own entries are float32.
        bound = 1e-6 * gradient.abs().sum(dim=0) + 1e-30
        assert ((gradient.sum(dim=0) - column(result, "gradient_sum")).abs() <= bound).all()


@pytest.mark.parametrize(("slug", "kind"), softmax_of_differences())
@given(data=st.data())
def test_a_row_of_a_softmax_gradient_sums_to_zero(
    slug: str, kind: LabelKind, data: st.DataObject
) -> None:
    for result in data.draw(batches(slug, kind, family="softmax")).run():
        gradient = result.gradient
        assert gradient is not None
        # Where p is close to the label, entries are small differences of float32 numbers.
        bound = 1e-5 * (1 + gradient.abs().sum(dim=1))
        assert (gradient.sum(dim=1).abs() <= bound).all()


@pytest.mark.parametrize(("slug", "kind"), softmax_of_differences())
@given(data=st.data())
def test_a_common_offset_changes_nothing(slug: str, kind: LabelKind, data: st.DataObject) -> None:
    batch = data.draw(batches(slug, kind, family="softmax", inputs=["logits"], finite=True))
    # Steps and offsets that float32 holds exactly, so that the offset is all that changes.
    step, offset = data.draw(st.sampled_from([(0.125, 1e4), (0.25, 1e6), (2.0, 3e7), (2.0, -3e7)]))
    logits = (batch.logits.float() / step).round().clamp(-100, 100) * step
    moved = replace(batch, logits=logits + offset).run()
    for found, expected in zip(moved, replace(batch, logits=logits).run(), strict=True):
        # Of the logits themselves speak their maximum, and the diagnostic of a double softmax.
        assert_same(found, expected, without=("row_statistics.max_logit", "diagnostics"))
