"""Taylor cross-entropy: the first terms of the series of -log p in 1 - p."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from xentcore.row_statistics import RowStatistics, RowTerms
from xentcore.surprise import Bet, on_label
from xentcore.variant import SOFTMAX_REFUSALS, Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class TaylorSettings(Settings):
    """Settings of ``taylor``."""

    order: int = setting(
        2,
        "n: how many terms; 1 is 1-p, half the mean absolute error, and more come closer to "
        "cross-entropy",
        minimum=1,
        maximum=100,
    )
    class_weights: tuple[float, ...] | None = setting(
        None, "weight of each class; none means 1 for all", minimum=0
    )


class Taylor(Variant[TaylorSettings]):
    """w_y sum_{k=1..n} (1-p_y)^k / k.

    Bounded by 1 + 1/2 + ... + 1/n: the loss is finite even where the label's logit is -inf. The
    derivative with respect to -log p is ``p sum_{k<n} (1-p)^k``, a geometric sum: ``1 - (1-p)^n``.
    Label distributions: ``sum_c w_c t_c sum_k (1-p_c)^k / k``.
    """

    slug = "taylor"
    summary = "the first terms of the series of cross-entropy, robust to wrong labels"
    formula = "sum_c a_c sum_{k=1..n} (1-p_c)^k / k, a = w*t"
    gradient = "sum_c a_c (1 - (1-p_c)^n) (p - e_c)"
    source = "Feng et al., Can Cross Entropy Loss Be Robust to Label Noise?, IJCAI (2020)"
    settings_type = TaylorSettings
    families = ("softmax",)
    label_kinds = ("integer", "one_hot", "probabilities")
    refusals = SOFTMAX_REFUSALS
    example = {
        "settings": {"order": 2},
        "logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]],
        "labels": [0, 3],
    }

    def class_weights(self, settings: TaylorSettings) -> tuple[float, ...] | None:
        return settings.class_weights

    def rows(self, statistics: RowStatistics, settings: TaylorSettings) -> RowTerms:
        return on_label(statistics, settings.class_weights, partial(_taylor, order=settings.order))


def _taylor(bet: Bet, order: int) -> tuple[Tensor, Tensor]:
    q = bet.complement
    series = torch.full_like(q, 1 / order)
    for k in range(order - 1, 0, -1):
        series = series * q + 1 / k
    # 1 - q^n: log1p where p is what is small, expm1 because q^n may then be close to 1.
    log_q = torch.where(q > 0.5, torch.log1p(-bet.p), q.log())  # noqa: PLR2004  (either is exact)
    return q * series, -torch.expm1(order * log_q)
