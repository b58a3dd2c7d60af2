"""One block of a chunk under every spec: what it adds to the sums, and its rows' own answers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import cast

import torch
from torch import Tensor

from xentcore.chunk import BlockRows, Chunk, Measuring, Rows, UsableRows
from xentcore.contrast import Contrast
from xentcore.diagnostics import Evidence
from xentcore.errors import NonFinite, pointer_to
from xentcore.gradients import Gradients
from xentcore.layout import Block
from xentcore.options import (
    RECORDED,
    Family,
    LabelKind,
    Options,
    Output,
    Reading,
    Record,
)
from xentcore.row_outputs import (
    LOSS_COLUMNS,
    RECORD_COLUMNS,
    STATISTICS_COLUMNS,
    RowOutputs,
    RowStatus,
    statistics_columns,
)
from xentcore.row_statistics import RowStatistics, Scope
from xentcore.scoring import Scored, summarise
from xentcore.spec import BoundSpec
from xentcore.summary import Summary
from xentcore.sweep import sweep
from xentcore.transformation import Transformation


@dataclass(slots=True)
class Tally:
    """What one spec has seen: sums, and columns with one number per row."""

    summary: Summary
    per_row: RowOutputs

    def merge(self, other: "Tally", *, first_row: int = 0) -> None:
        """Add what another tally has seen, whose row 0 is this one's row ``first_row``."""
        self.summary.merge(other.summary, first_row=first_row)
        self.per_row.merge(other.per_row)


@dataclass(frozen=True)
class Inquiry:
    """What is asked of every row: the specs, how to read the batch, and what to answer.

    Attributes:
        compare: whether the specs are also compared with each other.
        record: what will be kept for later days; ``None`` for nothing.
    """

    specs: Sequence[BoundSpec]
    options: Options
    outputs: frozenset[Output]
    compare: bool = False
    record: Record | None = None

    @cached_property
    def summed(self) -> frozenset[Output]:
        """The outputs whose sums are needed: those asked for, and those that are recorded."""
        return self.outputs if self.record is None else self.outputs | RECORDED

    @property
    def row_columns(self) -> tuple[str, ...]:
        """The columns asked for that have one number per row."""
        by_row = self.record == "rows"
        losses = "per_sample" in self.outputs or self.options.reduction == "none" or by_row
        return (
            (LOSS_COLUMNS if losses else ())
            + (RECORD_COLUMNS if by_row else ())
            + (STATISTICS_COLUMNS if "row_statistics" in self.outputs else ())
        )

    def empty_tally(self) -> Tally:
        """Return what a spec has seen before the first row."""
        return Tally(
            Summary.empty(
                self.summed, hardest=self.options.hardest, squares=self.record is not None
            ),
            RowOutputs(self.row_columns),
        )

    def empty_tallies(self) -> list[Tally]:
        """Return one for each spec."""
        return [self.empty_tally() for _ in self.specs]

    def empty_contrast(self) -> Contrast:
        """Return what the specs are compared by before the first row; of none if they are not."""
        return Contrast.empty(len(self.specs) if self.compare else 0)

    def sweeps(self, chunk: Chunk) -> bool:
        """Whether nothing but the passes will look at the logits of a chunk."""
        return (
            chunk.kind == "integer"
            and chunk.is_in_place
            and not self.compare
            and "gradient" not in self.outputs
            # Breakdowns of several sum exp u once for each: better while it is in the cache.
            and ("per_class" not in self.summed or len(self.specs) == 1)
            and all(
                spec.family(chunk.kind) == "softmax"
                and spec.transformation is None
                and (
                    spec.source_of_rows == "measured"
                    # The gradient of the others, which breakdowns sum, looks at every logit.
                    or ("per_class" not in self.summed and spec.source_of_rows != "logits")
                )
                for spec in self.specs
            )
        )

    def tally(
        self,
        chunk: Chunk,
        gradients: Gradients | None,
        await_rows: Callable[[int], None] | None,
        block: Block,
    ) -> tuple[list[Tally], Evidence, Contrast | None]:
        """Return what a block adds to each spec, what its rows look like, and what compares.

        Args:
            chunk: what the block is of.
            gradients: of the chunk, to be written too; ``None`` for not now.
            await_rows: where rows are swept: called with a row number of the chunk before rows
                below it are read. ``None`` where they are not.
            block: which rows.

        Raises:
            InvalidTensor: labels, weights or logits of the block that cannot be evaluated.
        """
        rows = chunk.read(block)
        measuring = None
        if await_rows is not None:
            measuring = partial(
                sweep,
                scope=self._scope,
                sources={spec.source_of_rows for spec in self.specs},
                await_rows=lambda row: await_rows(block.start + row),
            )
        tallies: dict[int, Tally] = {}
        compared: list[Sequence[tuple[Rows, Scored]]] = [()] * len(self.specs)
        found = self.score(chunk, rows, scope=self._scope, measuring=measuring)
        for place, unusable, scored in found:
            spec = self.specs[place]
            tallies[place] = self._tally_spec(spec, chunk, rows, unusable, scored)
            if gradients is not None:
                gradients.write(place, scored, block, rows.values)
            if self.compare:
                compared[place] = scored
        evidence = Evidence()
        if self.options.input == "logits":
            evidence.see(rows.values, rows.labels.ignored)
        in_order = [tallies[place] for place in range(len(self.specs))]
        if not self.compare:
            return in_order, evidence, None
        softmax = any(spec.family(chunk.kind) == "softmax" for spec in self.specs)
        return in_order, evidence, Contrast.of(rows, compared, softmax=softmax)

    def write_gradients(self, chunk: Chunk, gradients: Gradients, block: Block) -> None:
        """Write the gradient of each spec for a block."""
        rows = chunk.read(block)
        for place, _, scored in self.score(chunk, rows):
            gradients.write(place, scored, block, rows.values)

    @cached_property
    def _scope(self) -> Scope:
        if "row_statistics" in self.summed:
            return "everything"
        if "calibration" in self.summed:
            return "spread"
        # To compare gradients takes exp u too: what is kept need not be computed again.
        return "columns" if self.compare or {"per_class", "gradient"} & self.summed else "rows"

    @cached_property
    def _first_alike(self) -> tuple[int, ...]:
        """For each spec the place of the first one with an equal transformation.

        Found once: to compare a million offsets for every block would cost more than the block.
        """
        first: dict[Transformation | None, int] = {}
        return tuple(
            first.setdefault(spec.transformation, place) for place, spec in enumerate(self.specs)
        )

    def _passes(self, kind: LabelKind) -> list[list[int]]:
        """Return the places of the specs, those together that share a pass."""
        passes: dict[tuple[Family, Reading, int], list[int]] = {}
        for place, (spec, alike) in enumerate(zip(self.specs, self._first_alike, strict=True)):
            key = (spec.family(kind), spec.reading(kind), alike)
            passes.setdefault(key, []).append(place)
        return list(passes.values())

    def score(
        self,
        chunk: Chunk,
        rows: BlockRows,
        *,
        scope: Scope = "columns",
        measuring: Measuring | None = None,
    ) -> Iterator[tuple[int, Tensor | None, list[tuple[Rows, Scored]]]]:
        """Yield the place of each spec, which rows it cannot use, and the others scored.

        Pass by pass, so that what one measured is gone before the next but one begins. ``scope``:
        what will be asked about the rows; ``measuring``: what measures them before.
        """
        usable: dict[Family, UsableRows] = {}
        for places in self._passes(chunk.kind):
            first = self.specs[places[0]]
            family = first.family(chunk.kind)
            if family not in usable:
                usable[family] = chunk.usable(rows, family, measuring)
            reading, transformation = first.reading(chunk.kind), first.transformation
            parts = chunk.measure(usable[family], reading, transformation, scope=scope)
            for place in places:
                score = self.specs[place].score
                scored = [(part, score(part.body, part.weights, self.options)) for part in parts]
                yield place, usable[family].unusable, scored

    def _summarise(
        self,
        spec: BoundSpec,
        chunk: Chunk,
        rows: BlockRows,
        scored: Sequence[tuple[Rows, Scored]],
    ) -> Summary:
        weights = spec.class_weights
        vector = None if weights is None else chunk.constants.vector(weights)
        # Integer labels under softmax: the rows' columns tell all. Sums as wide as the classes, one
        # more in each block, would cost more than the block where there are very many.
        wide = chunk.kind != "integer" or spec.family(chunk.kind) == "sigmoid"
        priors = self.record is not None or (self.compare and wide)
        summaries = []
        for part, score in scored:
            if self.options.nonfinite == "reject":
                _refuse_infinite(chunk, rows.block, part, score)
            summary = summarise(
                score,
                vector,
                self.summed,
                hardest=self.options.hardest,
                numbers=part.positions + rows.block.start,
                squares=self.record is not None,
            )
            if priors:
                # Sums that are there already stay: answers do not depend on who else asks.
                summary.classes = score.comparison_sums() | summary.classes
            summaries.append(summary)
        if not summaries:
            return self.empty_tally().summary
        for summary in summaries[1:]:
            summaries[0].merge(summary)
        return summaries[0]

    def _tally_spec(
        self,
        spec: BoundSpec,
        chunk: Chunk,
        rows: BlockRows,
        unusable: Tensor | None,
        scored: Sequence[tuple[Rows, Scored]],
    ) -> Tally:
        tally = Tally(self._summarise(spec, chunk, rows, scored), RowOutputs(self.row_columns))
        ignored = rows.labels.ignored
        tally.summary.rows.ignored = 0 if ignored is None else int(ignored.sum())
        tally.summary.rows.nonfinite = 0 if unusable is None else int(unusable.sum())
        columns = self.row_columns
        if "per_sample" in columns:
            tally.per_row.add(_losses(rows, unusable, scored))
        if self.record == "rows":
            weights = spec.class_weights
            vector = None if weights is None else chunk.constants.vector(weights)
            tally.per_row.add(_record(rows, scored, vector))
        if "rank" in columns:
            tally.per_row.add(_statistics(rows, scored))
        return tally


def _losses(
    rows: BlockRows, unusable: Tensor | None, scored: Sequence[tuple[Rows, Scored]]
) -> dict[str, Tensor]:
    loss = rows.column([(part.positions, score.fate.loss) for part, score in scored])
    status = torch.zeros_like(loss, dtype=torch.int8)
    if rows.labels.ignored is not None:
        status[rows.labels.ignored] = RowStatus.IGNORED
    if unusable is not None:
        status[unusable] = RowStatus.NONFINITE
    for part, score in scored:
        if score.fate.infinite is not None:
            status[part.positions[score.fate.infinite]] = RowStatus.INFINITE
    return {"per_sample": loss, "status": status}


def _record(
    rows: BlockRows, scored: Sequence[tuple[Rows, Scored]], class_weights: Tensor | None
) -> dict[str, Tensor]:
    weights, labels = [], []
    for part, score in scored:
        weight = score.label_weights(class_weights)
        ones = torch.ones_like(score.fate.loss)
        weights.append((part.positions, ones if weight is None else weight))
        if isinstance(part.body, RowStatistics):
            labels.append((part.positions, part.body.label.double()))
    return {"weight": rows.column(weights), "label": rows.column(labels)}


def _statistics(rows: BlockRows, scored: Sequence[tuple[Rows, Scored]]) -> dict[str, Tensor]:
    # Asked of the sigmoid family, they were refused at the door.
    found = [
        (part.positions, statistics_columns(cast("RowStatistics", part.body), part.largest))
        for part, _ in scored
    ]
    return {
        name: rows.column([(positions, columns[name]) for positions, columns in found])
        for name in STATISTICS_COLUMNS
    }


def _refuse_infinite(chunk: Chunk, block: Block, part: Rows, score: Scored) -> None:
    if score.fate.infinite is None:
        return
    row = int(part.positions[score.fate.infinite][0]) + block.start
    position = chunk.layout.position(row)
    raise NonFinite(
        f"the loss of row {position} is infinite, its label stands on a logit of -inf: "
        "leave the row out, or ask for nonfinite 'exclude'",
        pointer=pointer_to("labels", position),
    )
