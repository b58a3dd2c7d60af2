"""The pass of the softmax family, and the gradient that is made of a loss's terms.

As :mod:`xentcore.softmax` has it: with ``u = z - max z`` it is ``log p = u - log sum exp u``, and
sums leave the *pivot* out, the label where there is one and the largest logit otherwise, so that
``1 - p = others / partition`` keeps its digits at p -> 1.

Everywhere: matrices are (rows, classes), numbers per row (rows, 1), all float64.
"""

from dataclasses import dataclass
from functools import cached_property
from math import inf

from service.graphs.expression import DOUBLE, Graph, Value, times, where


@dataclass(frozen=True, slots=True)
class RowTerms:
    """A loss per row, and what its gradient consists of.

    The gradient of a row is ``scale * p - subtract``, and ``at_label`` at the label.

    Attributes:
        loss: (rows, 1), nats.
        scale: (rows, 1).
        subtract: (classes,) or (rows, classes); ``None`` for nothing.
        at_label: (rows, 1); ``None`` for nothing special.
    """

    loss: Value
    scale: Value
    subtract: Value | None = None
    at_label: Value | None = None


@dataclass(frozen=True)
class Rows:
    """Rows of logits and their labels.

    Attributes:
        graph: that is written.
        logits: z, as they are given.
        classes: how many there are.
        label: the class of each row, int64, (rows, 1); ``None`` where ``targets`` are given.
        targets: label distributions; ``None`` where ``label`` is given.
        weights: w of the classes; ``None`` for ones.
        scale: what logits are multiplied by.
        offsets: what is added to them after that, one per class; ``None`` for zeros.
    """

    graph: Graph
    logits: Value
    classes: int
    label: Value | None
    targets: Value | None
    weights: tuple[float, ...] | None
    scale: float = 1.0
    offsets: tuple[float, ...] | None = None

    @cached_property
    def _given_maximum(self) -> Value:
        return self.logits.row_max()

    @cached_property
    def blank(self) -> Value:
        """Rows of -inf alone: no class is possible, and the loss is +inf."""
        return self._given_maximum.equals(-inf)

    @cached_property
    def _anchor(self) -> Value:
        return where(self.blank, 0.0, self._given_maximum)

    @cached_property
    def _adjusted(self) -> Value:
        shifted = self.logits - self._anchor
        if self.scale != 1:
            shifted = shifted * self.scale
        return shifted if self.offsets is None else shifted + self.graph.vector(self.offsets)

    @cached_property
    def _top(self) -> Value | None:
        """What the largest became: 0 where nothing was added."""
        if self.offsets is None:
            return None
        return where(self.blank, 0.0, self._adjusted.row_max())

    @cached_property
    def shifted(self) -> Value:
        """U = z - max z, of the logits as they were changed."""
        return self._adjusted if self._top is None else self._adjusted - self._top

    @cached_property
    def maximum(self) -> Value:
        """Max z, of the logits as they were changed."""
        scaled = self._anchor if self.scale == 1 else self._anchor * self.scale
        return scaled if self._top is None else scaled + self._top

    @cached_property
    def is_pivot(self) -> Value:
        """Where the pivot is."""
        pivot = self.shifted.row_peak() if self.label is None else self.label
        return self.graph.range(self.classes).equals(pivot)

    @cached_property
    def pivot_shifted(self) -> Value:
        """U at the pivot."""
        return where(self.is_pivot, self.shifted, 0.0).row_sum()

    @cached_property
    def exp_others(self) -> Value:
        """Exp u, 0 at the pivot."""
        return where(self.is_pivot, 0.0, self.shifted.exp())

    @cached_property
    def others(self) -> Value:
        """Sum of exp u over the classes but the pivot."""
        return self.exp_others.row_sum()

    @cached_property
    def pivot_exp(self) -> Value:
        """Exp u at the pivot."""
        return self.pivot_shifted.exp()

    @cached_property
    def partition(self) -> Value:
        """Sum of exp u."""
        return self.pivot_exp + self.others

    @cached_property
    def log_partition(self) -> Value:
        """Log sum exp u. log1p: at others = 1e-17 the sum rounds to 1 and its logarithm to 0."""
        return where(self.pivot_exp.equals(1.0), self.others.log1p(), self.partition.log())

    @cached_property
    def pivot_probability(self) -> Value:
        """P at the pivot."""
        return self.pivot_exp / self.partition

    @cached_property
    def pivot_complement(self) -> Value:
        """1 - p at the pivot, without cancellation."""
        return self.others / self.partition

    @cached_property
    def pivot_surprise(self) -> Value:
        """-log p at the pivot."""
        return self.log_partition - self.pivot_shifted

    @cached_property
    def log_probabilities(self) -> Value:
        """Log p of every class."""
        return self.shifted - self.log_partition

    @cached_property
    def probabilities(self) -> Value:
        """P of every class."""
        return self.shifted.exp() / self.partition

    @cached_property
    def entropy(self) -> Value:
        """-sum p log p, nats."""
        spread = times(self.shifted.exp(), self.shifted).row_sum()
        return self.log_partition - spread / self.partition

    def weight_at_label(self, values: tuple[float, ...] | float | None) -> Value:
        """Return the entry of the row's label; a scalar where all classes have the same."""
        if isinstance(values, tuple):
            if self.label is None:
                raise AssertionError("distributions have no label")
            return self.graph.vector(values).at(self.label)
        return self.graph.number(1.0 if values is None else values)

    def weighted_targets(self, values: tuple[float, ...] | float | None) -> Value:
        """Return t*w of every class, of a label too."""
        t = self.is_pivot.cast(DOUBLE) if self.targets is None else self.targets
        if values is None:
            return t
        return t * (self.graph.vector(values) if isinstance(values, tuple) else values)

    def denominator(self) -> Value:
        """Return what rows add to the denominator of the mean, w of the label, (rows, 1)."""
        if self.targets is None or self.weights is None:
            return self.weight_at_label(self.weights)
        return self.weighted_targets(self.weights).row_sum()

    def gradient(self, terms: RowTerms) -> Value:
        """Return d loss / d logits, by the logits as they are given."""
        others = self.probabilities if terms.at_label is None else self.exp_others / self.partition
        found = terms.scale * others
        if terms.subtract is not None:
            found = found - terms.subtract
        if terms.at_label is not None:
            found = where(self.is_pivot, terms.at_label, found)
        return found if self.scale == 1 else found * self.scale
