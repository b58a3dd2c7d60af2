"""Losses that know a row by its label's probability alone: a curve over -log p.

With a label the loss is ``w_y f(-log p_y)``, with a label distribution
``sum_c w_c t_c f(-log p_c)``. The gradient is made of the curve's derivative:
``sum_c w_c t_c f'_c (p - e_c)``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from service.graphs.cross_entropy import cross_entropy, symmetric_on_distribution
from service.graphs.expression import Value, times, where
from service.graphs.softmax import Rows, RowTerms

# Below it the series has 1e-16 of its sum left after so many terms; above, 1e-14 is all that
# the difference loses.
_SMALL: Final = 2.0**-5
_SERIES: Final = 10
_HALF: Final = 0.5


@dataclass(frozen=True, slots=True)
class Bet:
    """A class's probability, told three times so that no reader subtracts.

    Attributes:
        p: the probability.
        complement: 1 - p without cancellation.
        surprise: -log p, nats; +inf where p is 0 because the logit is -inf.
    """

    p: Value
    complement: Value
    surprise: Value


Curve = Callable[[Bet, Any], tuple[Value, Value]]
"""Returns f and its derivative with respect to the surprise, of a bet and settings."""
Weights = tuple[float, ...] | float | None


def on_label(rows: Rows, weights: Weights, curve: Curve, settings: Any) -> RowTerms:
    """Return sum_c w_c t_c f(-log p_c) with its gradient."""
    if rows.targets is not None:
        share, log_p = rows.weighted_targets(weights), rows.log_probabilities
        loss, slope = curve(Bet(log_p.exp(), -log_p.expm1(), -log_p), settings)
        pull = times(share, slope)
        return RowTerms(loss=times(share, loss).row_sum(), scale=pull.row_sum(), subtract=pull)
    q = rows.pivot_complement
    loss, slope = curve(Bet(rows.pivot_probability, q, rows.pivot_surprise), settings)
    weight = rows.weight_at_label(weights)
    scale = weight * slope
    return RowTerms(loss=times(weight, loss), scale=scale, at_label=-scale * q)


def weighted_curve(curve: Curve) -> Callable[[Rows, Any], RowTerms]:
    """Return the loss of a curve with class weights."""

    def loss(rows: Rows, settings: Any) -> RowTerms:
        return on_label(rows, rows.weights, curve, settings)

    return loss


def focal(rows: Rows, settings: Any) -> RowTerms:
    """-alpha_y (1-p_y)^g log p_y."""
    return on_label(rows, settings.alpha, focal_curve, settings)


def class_balanced(rows: Rows, settings: Any) -> RowTerms:
    """sum_c a_c (1-p_c)^g (-log p_c), a = w*t."""
    if settings.gamma == 0:
        return cross_entropy(rows)
    return on_label(rows, rows.weights, focal_curve, settings)


def symmetric(rows: Rows, settings: Any) -> RowTerms:
    """Hard labels: -alpha log p_y - beta A (1-p_y)."""
    if rows.targets is not None:
        return symmetric_on_distribution(rows, rows.targets, settings)
    return on_label(rows, None, symmetric_curve, settings)


def focal_curve(bet: Bet, settings: Any) -> tuple[Value, Value]:
    """q^g * surprise; its slope is q^g * (1 + g p r), r = surprise / q -> 1 as q -> 0."""
    gamma = settings.gamma
    fade = bet.complement**gamma
    ratio = where(bet.complement.equals(0.0), 1.0, bet.surprise / bet.complement)
    # p -> 0: p * surprise -> 0, although the surprise itself grows without bound.
    bend = times(bet.p, ratio)
    return fade * bet.surprise, fade * (1 + gamma * bend)


def generalized_curve(bet: Bet, settings: Any) -> tuple[Value, Value]:
    """(1-p^q)/q; -log p for q = 0."""
    q = settings.q
    if q == 0:
        return bet.surprise, bet.surprise.graph.number(1.0)
    return rise(bet.surprise, q), (-q * bet.surprise).exp()


def poly1_curve(bet: Bet, settings: Any) -> tuple[Value, Value]:
    """-log p + epsilon (1-p)."""
    epsilon = settings.epsilon
    if epsilon >= 0:
        return bet.surprise + epsilon * bet.complement, 1 + epsilon * bet.p
    # The same in terms that are not negative: at -1 the first digits of -log p and 1-p cancel.
    rest = 1 + epsilon
    loss = shortfall(bet) + rest * bet.complement
    return loss, rest - epsilon * bet.complement


def taylor_curve(bet: Bet, settings: Any) -> tuple[Value, Value]:
    """sum_{k=1..n} (1-p)^k / k; its slope is 1 - (1-p)^n."""
    q, order = bet.complement, settings.order
    series = _horner(q, [1 / k for k in range(1, order + 1)])
    # 1 - q^n: log1p where p is what is small, expm1 because q^n may then be close to 1.
    log_q = where(q > _HALF, (-bet.p).log1p(), q.log())
    return q * series, -(order * log_q).expm1()


def symmetric_curve(bet: Bet, settings: Any) -> tuple[Value, Value]:
    """-alpha log p - beta A (1-p)."""
    alpha, reverse = settings.alpha, -settings.beta * settings.log_zero
    bounded = reverse * bet.complement
    # alpha = 0: 0 * inf counts as 0.
    loss = alpha * bet.surprise + bounded if alpha else bounded
    return loss, alpha + reverse * bet.p


def shortfall(bet: Bet, exponent: float = 0.0) -> Value:
    """Return the integral of x^(c-1) (1-x) from p to 1, c the exponent; -log p - (1-p) for c = 0.

    Near p = 1 it is about (1-p)^2 / 2, the difference of two numbers of about 1-p; the series in
    1 - p has nothing to cancel.
    """
    q, c = bet.complement, exponent
    # (1-x)^(c-1) = sum_k a_k x^k with a_k = (1-c)(2-c)...(k-c) / k!
    a = [math.prod((i - c) / i for i in range(1, k + 1)) / (k + 2) for k in range(_SERIES)]
    whole = rise(bet.surprise, c) - (q if c == 0 else rise(bet.surprise, 1 + c))
    return where(q < _SMALL, _horner(q, a) * q * q, whole)


def rise(surprise: Value, exponent: float) -> Value:
    """Return (1 - p^c)/c from -log p, c the exponent; its limit for c = 0 is -log p."""
    return -(-exponent * surprise).expm1() / exponent if exponent else surprise


def _horner(x: Value, coefficients: list[float]) -> Value:
    """Return sum_k coefficients[k] x^k."""
    found = x.graph.number(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        found = found * x + coefficient
    return found
