"""Losses that are linear in -log p, and those that add a term to them."""

from dataclasses import replace
from typing import Any

from service.graphs.expression import Value, times, where
from service.graphs.softmax import Rows, RowTerms


def cross_entropy(rows: Rows, settings: Any = None) -> RowTerms:  # noqa: ARG001  (as all losses)
    """-sum_c a_c log p_c, a = w*t: what the logits and the weights are, the variant has decided."""
    if rows.targets is not None:
        return _dense(rows, rows.weighted_targets(rows.weights))
    weight = rows.weight_at_label(rows.weights)
    return RowTerms(
        loss=times(weight, rows.pivot_surprise),
        scale=weight,
        at_label=-weight * rows.pivot_complement,
    )


def label_smoothing(rows: Rows, settings: Any) -> RowTerms:
    """-sum_c a_c log p_c, a = w*t', t' = (1-e)t + e/C (uniform) or (1-e)t + (1-t)e/(C-1)."""
    e = settings.smoothing
    if e == 0:
        return cross_entropy(rows)
    spread = e / (rows.classes if settings.spread == "uniform" else rows.classes - 1)
    keep = 1 - e if settings.spread == "uniform" else 1 - e - spread
    smoothed = rows.weighted_targets(None) * keep + spread
    if rows.weights is not None:
        smoothed = smoothed * rows.graph.vector(rows.weights)
    return _dense(rows, smoothed)


def z_loss(rows: Rows, settings: Any) -> RowTerms:
    """-sum_c t_c log p_c + lambda lse^2, lse = log sum_c exp z_c."""
    terms = cross_entropy(rows)
    lse = rows.maximum + rows.log_partition
    push = 2 * settings.penalty * lse
    at_label = terms.at_label
    if at_label is not None:
        at_label = at_label + push * rows.pivot_probability
    loss = terms.loss + settings.penalty * lse * lse
    return replace(terms, loss=loss, scale=terms.scale + push, at_label=at_label)


def confidence_penalty(rows: Rows, settings: Any) -> RowTerms:
    """-sum_c t_c log p_c - beta H(p), H(p) = -sum_c p_c log p_c."""
    terms, beta = cross_entropy(rows), settings.beta
    if beta == 0:
        return terms
    pull = beta * times(rows.probabilities, rows.log_probabilities + rows.entropy)
    at_label = terms.at_label
    if at_label is not None:
        doubt = rows.entropy - rows.pivot_surprise
        at_label = at_label + beta * times(rows.pivot_probability, doubt)
    return replace(
        terms,
        loss=terms.loss - beta * rows.entropy,
        subtract=-pull if terms.subtract is None else terms.subtract - pull,
        at_label=at_label,
    )


def ldam(rows: Rows, settings: Any) -> RowTerms:
    """-w_y log softmax(s (z - D_y e_y))_y, D_c = max_margin (min n / n_c)^(1/4)."""
    counts = settings.class_counts
    reach = settings.scale * settings.max_margin
    margins = tuple(reach * (min(counts) / n) ** 0.25 for n in counts)
    at_label = rows.pivot_shifted - rows.weight_at_label(margins)
    partition = rows.others + at_label.exp()
    # -log p at the label is the softplus of what all others have over it.
    ahead = rows.others.log() - at_label
    weight = rows.weight_at_label(rows.weights)
    return RowTerms(
        loss=times(weight, ahead.at_least(0.0) + (-ahead.abs()).exp().log1p()),
        scale=weight * (rows.partition / partition),
        at_label=-weight * (rows.others / partition),
    )


def _dense(rows: Rows, a: Value) -> RowTerms:
    loss = times(a, -rows.log_probabilities).row_sum()
    return RowTerms(loss=loss, scale=a.row_sum(), subtract=a)


def symmetric_on_distribution(rows: Rows, targets: Value, settings: Any) -> RowTerms:
    """-alpha sum_c t_c log p_c - beta sum_c p_c max(log t_c, A)."""
    alpha, beta, p = settings.alpha, settings.beta, rows.probabilities
    g = -where(targets.equals(0.0), settings.log_zero, targets.log()).at_least(settings.log_zero)
    reverse = (g * p).row_sum()
    # A constant in g changes no gradient. With g = 0 at the pivot the largest p is multiplied by
    # sums of small ones, and nothing cancels where it is close to 1.
    less = g - where(rows.is_pivot, g, 0.0).row_sum()
    pull = p * (less - (less * p).row_sum())
    if alpha == 0:  # 0 * inf counts as 0
        zero = rows.graph.number(0.0)
        return RowTerms(loss=beta * reverse, scale=zero, subtract=-(beta * pull))
    forward = cross_entropy(rows)
    return RowTerms(
        loss=alpha * forward.loss + beta * reverse,
        scale=alpha * forward.scale,
        subtract=alpha * targets - beta * pull,
    )
