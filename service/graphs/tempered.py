"""The bi-tempered logistic loss: a softmax with a heavy tail, whose partition is a root."""

from math import inf
from typing import Any, Final

from service.graphs.curves import Bet, rise, shortfall
from service.graphs.expression import DOUBLE, Value, times, where
from service.graphs.softmax import Rows, RowTerms

# Newton's last step leaves the square of what it finds: 1e-9 is as good as nothing.
_CLOSE: Final = 1e-9
# Rarely are more than ten needed.
_STEPS: Final = 100


def bi_tempered(rows: Rows, settings: Any) -> RowTerms:
    """sum_c t_c (log_t1 t_c - log_t1 p_c) - (t_c^(2-t1) - p_c^(2-t1)) / (2-t1).

    ``p_c = exp_t2(z_c - lambda)`` with lambda such that p sums to 1.
    """
    log_p = rows.log_probabilities if settings.t2 == 1 else _log_p(rows.shifted, settings.t2)
    if rows.targets is None and not settings.smoothing:
        return _on_label(rows, log_p, settings)
    return _on_distribution(rows, log_p, rows.weighted_targets(None), settings)


def _on_label(rows: Rows, log_p: Value, settings: Any) -> RowTerms:
    """Return the terms for one class per row, made of sums that leave the label out."""
    t1, t2 = settings.t1, settings.t2
    others = where(rows.is_pivot, -inf, log_p)
    at_label = where(rows.is_pivot, log_p, 0.0).row_sum()
    rest = others.exp().row_sum()
    spill = _power(others, 2 - t1).row_sum()
    drag, escort = _power(others, 1 + t2 - t1), _power(others, t2)
    drag_sum, escort_rest = drag.row_sum(), escort.row_sum()
    whole = escort_rest + _power(at_label, t2)
    # -(p-t) p^(t2-t1) at the label.
    pull = rest * _power(at_label, t2 - t1)
    share = _power(at_label, t2) / whole
    return RowTerms(
        loss=shortfall(Bet(at_label.exp(), rest, -at_label), 1 - t1) + spill / (2 - t1),
        scale=rows.graph.number(0.0),
        subtract=-(drag + escort * ((pull - drag_sum) / whole)),
        at_label=-(pull * escort_rest / whole + share * drag_sum),
    )


def _on_distribution(rows: Rows, log_p: Value, targets: Value, settings: Any) -> RowTerms:
    t1, t2 = settings.t1, settings.t2
    spread = settings.smoothing / (rows.classes - 1)
    t = targets * (1 - settings.smoothing - spread) + spread
    log_t = t.log()
    # -log_t1 p and -log_t1 t
    surprise, own = rise(-log_p, 1 - t1), rise(-log_t, 1 - t1)
    powers = _power(log_p, 2 - t1) - _power(log_t, 2 - t1)
    escort = _power(log_p, t2)
    pull = _power(log_p, t2 - t1) * (log_p.exp() - t)
    mean = pull.row_sum() / escort.row_sum()
    return RowTerms(
        loss=(times(t, surprise - own) + powers / (2 - t1)).row_sum(),
        scale=rows.graph.number(0.0),
        subtract=escort * mean - pull,
    )


def _power(log_base: Value, exponent: float) -> Value:
    """Return base^exponent from log base, 0^0 = 1."""
    return (exponent * log_base).exp() if exponent else log_base.graph.number(1.0)


def _log_p(shifted: Value, temperature: float) -> Value:
    """Return log p of the tempered softmax: p_c = (1 + b (mu - u_c))^(-1/b), b = t - 1."""
    b = temperature - 1
    return (b * (_offset(shifted, b) - shifted)).log1p() / -b


def _offset(shifted: Value, b: float) -> Value:
    """Return mu >= 0 such that the probabilities sum to 1, (rows, 1).

    Newton's method on S^-b = 1, S the sum over classes: concave, so that from mu = 0 every step
    falls short of the root; and close to linear, so that few are needed.
    """

    def step(offset: Value) -> tuple[Value, Value]:
        grown = b * (offset - shifted)
        p = (grown.log1p() / -b).exp()
        total = p.row_sum()
        # dp/dmu = -p^t = -p / (1 + b (mu - u))
        slope = (p / (1 + grown)).row_sum()
        # S^b - 1, S at least 1 but for rounding.
        moved = offset - total * _negative_power(total, b) / (b * slope)
        further = moved > offset
        going_on = further & (total > 1 + _CLOSE)
        more = going_on.cast(DOUBLE).total() > 0.0
        return where(further, moved, offset), more

    return shifted.graph.loop(_STEPS, 0.0 * shifted.row_max(), step)


def _negative_power(total: Value, b: float) -> Value:
    """Return 1 - S^b = S^b (S^-b - 1) for S >= 1."""
    grown = b * total.log()
    return grown.exp() * (-grown).expm1()
