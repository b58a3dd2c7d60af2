"""Symmetric cross-entropy: of the prediction on the label, and of the label on the prediction."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from xentcore.row_statistics import RowStatistics, RowTerms, cross_entropy
from xentcore.surprise import Bet, on_label
from xentcore.variant import SOFTMAX_REFUSALS, Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SymmetricSettings(Settings):
    """Settings of ``symmetric``."""

    alpha: float = setting(0.1, "factor of cross-entropy", minimum=0)
    beta: float = setting(1.0, "factor of reverse cross-entropy", minimum=0)
    log_zero: float = setting(-4.0, "A: what log 0 counts as, and the least a log t is", below=0)


class Symmetric(Variant[SymmetricSettings]):
    """alpha CE + beta RCE, RCE = -sum_c p_c log t_c with log 0 = A.

    With one class per row RCE is ``-A (1-p_y)``, and the loss is ``poly1`` up to constants: alpha
    times ``poly1`` with ``epsilon = -beta A / alpha``. Label distributions make the difference:
    there RCE is ``-sum_c p_c max(log t_c, A)``, as the source clips its labels; without the maximum
    a class with a t of 1e-9 would count five times what one with a t of 0 does.

    The gradient of RCE is ``p_c (g_c - sum_k p_k g_k)`` with ``g = -max(log t, A)``. There are no
    class weights: weights of the label would not be those of RCE, which sums over predictions.
    """

    slug = "symmetric"
    summary = (
        "cross-entropy plus its reverse, robust to wrong labels; "
        "on hard labels alpha times poly1 with epsilon = -beta A / alpha"
    )
    formula = (
        "-alpha sum_c t_c log p_c - beta sum_c p_c max(log t_c, A); "
        "hard labels: -alpha log p_y - beta A (1-p_y)"
    )
    gradient = "alpha (p*sum(t) - t) + beta p (g - sum(p*g)), g = -max(log t, A)"
    source = "Wang et al., arXiv 1908.06112"
    settings_type = SymmetricSettings
    families = ("softmax",)
    label_kinds = ("integer", "one_hot", "probabilities")
    refusals = SOFTMAX_REFUSALS
    example = {
        "settings": {"alpha": 0.1, "beta": 1.0, "log_zero": -4.0},
        "logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]],
        "labels": [0, 3],
    }

    def rows(self, statistics: RowStatistics, settings: SymmetricSettings) -> RowTerms:
        if statistics.targets is not None:
            return _on_distribution(statistics, statistics.targets, settings)
        reverse = -settings.beta * settings.log_zero
        return on_label(statistics, None, partial(_symmetric, alpha=settings.alpha, beta=reverse))


def _symmetric(bet: Bet, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
    # alpha = 0: 0 * inf counts as 0.
    return (alpha * bet.surprise if alpha else 0.0) + beta * bet.complement, alpha + beta * bet.p


def _on_distribution(
    statistics: RowStatistics, targets: Tensor, settings: SymmetricSettings
) -> RowTerms:
    alpha, beta = settings.alpha, settings.beta
    forward = cross_entropy(statistics, None)
    p = statistics.probabilities
    g = -targets.log().clamp_min(settings.log_zero)
    at_pivot = g.gather(1, statistics.pivot[:, None])
    # A constant in g changes no gradient. With g = 0 at the pivot the largest p is multiplied by
    # sums of small ones, and nothing cancels where it is close to 1.
    g_less = g - at_pivot
    mean = (g_less * p).sum(dim=1, dtype=torch.float64)
    pull = p * (g_less - mean[:, None].to(p.dtype))
    return RowTerms(
        # alpha = 0: 0 * inf counts as 0.
        loss=(alpha * forward.loss if alpha else 0.0)
        + beta * (g * p).sum(dim=1, dtype=torch.float64),
        scale=alpha * forward.scale,
        subtract=lambda: alpha * targets - beta * pull,
        at_label=None,
    )
