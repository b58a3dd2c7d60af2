"""What normalised entropy is known from: the sums of a ratio, the loss over that of the prior.

R = sum l / P, l the loss of a row and P that of the predictor that knows the class frequencies. P
is no sum over rows, but by how much one more row of class c would change it is a number,

    q_c = dP / dn_c = w_c (-log pi_c) + mean w - w_c,      pi_c = n_c / n,

for the cross-entropy with class weights w, and sum n_c q_c = P. So R varies as a ratio of sums of l
and q does (the delta method, see :class:`service.history.moments.Moments`), and classes tell
sum l q and sum q^2. Two approximations: other variants are taken to have a q that is proportional;
and frequencies are those of all rows, where P, as it was recorded, is that of those of each batch.
Fitted to few rows, a prior loses less on them, by (classes - 1) / 2 nats a batch (Miller, Note on
the bias of information estimates, 1955): so much is taken off q first.

Sigmoid: P is a sum over classes, and a row has a q for each. How they and the loss go together is
not recorded; by Minkowski's inequality l - R q varies at most as much as

    sd(l) + R sum_c sd(q_c),      Var(q_c) = pi_c (1 - pi_c) (log pi_c - log (1 - pi_c))^2.
"""

from typing import Final

import numpy as np

from service.history.moments import Moments, Numbers
from service.history.stack import Stack

# Miller's term is the first of a series: no more of the prior's loss than this is taken off.
LARGEST_BIAS: Final = 0.25

COLUMNS: Final = (
    *("batches", "evaluated", "loss_sum", "loss_square_sum", "prior_loss_sum", "prior_sum"),
    "classes",
)


def moments(sums: Stack) -> Moments:
    """Return the moments of R, (count,); no row where there is no prior."""
    x, w = (_scalar(sums, name) for name in ("prior_loss_sum", "prior_sum"))
    # Of batches that had a prior: all, but for those of one class only.
    share = np.where(w > 0, _over(x, _scalar(sums, "loss_sum")), 0.0)
    rows = share * _scalar(sums, "evaluated")
    xx = share * _scalar(sums, "loss_square_sum")
    softmax, sigmoid = _of_classes(sums, w, rows), _of_elements(sums, x, w, rows, xx)
    yes_or_no = _total(sums, "support") > _total(sums, "positives")
    xw, ww = (np.where(yes_or_no, two, one) for one, two in zip(softmax, sigmoid, strict=True))
    return Moments(rows=rows, x=x, w=w, xx=xx, xw=xw, ww=ww)


def _of_classes(sums: Stack, prior: Numbers, rows: Numbers) -> tuple[Numbers, Numbers]:
    """Return sum l q and sum q^2 where a row belongs to one class."""
    pile = sums.piles["classes"]
    owner, count = pile.owner, pile.records["support"].astype(np.float64)
    total = _added(sums, count)
    weight = _over(pile.records["weight"], count)
    mean_weight = _over(_total(sums, "weight"), total)[owner]
    q = mean_weight - weight * (1 + np.log(np.where(count > 0, count / total[owner], 1.0)))
    entropy = _added(sums, count * q)
    fitted = _scalar(sums, "batches") * np.maximum(_added(sums, np.sign(count)) - 1, 0) / 2
    fitted = np.minimum(fitted * _over(_total(sums, "weight"), total), LARGEST_BIAS * entropy)
    q = q - _over(fitted, total)[owner]
    scale = _over(prior, entropy - fitted)
    product = _added(sums, q * pile.records["loss_sum"])
    square = _added(sums, count * q * q) * _over(total, rows)
    return scale * product, scale**2 * square


def _of_elements(
    sums: Stack, loss: Numbers, prior: Numbers, rows: Numbers, squares: Numbers
) -> tuple[Numbers, Numbers]:
    """Return what sum l q is at least, and sum q^2 at most, where rows say yes or no."""
    records = sums.piles["classes"].records
    yes = _over(records["positives"].astype(np.float64), records["support"].astype(np.float64))
    some = (yes > 0) & (yes < 1)
    yes = np.where(some, yes, 0.5)
    entropy = np.where(some, -yes * np.log(yes) - (1 - yes) * np.log1p(-yes), 0.0)
    spread = np.where(some, np.sqrt(yes * (1 - yes)) * np.abs(np.log(yes) - np.log1p(-yes)), 0.0)
    mean = _over(prior, rows)
    spread_q = _added(sums, spread) * _over(mean, _added(sums, entropy))
    spread_l = np.sqrt(np.maximum(_over(squares, rows) - _over(loss, rows) ** 2, 0.0))
    return loss * mean - rows * spread_l * spread_q, rows * (mean**2 + spread_q**2)


def _scalar(sums: Stack, name: str) -> Numbers:
    return sums.scalars[name].astype(np.float64)


def _total(sums: Stack, name: str) -> Numbers:
    return _added(sums, sums.piles["classes"].records[name])


def _added(sums: Stack, values: Numbers) -> Numbers:
    owner = sums.piles["classes"].owner
    return np.bincount(owner, values, minlength=sums.count).astype(np.float64)


def _over(above: Numbers, below: Numbers) -> Numbers:
    """Return the ratio; 0 where the denominator is."""
    return np.divide(above, below, out=np.zeros(len(above)), where=below != 0)
