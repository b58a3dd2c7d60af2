"""Generalized cross-entropy: between cross-entropy and the mean absolute error."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from xentcore.row_statistics import RowStatistics, RowTerms
from xentcore.surprise import Bet, on_label, rise
from xentcore.variant import SOFTMAX_REFUSALS, Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralizedSettings(Settings):
    """Settings of ``generalized``."""

    q: float = setting(
        0.7,
        "0 is cross-entropy, 1 is 1-p, half the mean absolute error; larger is more robust "
        "to wrong labels",
        minimum=0,
        maximum=1,
    )
    class_weights: tuple[float, ...] | None = setting(
        None, "weight of each class; none means 1 for all", minimum=0
    )


class Generalized(Variant[GeneralizedSettings]):
    """w_y (1-p_y^q)/q, computed as ``-expm1(q log p)/q``, which keeps its digits at p -> 1.

    Bounded by 1/q: for q above 0 the loss is finite even where the label's logit is -inf. Label
    distributions: ``sum_c w_c t_c (1-p_c^q)/q``.
    """

    slug = "generalized"
    summary = "cross-entropy bounded by 1/q, robust to wrong labels"
    formula = "sum_c a_c (1-p_c^q)/q, a = w*t; -sum_c a_c log p_c at q = 0"
    gradient = "sum_c a_c p_c^q (p - e_c)"
    source = "Zhang and Sabuncu, arXiv 1805.07836"
    settings_type = GeneralizedSettings
    families = ("softmax",)
    label_kinds = ("integer", "one_hot", "probabilities")
    refusals = SOFTMAX_REFUSALS
    example = {
        "settings": {"q": 0.7},
        "logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]],
        "labels": [0, 3],
    }

    def class_weights(self, settings: GeneralizedSettings) -> tuple[float, ...] | None:
        return settings.class_weights

    def rows(self, statistics: RowStatistics, settings: GeneralizedSettings) -> RowTerms:
        return on_label(statistics, settings.class_weights, partial(_generalized, q=settings.q))


def _generalized(bet: Bet, q: float) -> tuple[Tensor, Tensor]:
    if q == 0:
        return bet.surprise, torch.ones_like(bet.surprise)
    # A q too small for float32 would be 0 there, and 0 * inf is not a number.
    slope = torch.where(bet.surprise.isinf(), 0.0, (-q * bet.surprise).exp())
    return rise(bet.surprise, q), slope
