"""What the sender of a batch should know about it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from xentcore.result import Diagnostic
from xentcore.summary import Summary

_SUM_TOLERANCE: Final = 1e-3


@dataclass(slots=True)
class Evidence:
    """Whether all logits seen so far look like probabilities: in [0, 1], rows summing to 1."""

    rows: int = 0
    distributions: bool = True

    def see(self, logits: Tensor, ignored: Tensor | None) -> None:
        """Look at more rows, (rows, classes). Ordinary logits are told by the first row."""
        if ignored is not None:
            logits = logits[~ignored]
        self.rows += len(logits)
        self.distributions &= all(_are_distributions(some) for some in (logits[:1], logits))

    def merge(self, other: "Evidence") -> None:
        """Add what another evaluation saw."""
        self.rows += other.rows
        self.distributions &= other.distributions

    @property
    def double_softmax(self) -> bool:
        """Whether rows were seen and every one looks like the output of a softmax."""
        return self.rows > 0 and self.distributions


def _are_distributions(logits: Tensor) -> bool:
    if not logits.numel():
        return True
    low, high = logits.aminmax()
    if not (low >= 0 and high <= 1):
        return False
    off = (logits.sum(dim=1, dtype=torch.float64) - 1).abs()
    return bool(off.max() < _SUM_TOLERANCE)


def diagnose(
    summary: Summary, evidence: Evidence, *, classes: int, weighted: bool
) -> Iterator[Diagnostic]:
    """Yield what is worth knowing, in a fixed order.

    Args:
        summary: of the variant.
        evidence: of double softmax; of the softmax family only.
        classes: how many.
        weighted: whether class weights that differ enter the denominator.
    """
    rows = summary.rows
    if evidence.double_softmax and classes > 1:
        floor = math.log(math.e + classes - 1) - 1
        yield Diagnostic(
            "double_softmax",
            "warning",
            "every row lies in [0, 1] and sums to 1: these look like probabilities, and softmax is "
            f"applied to them as to logits; cross-entropy cannot fall below {floor:.6g}. "
            "State input 'probabilities' if they are",
            evidence.rows,
        )
    if rows.saturated:
        yield Diagnostic(
            "saturated",
            "info",
            f"the loss of {rows.saturated} rows is too small to tell from 0 in the arithmetic used",
            rows.saturated,
        )
    if rows.nonfinite:
        yield Diagnostic(
            "nonfinite",
            "warning",
            f"{rows.nonfinite} rows hold a NaN or an infinite logit",
            rows.nonfinite,
        )
    if rows.infinite:
        yield Diagnostic(
            "infinite_loss",
            "warning",
            f"{rows.infinite} rows have an infinite loss: a label on a logit of -inf",
            rows.infinite,
        )
    yield from _class_diagnostics(summary, weighted=weighted)
    if not rows.evaluated:
        yield Diagnostic("nothing_evaluated", "warning", "no row was evaluated", 0)


def _class_diagnostics(summary: Summary, *, weighted: bool) -> Iterator[Diagnostic]:
    if not summary.rows.evaluated:
        return
    sigmoid = "positives" in summary.classes
    held = summary.classes["positives" if sigmoid else "support"]
    absent = int((held == 0).sum())
    if absent:
        yield Diagnostic(
            "absent_classes",
            "info",
            f"{absent} of {len(held)} classes have no {'positive' if sigmoid else 'row'}",
            absent,
        )
    if sigmoid:
        single = len(held) == 1 and held.item() in (0, summary.rows.evaluated)
    else:
        single = absent == len(held) - 1
    if single:
        yield Diagnostic(
            "single_class", "info", "all evaluated rows have the same label", summary.rows.evaluated
        )
    if single and weighted and not sigmoid:
        yield Diagnostic(
            "weights_cancel",
            "info",
            "all rows weigh the same, and the mean divides by their weights: "
            "class weights do not change it",
            summary.rows.evaluated,
        )
