"""Spearman's rank correlation of rows that have weights, with ties at their average rank.

A row of weight 2 counts as two equal rows. The rank of a row is the weight of all rows below it and
half the weight of its equals, itself included; with weights of 1 that is the average rank less 1/2.
Half the weight of all rows is taken off, which is the weighted mean of the ranks:

    x_r = sum(s: below r) + sum(s: equal to r) / 2 - sum(s) / 2
    rho = sum(s x y) / sqrt(sum(s x x) sum(s y y))

Source: Spearman, American Journal of Psychology 15 (1904); ties: Kendall, Biometrika 33 (1945).
"""

import math

import torch
from torch import Tensor


def centred_ranks(values: Tensor, weights: Tensor) -> Tensor:
    """Return the ranks of values less their weighted mean, (rows,), float64.

    Args:
        values: finite, at least one, (rows,).
        weights: positive, (rows,), float64.
    """
    ordered, order = values.sort()
    is_new = torch.ones_like(ordered, dtype=torch.bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    group = is_new.cumsum(dim=0) - 1
    mass = torch.zeros(int(group[-1]) + 1, dtype=torch.float64)
    mass.index_add_(0, group, weights[order])
    up_to = mass.cumsum(dim=0)
    below = torch.cat([torch.zeros(1, dtype=torch.float64), up_to[:-1]])
    # Exactly 0 where all values are equal: there is no order to correlate.
    rank = below + mass / 2 - up_to[-1] / 2
    return torch.empty_like(weights).index_copy_(0, order, rank[group])


def correlation(x: Tensor, y: Tensor, weights: Tensor) -> float | None:
    """Return rho of two columns of :func:`centred_ranks`; ``None`` where one is constant."""
    own, other = float((weights * x).dot(x)), float((weights * y).dot(y))
    if not (own and other):
        return None
    # Two roots: the product of the squares could overflow.
    rho = float((weights * x).dot(y)) / (math.sqrt(own) * math.sqrt(other))
    return max(-1.0, min(1.0, rho))
