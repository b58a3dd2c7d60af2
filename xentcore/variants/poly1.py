"""PolyLoss of first order: cross-entropy with another coefficient on 1 - p."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from xentcore.row_statistics import RowStatistics, RowTerms
from xentcore.surprise import Bet, on_label, shortfall
from xentcore.variant import SOFTMAX_REFUSALS, Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Poly1Settings(Settings):
    """Settings of ``poly1``."""

    epsilon: float = setting(
        1.0,
        "what is added to the coefficient 1 that 1 - p has in the series of -log p; "
        "0 is cross-entropy",
        minimum=-1,
    )
    class_weights: tuple[float, ...] | None = setting(
        None, "weight of each class; none means 1 for all", minimum=0
    )


class Poly1(Variant[Poly1Settings]):
    """w_y (-log p_y + epsilon (1-p_y)).

    Label distributions: ``sum_c w_c t_c (-log p_c + epsilon (1-p_c))``, without weights the
    source's ``CE(t) + epsilon (1 - sum_c t_c p_c)`` for smoothed labels.

    On one class per row ``symmetric`` is the same function: its alpha times this one with
    ``epsilon = -beta * log_zero / alpha``.
    """

    slug = "poly1"
    summary = "cross-entropy plus epsilon (1-p); on hard labels symmetric is a multiple of it"
    formula = "sum_c a_c (-log p_c + epsilon (1-p_c)), a = w*t"
    gradient = "sum_c a_c (1 + epsilon p_c) (p - e_c)"
    source = "Leng et al., arXiv 2204.12511"
    settings_type = Poly1Settings
    families = ("softmax",)
    label_kinds = ("integer", "one_hot", "probabilities")
    refusals = SOFTMAX_REFUSALS
    example = {
        "settings": {"epsilon": 1.0},
        "logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]],
        "labels": [0, 3],
    }

    def class_weights(self, settings: Poly1Settings) -> tuple[float, ...] | None:
        return settings.class_weights

    def rows(self, statistics: RowStatistics, settings: Poly1Settings) -> RowTerms:
        curve = partial(_poly1, epsilon=settings.epsilon)
        return on_label(statistics, settings.class_weights, curve)


def _poly1(bet: Bet, epsilon: float) -> tuple[Tensor, Tensor]:
    if epsilon >= 0:
        return bet.surprise + epsilon * bet.complement, 1 + epsilon * bet.p
    # The same in terms that are not negative: at -1 the first digits of -log p and 1-p cancel.
    rest = 1 + epsilon
    loss = shortfall(bet) + rest * bet.complement
    return loss, rest - epsilon * bet.complement
