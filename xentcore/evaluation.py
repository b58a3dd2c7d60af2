"""Evaluation: update(chunk) -> merge(other) -> result(). The only loop over chunks."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Final, TypeVar

import torch
from torch import Tensor

from xentcore.answer import Question
from xentcore.chunk import Chunk, check_weights
from xentcore.comparison import Compared
from xentcore.constants import Constants
from xentcore.contrast import Contrast
from xentcore.device import block_rows
from xentcore.diagnostics import Evidence
from xentcore.errors import (
    Cancelled,
    CannotMerge,
    DeviceUnavailable,
    InvalidSetting,
    ShapeMismatch,
)
from xentcore.gradients import Gradients
from xentcore.inputs import compute_dtype
from xentcore.labels import (
    LabelReader,
    check_shapes,
    count_classes,
    decide_kind,
    join_kinds,
    readable,
)
from xentcore.layout import Block, Layout
from xentcore.memory import empty_on_host
from xentcore.options import LABEL_KINDS, LabelKind, Options, Output, Record
from xentcore.passes import EAGER, Passes
from xentcore.prior import Mass, prior_sum
from xentcore.record import Recorded, recorded
from xentcore.registry import find_variant
from xentcore.result import Comparison, Result
from xentcore.spec import BoundSpec, Spec, about, settings_of
from xentcore.summary import RowCounts, State, Summary, below
from xentcore.tally import Inquiry, Tally

T = TypeVar("T")
CPU: Final = torch.device("cpu")


@dataclass(slots=True)
class Seen:
    """What an evaluation has seen so far.

    Attributes:
        tallies: per spec.
        kind: of the labels; ``None`` before a row decided it.
        classes: how many; ``None`` before a row told.
        rows: how many.
        first: entries of their first axis.
        shape: of the rows and their labels behind the first axis; ``None`` before a chunk told.
        evidence: of double softmax.
        chunks: kept for the gradient, where it is asked for, and for a comparison of variants under
            label distributions.
        gradients: written while the rows were read, with the scales that were expected; ``None``
            where none could be.
        contrast: what the specs are compared by.
    """

    tallies: list[Tally]
    contrast: Contrast
    kind: LabelKind | None
    classes: int | None
    rows: int = 0
    first: int = 0
    shape: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    evidence: Evidence = field(default_factory=Evidence)
    chunks: list[Chunk] = field(default_factory=list)
    gradients: Gradients | None = None


class Evaluation:
    """Evaluates any number of variants over a batch that comes in chunks.

    Args:
        specs: the variants; all are evaluated in one pass over each chunk.
        classes: how many classes rows have; ``None`` takes the first chunk's.
        outputs: what to answer beside the loss. The gradient is computed when the result is asked
            for, from the chunks, which must not change until then.
        options: how to read and reduce the batch.
        device: where to compute.
        class_counts: rows per class of the whole batch, for settings that are derived from them.
        compare: whether :meth:`comparison` will be asked for. It keeps a number per row and spec;
            where labels may be distributions also the chunks, which must not change until then.
        record: whether :meth:`recorded` will be asked for, and what it is to tell: sums, or also a
            few numbers per row and spec; ``None`` for nothing.
        cancelled: asked between blocks; once it returns true, ``Cancelled`` is raised.
        await_rows: called with a row number before a chunk's rows below it are read; returns once
            they are in memory. Logits may so be evaluated while their last rows still arrive.
        passes: which implementation goes over matrices; see :mod:`xentcore.kernels`.

    Raises:
        UnknownVariant: a spec that names none.
        InvalidSetting: settings that do not fit; no specs.
    """

    def __init__(  # noqa: PLR0913  (one keyword per question that can be asked)
        self,
        specs: Sequence[Spec],
        *,
        classes: int | None = None,
        outputs: Collection[Output] = (),
        options: Options | None = None,
        device: torch.device = CPU,
        class_counts: Sequence[int] | None = None,
        compare: bool = False,
        record: Record | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        await_rows: Callable[[int], None] = lambda _: None,
        passes: Passes = EAGER,
    ) -> None:
        if not specs:
            raise InvalidSetting("no variant is asked for: give at least one", pointer="/variants")
        bound = []
        for place, spec in enumerate(specs):
            with about(place):
                bound.append(BoundSpec(spec, class_counts))
                if classes is not None:
                    bound[-1].check_classes(classes)
        self.inquiry = Inquiry(
            tuple(bound), options or Options(), frozenset(outputs), compare=compare, record=record
        )
        self.device = device
        stated = self.inquiry.options.label_kind
        self.seen = Seen(
            tallies=self.inquiry.empty_tallies(),
            contrast=self.inquiry.empty_contrast(),
            kind=None if stated == "auto" else stated,
            classes=classes,
        )
        self._cancelled = cancelled
        self._await_rows = await_rows
        self._passes = passes
        self._constants: dict[torch.dtype, Constants] = {}

    @classmethod
    def of(  # noqa: PLR0913  (the keywords of the class, and the batch)
        cls,
        logits: Tensor,
        labels: Tensor,
        specs: Sequence[Spec],
        *,
        sample_weights: Tensor | None = None,
        outputs: Collection[Output] = (),
        options: Options | None = None,
        device: torch.device = CPU,
        compare: bool = False,
        record: Record | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        await_rows: Callable[[int], None] = lambda _: None,
        passes: Passes = EAGER,
    ) -> "Evaluation":
        """Return an evaluation of one batch, in a single chunk.

        With the whole batch at hand, settings that depend on class counts take the batch's.

        Raises:
            XentError: as the class and :meth:`update` do.
        """
        options = options or Options()
        counts = None
        if _need_counts(specs):
            layout, readably = Layout.of(logits.shape, options.class_axis), readable(labels)
            kind = _kind_of(readably, layout, options)
            counts = _class_counts(readably, kind, layout, options)
        evaluation = cls(
            specs,
            outputs=outputs,
            options=options,
            device=device,
            class_counts=counts,
            compare=compare,
            record=record,
            cancelled=cancelled,
            await_rows=await_rows,
            passes=passes,
        )
        evaluation._update(logits, labels, sample_weights, whole=True)
        return evaluation

    def update(self, logits: Tensor, labels: Tensor, sample_weights: Tensor | None = None) -> None:
        """Evaluate more rows. After an error the evaluation is as it was before the call.

        Args:
            logits: (N,), (N, C) or (N, C, d1..dk), the classes along ``options.class_axis``;
                float16, bfloat16, float32 or float64, any strides.
            labels: see :mod:`xentcore.labels`.
            sample_weights: one per row, or one per index of the first axis; ``None`` for ones.

        Raises:
            InvalidTensor: tensors that cannot be evaluated; each subclass names the place.
            InvalidSetting: settings that do not fit the batch.
            Cancelled: ``cancelled`` returned true.
            DeviceUnavailable: the device's memory is exhausted even for one row.
        """
        self._update(logits, labels, sample_weights, whole=False)

    @torch.no_grad()
    def _update(
        self, logits: Tensor, labels: Tensor, sample_weights: Tensor | None, *, whole: bool
    ) -> None:
        chunk = self._admit(logits, labels, sample_weights)
        gradients = self._expected_gradients(chunk) if whole else None
        tallies, evidence, contrast = self._tallied(chunk, gradients)
        seen = self.seen
        for total, part in zip(seen.tallies, tallies, strict=True):
            part.per_row = part.per_row.in_shape(chunk.row_shape, chunk.layout.row_shape)
            part.summary.rows.total = chunk.layout.rows
            total.merge(part, first_row=seen.rows)
        seen.evidence.merge(evidence)
        seen.gradients = gradients
        seen.contrast.merge(contrast)
        if "gradient" in self.inquiry.outputs or self._may_read_labels_again(chunk):
            seen.chunks.append(chunk)
        if chunk.layout.rows:
            seen.rows += chunk.layout.rows
            seen.first += chunk.layout.row_shape[0]
            seen.kind = chunk.kind
        if chunk.layout.classes:
            seen.classes = chunk.layout.classes
            seen.shape = _shape_beyond_first(chunk)

    def _tallied(
        self, chunk: Chunk, gradients: Gradients | None
    ) -> tuple[list[Tally], Evidence, Contrast]:
        """Return what a chunk adds to each spec, what its rows look like, and what compares."""
        tallies = self.inquiry.empty_tallies()
        evidence, contrast = Evidence(), self.inquiry.empty_contrast()
        sweeping = bool(self._passes.sweep_elements) and self.inquiry.sweeps(chunk)
        work = partial(self.inquiry.tally, chunk, gradients, self._await_rows if sweeping else None)
        for found, seen_there, compared in self._each_block(chunk, work, sweeping=sweeping):
            evidence.merge(seen_there)
            if compared is not None:
                contrast.merge(compared)
            for total, part in zip(tallies, found, strict=True):
                total.merge(part)
        return tallies, evidence, contrast

    def merge(self, other: "Evaluation") -> None:
        """Add what another evaluation of the same specs saw; its rows follow this one's.

        Raises:
            CannotMerge: the two did not ask the same question, or not about the same classes.
        """
        if not _same_question(self.inquiry, other.inquiry):
            raise CannotMerge(
                "the two evaluations differ in variants, settings, options or outputs"
            )
        mine, theirs = self.seen, other.seen
        if mine.classes != theirs.classes and None not in (mine.classes, theirs.classes):
            raise CannotMerge(f"one has {mine.classes} classes, the other {theirs.classes}")
        if mine.shape != theirs.shape and None not in (mine.shape, theirs.shape):
            raise CannotMerge(
                f"rows and labels have shapes {mine.shape} and {theirs.shape} "
                "behind their first axis"
            )
        if theirs.kind is not None:
            try:
                mine.kind = self._joined(theirs.kind)
            except InvalidSetting as error:
                raise CannotMerge(str(error)) from None
        mine.classes = mine.classes if theirs.classes is None else theirs.classes
        mine.shape = mine.shape if theirs.shape is None else theirs.shape
        for total, part in zip(mine.tallies, theirs.tallies, strict=True):
            total.merge(part, first_row=mine.rows)
        mine.contrast.merge(theirs.contrast)
        mine.chunks += theirs.chunks
        mine.gradients = None
        mine.rows += theirs.rows
        mine.first += theirs.first
        mine.evidence.merge(theirs.evidence)

    @torch.no_grad()
    def result(self) -> tuple[Result, ...]:
        """Return the answer of each spec, in their order. May be asked for again after more rows.

        Raises:
            Cancelled: ``cancelled`` returned true.
            DeviceUnavailable: the device's memory is exhausted even for one row.
        """
        asked = [
            (self._question(spec, self.seen.kind, self.seen.classes or 0), tally)
            for spec, tally in zip(self.inquiry.specs, self.seen.tallies, strict=True)
        ]
        results = [q.answer(t.summary, t.per_row, self.seen.evidence) for q, t in asked]
        if "gradient" not in self.inquiry.outputs:
            return tuple(results)
        if not self.seen.chunks:
            return tuple(results)
        scales = tuple(question.gradient_scale(tally.summary) for question, tally in asked)
        # Handed over once: who asks again is given a gradient of his own.
        written, self.seen.gradients = self.seen.gradients, None
        if written is not None and written.scales == scales:
            gradients = written.tensors
        else:
            del written  # there is no room for two
            gradients = self._gradients(scales)
        return tuple(
            replace(result, gradient=gradient)
            for result, gradient in zip(results, gradients, strict=True)
        )

    @torch.no_grad()
    def comparison(self) -> Comparison:
        """Return what can be compared between the specs. May be asked for again after more rows.

        Raises:
            InvalidSetting: the evaluation was made without ``compare``.
            Cancelled: ``cancelled`` returned true.
            DeviceUnavailable: the device's memory is exhausted even for one row.
        """
        seen = self.seen
        if not self.inquiry.compare:
            raise InvalidSetting("variants are not compared: ask for it with compare=True")
        compared = Compared(
            self.inquiry, seen.tallies, seen.contrast, seen.kind, seen.classes or 0, seen.chunks
        )
        return compared.comparison(each_block=self._each_block, device=self.device)

    @torch.no_grad()
    def recorded(self) -> tuple[Recorded, ...]:
        """Return what is kept of each spec for later days, in their order.

        Raises:
            InvalidSetting: the evaluation was made without ``record``.
            Cancelled: ``cancelled`` returned true.
        """
        seen, record = self.seen, self.inquiry.record
        if record is None:
            raise InvalidSetting("nothing is recorded: ask for it with record='sums'")
        return tuple(
            recorded(
                self._question(spec, seen.kind, seen.classes or 0),
                tally,
                prior_sum=self._prior_sum(spec, tally),
                by_row=record == "rows",
            )
            for spec, tally in zip(self.inquiry.specs, seen.tallies, strict=True)
        )

    def _prior_sum(self, spec: BoundSpec, tally: Tally) -> float | None:
        kind = self.seen.kind
        if kind is None or kind == "probabilities":
            return None
        inquiry = replace(self.inquiry, specs=(spec,))
        mass = Mass.of(tally.summary.classes)
        return prior_sum(inquiry, mass, kind, each_block=self._each_block, device=self.device)

    def hardest_rows(self) -> set[int]:
        """Return the rows that ``hardest`` would list now, of any spec.

        So that whoever knows rows by names of their own need not keep those of all rows.
        """
        found = (tally.summary.hardest for tally in self.seen.tallies)
        return {row.row for hardest in found if hardest is not None for row in hardest.rows}

    def state_dict(self) -> State:
        """Return the sums as plain tensors by name, for another machine or a later day.

        Raises:
            CannotMerge: outputs that grow with the batch were asked for; they stay with it.
        """
        if self.inquiry.row_columns or "gradient" in self.inquiry.outputs or self.inquiry.compare:
            raise CannotMerge(
                "per_sample, gradient, row_statistics, reduction 'none', compare and record='rows' "
                "ask for rows, not sums: evaluate without them"
            )
        seen = self.seen
        kind = -1 if seen.kind is None else LABEL_KINDS.index(seen.kind)
        classes = -1 if seen.classes is None else seen.classes
        evidence = (seen.evidence.rows, seen.evidence.distributions)
        state = {"seen": torch.tensor([seen.rows, classes, kind, *evidence], dtype=torch.int64)}
        for place, tally in enumerate(seen.tallies):
            state |= {f"{place}.{name}": value for name, value in tally.summary.state().items()}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace what was seen by what :meth:`state_dict` of an equal evaluation returned."""
        rows, classes, kind, evidence_rows, distributions = state["seen"].tolist()
        self.seen = Seen(
            tallies=self.inquiry.empty_tallies(),
            contrast=self.inquiry.empty_contrast(),
            kind=None if kind < 0 else LABEL_KINDS[kind],
            classes=None if classes < 0 else classes,
            rows=rows,
            evidence=Evidence(evidence_rows, bool(distributions)),
        )
        for place, tally in enumerate(self.seen.tallies):
            tally.summary.load(below(f"{place}.", state))

    def _admit(self, logits: Tensor, labels: Tensor, sample_weights: Tensor | None) -> Chunk:
        """Return tensors that fit each other and the specs as a chunk."""
        options = self.inquiry.options
        layout = replace(Layout.of(logits.shape, options.class_axis), first=self.seen.first)
        dtype = compute_dtype(logits.dtype)
        labels = readable(labels)
        if self.seen.classes is not None and layout.classes not in (0, self.seen.classes):
            raise ShapeMismatch(
                f"logits have {layout.classes} classes, and {self.seen.classes} were expected",
                pointer="/logits",
            )
        kind = _kind_of(labels, layout, options)
        if layout.rows:
            kind = self._joined(kind)
            for place, spec in enumerate(self.inquiry.specs):
                with about(place):
                    spec.check(kind, layout.classes, self.inquiry.outputs)
        if dtype not in self._constants:
            self._constants[dtype] = Constants(dtype=dtype, device=self.device, passes=self._passes)
        chunk = Chunk(
            logits,
            labels,
            sample_weights,
            layout=layout,
            kind=kind,
            options=options,
            constants=self._constants[dtype],
            readings={spec.reading(kind) for spec in self.inquiry.specs},
        )
        if layout.classes and self.seen.shape not in (None, _shape_beyond_first(chunk)):
            raise ShapeMismatch(
                f"rows and labels of this chunk have shapes {_shape_beyond_first(chunk)} behind "
                f"their first axis, and those before had {self.seen.shape}",
                pointer="/logits",
            )
        return chunk

    def _joined(self, kind: LabelKind) -> LabelKind:
        """Return the kind of these labels and of all before them."""
        known = self.seen.kind
        joined = kind if known is None else join_kinds(known, kind)
        if joined is None or any(
            spec.family(known or joined) != spec.family(joined) for spec in self.inquiry.specs
        ):
            raise InvalidSetting(
                f"labels were {known} and now are {kind}: state their kind", pointer="/label_kind"
            )
        return joined

    def _may_read_labels_again(self, chunk: Chunk) -> bool:
        """Tell whether a comparison needs the chunk: its labels may turn out to be distributions.

        Those of this chunk alone do not decide it: one-hot labels become distributions where the
        labels of a later chunk are.
        """
        stated = self.inquiry.options.label_kind
        may_be = chunk.kind != "integer" and stated in ("auto", "probabilities")
        return self.inquiry.compare and may_be

    def _each_block(
        self, chunk: Chunk, work: Callable[[Block], T], *, sweeping: bool = False
    ) -> Iterator[T]:
        """Yield what the work makes of each block, in the order of the rows.

        Where it sweeps, blocks are larger, and it is left to it to await their rows.
        """
        passes = self._passes
        elements = passes.sweep_elements if sweeping else passes.block_elements
        rows = block_rows(chunk.layout.classes, self.device, elements=elements)
        for block in chunk.layout.blocks(rows):
            if self._cancelled():
                raise Cancelled("the evaluation was cancelled")
            if not sweeping:
                self._await_rows(block.stop)
            yield from self._halving(chunk, work, block)

    def _halving(self, chunk: Chunk, work: Callable[[Block], T], block: Block) -> list[T]:
        """Do the work; a block too large for the device's memory is halved."""
        try:
            return [work(block)]
        except torch.OutOfMemoryError:
            halves = chunk.layout.halves(block)
        if not halves:
            raise DeviceUnavailable(f"the memory of {self.device} is exhausted: try again later")
        return [found for half in halves for found in self._halving(chunk, work, half)]

    def _expected_gradients(self, chunk: Chunk) -> Gradients | None:
        """Return where to write gradients now, should every row count as much as any other.

        A mean's gradient is divided by what only all rows tell; where that is not what is expected
        here, it is computed once more in the end.
        """
        weighted = any(spec.class_weights is not None for spec in self.inquiry.specs)
        if "gradient" not in self.inquiry.outputs or weighted or chunk.is_weighted:
            return None
        rows = chunk.count_live()
        summary = Summary(rows=RowCounts(evaluated=rows), weight_sum=float(rows))
        scales = tuple(
            self._question(spec, chunk.kind, chunk.layout.classes).gradient_scale(summary)
            for spec in self.inquiry.specs
        )
        dtype = self.inquiry.options.gradient_dtype or chunk.dtype
        tensors = tuple(empty_on_host(chunk.shape, dtype) for _ in scales)
        return Gradients(scales, tensors, tuple(map(chunk.layout.classes_last, tensors)))

    def _gradients(self, scales: tuple[float, ...]) -> tuple[Tensor, ...]:
        """Return the gradient of each spec, in the shape and order of the logits.

        Blocks are written straight to their place: nothing of the whole size is there twice.
        """
        chunks = [chunk for chunk in self.seen.chunks if chunk.layout.rows] or self.seen.chunks[:1]
        # Rows follow each other along the first axis that is not the classes'.
        axis = int(chunks[0].layout.class_axis == 0)
        shape = list(chunks[0].shape)
        shape[axis] = sum(chunk.shape[axis] for chunk in chunks)
        dtype = self.inquiry.options.gradient_dtype or _widest(chunk.dtype for chunk in chunks)
        gradients = tuple(empty_on_host(shape, dtype) for _ in scales)
        first = 0
        for chunk in chunks:
            extent = chunk.shape[axis]
            parts = tuple(gradient.narrow(axis, first, extent) for gradient in gradients)
            views = tuple(map(chunk.layout.classes_last, parts))
            write = partial(self.inquiry.write_gradients, chunk, Gradients(scales, parts, views))
            for _ in self._each_block(chunk, write):
                pass
            first += extent
        return gradients

    def _question(self, spec: BoundSpec, kind: LabelKind | None, classes: int) -> Question:
        return Question(
            name=spec.name,
            variant=spec.variant.slug,
            family=spec.family(kind),
            settings=spec.asked,
            class_weights=spec.class_weights,
            options=self.inquiry.options,
            outputs=self.inquiry.outputs,
            classes=classes,
            label_kind=kind,
        )


def _same_question(mine: Inquiry, other: Inquiry) -> bool:
    def asked(inquiry: Inquiry) -> object:
        # As resolved: two batches that weigh their own classes differently do not add up.
        specs = [
            (spec.name, spec.variant.slug, spec.settings, spec.transformation)
            for spec in inquiry.specs
        ]
        return specs, inquiry.options, inquiry.outputs, inquiry.compare, inquiry.record

    return asked(mine) == asked(other)


def _widest(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    return reduce(torch.promote_types, dtypes)


def _shape_beyond_first(chunk: Chunk) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return chunk.layout.row_shape[1:], chunk.row_shape[1:]


def evaluate(  # noqa: PLR0913  (Evaluation's keywords)
    logits: Tensor,
    labels: Tensor,
    specs: Sequence[Spec],
    *,
    sample_weights: Tensor | None = None,
    outputs: Collection[Output] = (),
    options: Options | None = None,
    device: torch.device = CPU,
    cancelled: Callable[[], bool] = lambda: False,
    await_rows: Callable[[int], None] = lambda _: None,
    passes: Passes = EAGER,
) -> tuple[Result, ...]:
    """Evaluate variants on one batch: the result of :meth:`Evaluation.of`.

    Raises:
        XentError: as :class:`Evaluation` and :meth:`Evaluation.update` do.
    """
    return Evaluation.of(
        logits,
        labels,
        specs,
        sample_weights=sample_weights,
        outputs=outputs,
        options=options,
        device=device,
        cancelled=cancelled,
        await_rows=await_rows,
        passes=passes,
    ).result()


def evaluation_of(  # noqa: PLR0913  (Evaluation's keywords)
    shape: Sequence[int],
    labels: Tensor,
    specs: Sequence[Spec],
    *,
    sample_weights: Tensor | None = None,
    outputs: Collection[Output] = (),
    options: Options | None = None,
    device: torch.device = CPU,
    compare: bool = False,
    record: Record | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    passes: Passes = EAGER,
) -> Evaluation:
    """Return an :class:`Evaluation` that is to see a batch in chunks, and whose labels are known.

    Its answer is that of :func:`evaluate`: what only all labels together can tell, their kind and
    how many rows each class has, is taken from them now.

    ``shape`` is that of all logits, ``labels`` and ``sample_weights`` are those of all rows; the
    other arguments are :class:`Evaluation`'s.

    Raises:
        XentError: as :class:`Evaluation` does, and for shapes that do not fit each other.
    """
    options = options or Options()
    layout = Layout.of(shape, options.class_axis)
    labels = readable(labels)
    kind = _kind_of(labels, layout, options)
    if sample_weights is not None:
        check_weights(sample_weights, layout)
    counts = None
    if _need_counts(specs):
        counts = _class_counts(labels, kind, layout, options)
    evaluation = Evaluation(
        specs,
        outputs=outputs,
        options=options,
        device=device,
        class_counts=counts,
        compare=compare,
        record=record,
        cancelled=cancelled,
        passes=passes,
    )
    if layout.rows:
        evaluation.seen.kind = kind
    return evaluation


def _need_counts(specs: Sequence[Spec]) -> bool:
    needed = False
    for place, spec in enumerate(specs):
        with about(place):
            variant = find_variant(spec.variant)
            needed |= variant.needs_class_counts(settings_of(variant, spec.settings))
    return needed


def _kind_of(labels: Tensor, layout: Layout, options: Options) -> LabelKind:
    """Return the kind of labels, which must fit the layout: as stated, or as they tell."""
    check_shapes(labels, layout, options.label_kind)
    if options.label_kind != "auto":
        return options.label_kind
    return decide_kind(labels, layout, options.ignore_index)


def _class_counts(labels: Tensor, kind: LabelKind, layout: Layout, options: Options) -> list[int]:
    reader = LabelReader(kind, layout, options, dtype=torch.float64, readings={"classes"})
    rows = block_rows(layout.classes, CPU, elements=EAGER.block_elements)
    return count_classes(labels, reader, layout, rows)
