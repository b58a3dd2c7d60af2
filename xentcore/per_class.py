"""The columns of the per-class breakdown: how each is summed, and how the sums become columns.

Softmax family. A row belongs to its label, a distribution to its most probable class.

    support             rows of the class
    weight              sum of s_r * w_c t_rc, the class's share of the ``weights`` denominator
    loss_sum            nats, all weights included; the classes add up to the reduction's sum
    loss_mean           loss_sum over the class's share of the denominator
    loss_share          loss_sum over the sum of all classes
    recall              share of the class's rows that are predicted right
    predicted           rows predicted to be of the class
    mean_probability    mean of p_c over all evaluated rows
    gradient_norm_mean  mean over the class's rows of ||d loss_r / d z_r||, before reduction
    gradient_sum        sum over all rows of the gradient's column, as reduced

Sigmoid family. Every row has an element in every class; positive: t >= 1/2, predicted: p >= 1/2.

    support             elements of the class: positives + negatives
    positives, negatives, positive_loss_sum, negative_loss_sum
    true_positives, false_positives, true_negatives, false_negatives
    recall              true positives over positives
    predicted           elements predicted positive
    and the columns above, with the mean of gradient_norm over all elements of the class.

A mean over nothing is NaN, never 0; for softmax every mean of a class without rows is.
"""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from xentcore.elements import Elements, ElementTerms
from xentcore.memory import lent
from xentcore.options import Family, Normaliser
from xentcore.result import ratios
from xentcore.row_statistics import RowStatistics, RowTerms, gradient, times

Sums = dict[str, Tensor]

REST: Final = -1


def softmax_sums(
    statistics: RowStatistics,
    terms: RowTerms,
    *,
    factors: Tensor | None,
    kept: Tensor | None,
    squares: bool,
) -> Sums:
    """Return sums per class over rows, (classes,), int64 or float64.

    Args:
        statistics: rows that were measured.
        terms: a variant's terms for them.
        factors: sample weight per row, 0 where the row is excluded, (rows,), float64; ``None`` for
            ones.
        kept: rows that are evaluated, (rows,), bool; ``None`` for all.
        squares: whether to sum squares too.
    """
    classes = statistics.classes
    label, predicted = statistics.label, statistics.prediction
    hit = predicted == label
    per_row = statistics.confidence
    pull, scale = terms.at_label, terms.scale
    if factors is not None:
        # Excluded rows may hold anything, and must count as 0.
        weigh = torch.mul if kept is None else times
        pull, scale = None if pull is None else weigh(factors, pull), weigh(factors, scale)
    if kept is not None:
        hit, predicted = hit & kept, predicted[kept]
        per_row = per_row.masked_fill(~kept, 0)
    others = statistics.probability_sums if kept is None else statistics.others_sums(per_row)
    if terms.is_plain and pull is not None:
        # Without a gradient tensor: ||scale (p - e_y)||^2 from sums that leave the label out.
        scale = scale * per_row
        norm = torch.addcmul(pull.square(), scale.square(), statistics.others_squared).sqrt()
        # Without any weights the gradient's columns are those of p.
        column = others if torch.equal(scale, per_row) else statistics.others_sums(scale)
        column = column.index_add(0, statistics.pivot, pull)
    else:
        ones = torch.ones_like(per_row)
        with lent(statistics.logits) as rows:
            gradient(statistics, terms, ones if factors is None else factors, rows)
            norm = torch.linalg.vector_norm(rows, dim=1).double()
            column = statistics.constants.passes.column_sums(rows, ones)
    at_pivot = statistics.pivot_exp * per_row
    found = {
        # Counted as numbers: to select the hits first takes longer. Exact below 2^53.
        "true_positives": torch.bincount(label, hit.double(), minlength=classes).long(),
        "predicted": torch.bincount(predicted, minlength=classes),
        "probability_sum": others.index_add(0, statistics.pivot, at_pivot),
        "gradient_norm_sum": torch.bincount(label, norm, minlength=classes),
        "gradient_sum": column,
    }
    if squares:
        found["gradient_norm_square_sum"] = torch.bincount(label, norm.square(), minlength=classes)
    return found


def sigmoid_sums(
    block: Elements, terms: ElementTerms, *, factors: Tensor, kept: Tensor | None
) -> Sums:
    """Return sums per class over elements; see :func:`softmax_sums`."""
    counted = torch.ones_like(factors) if kept is None else kept.double()
    (
        positives,
        predicted,
        true_positives,
        positive_loss,
        negative_loss,
        probability,
        magnitude,
        slope,
        weight,
    ) = block.constants.passes.element_sums(
        block.logits, block.targets, block.probability, terms.loss, terms.gradient, counted, factors
    )
    rows = counted.sum().long()
    # Whole numbers below 2^53: exact in float64.
    positives, predicted = positives.long(), predicted.long()
    true_positives = true_positives.long()
    false_positives = predicted - true_positives
    negatives = rows - positives
    return {
        "weight": weight,
        "loss_sum": positive_loss + negative_loss,
        "positives": positives,
        "negatives": negatives,
        "positive_loss_sum": positive_loss,
        "negative_loss_sum": negative_loss,
        "true_positives": true_positives,
        "predicted": predicted,
        "false_positives": false_positives,
        "true_negatives": negatives - false_positives,
        "false_negatives": positives - true_positives,
        "probability_sum": probability,
        "gradient_norm_sum": magnitude,
        "gradient_sum": slope,
    }


def columns(
    sums: Mapping[str, Tensor],
    *,
    family: Family,
    classes: int,
    normaliser: Normaliser,
    gradient_scale: float,
    limit: int | None,
) -> Sums:
    """Return the columns of the breakdown, ``class`` first.

    Args:
        sums: of an evaluation, float64 and int64, (classes,); none where no row was seen.
        family: which columns there are.
        classes: how many.
        normaliser: what ``loss_mean`` divides by.
        gradient_scale: what the reduction multiplied the gradient of the sum by.
        limit: list this many classes of largest loss and fold the rest into one row, class REST.
    """
    names = dict.fromkeys((*_BOTH, *_SHOWN[family]))
    sums = {name: sums.get(name, torch.zeros(classes, dtype=torch.float64)) for name in names}
    rows = sums["support"].sum()
    index, fold = _listing(sums["loss_sum"], limit)
    sums = {name: fold(column) for name, column in sums.items()}
    support, loss_sum = sums["support"], sums["loss_sum"]
    share = {
        "weights": sums["weight"],
        "rows": support,
        "elements": support * (classes if family == "softmax" else 1),
    }[normaliser]
    positives = support if family == "softmax" else sums["positives"]
    # Softmax: every row has a probability for the class, though it supports only one.
    decisions = rows.expand(len(index)) if family == "softmax" else support
    mean_probability = ratios(sums["probability_sum"], decisions)
    found = {
        "class": index,
        "support": support,
        "weight": sums["weight"],
        "loss_sum": loss_sum,
        "loss_mean": ratios(loss_sum, share),
        "loss_share": ratios(loss_sum, loss_sum.sum().expand(len(index))),
        "recall": ratios(sums["true_positives"], positives),
        "predicted": sums["predicted"],
        "mean_probability": mean_probability.masked_fill(support == 0, torch.nan),
        "gradient_norm_mean": ratios(sums["gradient_norm_sum"], support),
        "gradient_sum": sums["gradient_sum"] * gradient_scale,
    }
    return found | {name: sums[name] for name in _SHOWN[family]}


def loss_shares(loss_sum: Tensor, limit: int | None) -> Sums:
    """Return the columns ``class`` and ``share`` of the loss, listed as :func:`columns` lists.

    Args:
        loss_sum: nats, (classes,), float64.
        limit: list this many classes and fold the rest into one row, class REST.
    """
    index, fold = _listing(loss_sum, limit)
    listed = fold(loss_sum)
    return {"class": index, "share": ratios(listed, listed.sum().expand(len(index)))}


_BOTH: Final = (
    "support",
    "weight",
    "loss_sum",
    "true_positives",
    "predicted",
    "probability_sum",
    "gradient_norm_sum",
    "gradient_sum",
)
_SIDES: Final = (
    "positives",
    "negatives",
    "positive_loss_sum",
    "negative_loss_sum",
    "true_positives",
    "false_positives",
    "true_negatives",
    "false_negatives",
)
_SHOWN: Final[Mapping[Family, tuple[str, ...]]] = {"softmax": (), "sigmoid": _SIDES}


def _listing(loss_sum: Tensor, limit: int | None) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return which classes are listed, and what makes a column of all classes one of those."""
    classes = len(loss_sum)
    if limit is None or classes <= limit:
        return torch.arange(classes), lambda column: column
    order = loss_sum.sort(descending=True, stable=True).indices

    def fold(column: Tensor) -> Tensor:
        column = column[order]
        return torch.cat([column[:limit], column[limit:].sum(dim=0, keepdim=True)])

    return torch.cat([order[:limit], torch.tensor([REST])]), fold
