"""Losses that know a row by its label's probability alone.

Each is a *curve* f over the surprise -log p. With a label y the row's loss is ``w_y f(-log p_y)``;
with a label distribution t it is what a label drawn from t costs on average,
``sum_c w_c t_c f(-log p_c)``. As d(-log p_c)/dz = p - e_c, the gradient is made of f and its
derivative f', the slope: ``sum_c w_c t_c f'_c (p - e_c)``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from xentcore.arithmetic import power
from xentcore.row_statistics import RowStatistics, RowTerms, times

# Below it the series has 1e-16 of its sum left after so many terms; above, 1e-14 is all that
# the difference loses.
_SMALL: Final = 2.0**-5
_SERIES: Final = 10
_TINY: Final = 1e-30


@dataclass(frozen=True, slots=True)
class Bet:
    """A class's probability, told three times so that no reader subtracts; tensors of one shape.

    Attributes:
        p: the probability.
        complement: 1 - p without cancellation.
        surprise: -log p, nats; +inf where p is 0 because the logit is -inf.
    """

    p: Tensor
    complement: Tensor
    surprise: Tensor


Curve = Callable[[Bet], tuple[Tensor, Tensor]]
"""Returns f and its derivative with respect to the surprise."""


def on_label(
    statistics: RowStatistics, weights: float | tuple[float, ...] | None, curve: Curve
) -> RowTerms:
    """Return sum_c w_c t_c f(-log p_c) with its gradient.

    Args:
        statistics: rows that were measured.
        weights: w, one for all classes or one each; ``None`` for ones.
        curve: f and its derivative. Where the weight is 0 it may return anything.
    """
    w = statistics.constants.scale(weights)
    if statistics.targets is not None:
        return _on_distribution(statistics, statistics.targets * w, curve)
    if isinstance(w, Tensor):
        w = w[statistics.pivot].double()
    q = statistics.pivot_complement
    loss, scale = curve(Bet(statistics.pivot_probability, q, statistics.pivot_surprise))
    if weights is not None:
        share = torch.ones_like(q) * w
        loss, scale = times(share, loss), share * scale
    return RowTerms(loss=loss, scale=scale, subtract=None, at_label=-scale * q)


def _on_distribution(statistics: RowStatistics, share: Tensor, curve: Curve) -> RowTerms:
    log_p = statistics.shifted - statistics.log_partition[:, None].to(share.dtype)
    loss, slope = curve(Bet(log_p.exp(), -torch.expm1(log_p), -log_p))
    pull = times(share, slope)
    return RowTerms(
        loss=times(share, loss).sum(dim=1, dtype=torch.float64),
        scale=pull.sum(dim=1, dtype=torch.float64),
        subtract=lambda: pull,
        at_label=None,
    )


def focal(bet: Bet, gamma: float) -> tuple[Tensor, Tensor]:
    """Return q^g * surprise and its slope q^g * (1 + g p r), r = surprise / q -> 1 as q -> 0."""
    fade = power(bet.complement, gamma)
    ratio = torch.where(bet.complement == 0, 1.0, bet.surprise / bet.complement)
    # p -> 0: p * surprise -> 0, although the surprise itself grows without bound.
    bend = torch.where(bet.p == 0, 0.0, bet.p * ratio)
    return fade * bet.surprise, fade * (1 + gamma * bend)


def shortfall(bet: Bet, exponent: float = 0.0) -> Tensor:
    """Return the integral of x^(c-1) (1-x) from p to 1, c the exponent; -log p - (1-p) for c = 0.

    On paper ``(1 - p^c)/c - (1 - p^(1+c))/(1+c)``. Near p = 1 both terms are 1 - p in their first
    digits, and what is left is about its square; the series in 1 - p has nothing to cancel.
    """
    q, c = bet.complement, exponent
    series = torch.zeros_like(q)
    for k in reversed(range(_SERIES)):
        # (1-x)^(c-1) = sum_k a_k x^k with a_k = (1-c)(2-c)...(k-c) / k!
        a = math.prod((i - c) / i for i in range(1, k + 1))
        series = series * q + a / (k + 2)
    whole = rise(bet.surprise, c) - (q if c == 0 else rise(bet.surprise, 1 + c))
    return torch.where(q < _SMALL, series * q.square(), whole)


def rise(surprise: Tensor, exponent: float) -> Tensor:
    """Return (1 - p^c)/c from -log p, c the exponent; its limit for c = 0 is -log p."""
    if exponent == 0:
        return surprise
    grown = exponent * surprise
    # Tiny products lose their digits in float32, where the limit loses none.
    found = torch.where(grown < _TINY, surprise, -torch.expm1(-grown) / exponent)
    bound = min(1 / exponent, torch.finfo(surprise.dtype).max)
    return torch.where(surprise.isinf(), bound, found)
