"""Bi-tempered logistic loss: a bounded loss over a softmax with a heavy tail."""

from dataclasses import dataclass

import torch
from torch import Tensor

from xentcore.options import Source
from xentcore.row_statistics import RowStatistics, RowTerms, times
from xentcore.surprise import Bet, rise, shortfall
from xentcore.tempered import log_probabilities
from xentcore.variant import SOFTMAX_REFUSALS, Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class BiTemperedSettings(Settings):
    """Settings of ``bi-tempered``."""

    t1: float = setting(
        0.8,
        "temperature of the logarithm: below 1 the loss of a row is bounded by 1/(1-t1); "
        "1 is the natural logarithm",
        minimum=0,
        maximum=1,
    )
    t2: float = setting(
        1.2,
        "temperature of the softmax: above 1 its tail is heavier; 1 is the usual softmax",
        minimum=1,
        maximum=10,
    )
    smoothing: float = setting(
        0.0,
        "share of the label that the other classes are given, as label-smoothing's 'others'",
        minimum=0,
        below=1,
    )


class BiTempered(Variant[BiTemperedSettings]):
    """sum_c t_c (log_t1 t_c - log_t1 p_c) - (t_c^(2-t1) - p_c^(2-t1)) / (2-t1), p of t2.

    ``log_t(x) = (x^(1-t) - 1) / (1-t)``, and ``p_c = exp_t2(z_c - lambda)`` with lambda such that p
    sums to 1; ``s_c = p_c^t2 / sum_k p_k^t2`` is its escort distribution.

    With t1 = t2 = 1 it is the divergence of p from t: ``sparse`` on one class per row, and
    ``categorical`` less the entropy of t on label distributions. Below t1 = 1 the loss is finite
    even where the label's logit is -inf. It is a divergence between whole rows, so that there are
    no class weights: sample weights weigh rows.

    What an answer tells about predictions (row statistics, calibration, confidence) is told by the
    usual softmax, as under every variant.
    """

    slug = "bi-tempered"
    summary = "bounded, heavy-tailed generalisation of cross-entropy, robust to wrong labels"
    formula = (
        "sum_c t_c (log_t1 t_c - log_t1 p_c) - (t_c^(2-t1) - p_c^(2-t1)) / (2-t1), "
        "p_c = exp_t2(z_c - lambda), sum_c p_c = 1"
    )
    gradient = "p^(t2-t1) (p - t) - s sum_c p_c^(t2-t1) (p_c - t_c), s_c = p_c^t2 / sum_k p_k^t2"
    source = "Amid et al., arXiv 1906.03361"
    settings_type = BiTemperedSettings
    families = ("softmax",)
    label_kinds = ("integer", "one_hot", "probabilities")
    refusals = SOFTMAX_REFUSALS
    example = {
        "settings": {"t1": 0.8, "t2": 1.2},
        "logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]],
        "labels": [0, 3],
    }

    def source_of_rows(self, settings: BiTemperedSettings) -> Source:
        return "logits"

    def rows(self, statistics: RowStatistics, settings: BiTemperedSettings) -> RowTerms:
        # float64 throughout: p is made of a root, and the terms of the loss cancel.
        shifted = statistics.shifted.double()
        if settings.t2 == 1:
            log_p = shifted - statistics.log_partition[:, None]
        else:
            log_p = log_probabilities(shifted, settings.t2)
        targets = statistics.targets
        if targets is None and not settings.smoothing:
            return _on_label(statistics, log_p, settings)
        if targets is None:
            targets = torch.zeros_like(log_p).scatter_(1, statistics.pivot[:, None], 1.0)
        return _on_distribution(statistics, log_p, targets.double(), settings)


def _on_label(statistics: RowStatistics, log_p: Tensor, settings: BiTemperedSettings) -> RowTerms:
    """Return the terms for one class per row, made of sums that leave the label out."""
    pivot, t1, t2 = statistics.pivot[:, None], settings.t1, settings.t2
    others = log_p.scatter(1, pivot, -torch.inf)
    at_label = log_p.gather(1, pivot)[:, 0]
    rest = others.exp().sum(dim=1)
    spill = _power(others, 2 - t1).sum(dim=1)
    loss = shortfall(Bet(at_label.exp(), rest, -at_label), 1 - t1) + spill / (2 - t1)
    drag = _power(others, 1 + t2 - t1)
    escort = _power(others, t2)
    escort_rest = escort.sum(dim=1)
    whole = escort_rest + _power(at_label, t2)
    # -(p-t) p^(t2-t1) at the label.
    pull = rest * _power(at_label, t2 - t1)
    drag_sum = drag.sum(dim=1)
    escort_label = _power(at_label, t2) / whole

    def subtract() -> Tensor:
        slope = drag + escort * ((pull - drag_sum) / whole)[:, None]
        return -slope.to(statistics.logits.dtype)

    return RowTerms(
        loss=loss,
        scale=torch.zeros_like(loss),
        subtract=subtract,
        at_label=-(pull * escort_rest / whole + escort_label * drag_sum),
    )


def _on_distribution(
    statistics: RowStatistics, log_p: Tensor, targets: Tensor, settings: BiTemperedSettings
) -> RowTerms:
    t1, t2, classes = settings.t1, settings.t2, statistics.classes
    spread = settings.smoothing / (classes - 1)
    t = targets * (1 - settings.smoothing - spread) + spread
    log_t = t.log()
    # -log_t1 p and -log_t1 t
    surprise, own = rise(-log_p, 1 - t1), rise(-log_t, 1 - t1)
    power_p, power_t = _power(log_p, 2 - t1), _power(log_t, 2 - t1)
    escort = _power(log_p, t2)
    pull = _power(log_p, t2 - t1) * (log_p.exp() - t)
    mean = (pull.sum(dim=1) / escort.sum(dim=1))[:, None]
    loss = (times(t, surprise - own) + (power_p - power_t) / (2 - t1)).sum(dim=1)
    return RowTerms(
        loss=loss,
        scale=torch.zeros_like(loss),
        subtract=lambda: (escort * mean - pull).to(statistics.logits.dtype),
        at_label=None,
        # p = t costs nothing, and leaves nothing but rounding.
        magnitude=(times(t, surprise + own) + (power_p + power_t) / (2 - t1)).sum(dim=1),
    )


def _power(log_base: Tensor, exponent: float) -> Tensor:
    """Return base^exponent from log base, 0^0 = 1."""
    return (exponent * log_base).exp() if exponent else torch.ones_like(log_base)
