"""The passes of the softmax family over rows of logits, in plain PyTorch.

With ``u = z - max z`` the logarithm of a probability is ``u - log sum exp u``; a common offset on
the logits cancels in ``u`` before anything is rounded. Sums leave one term out, the *pivot*: the
label where there is one, the largest logit otherwise. What is left of the partition, ``others``,
is exactly what the naive expressions lose: ``1 - p_y = others / (e^u_y + others)`` keeps all its
digits at p_y -> 1.

A pass reads a matrix once and answers with one number per row or per class, float64. Some write
exp u down, or a gradient: to memory that they are given.
It is written here once and run in two ways: as it stands, or compiled from this source
(:mod:`xentcore.kernels`). What one way of running does faster than the other has one home each,
at the end of the file; both spellings give the same numbers.

Everywhere: ``logits`` (rows, classes), contiguous, in the compute dtype; ``anchor`` (rows,), what
``u`` is measured from, finite; ``pivot`` (rows,), int64; ``places`` (classes,), 0, 1, 2, ...;
``kept`` (rows, classes), compute dtype.
"""

import torch
from torch import Tensor


def measure(
    logits: Tensor, anchor: Tensor, pivot: Tensor, places: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what every loss is made of, each (rows,).

    Returns:
        u at the pivot, float64;
        sum over the other classes of exp u, float64;
        sum over the other classes of (exp u)^2, float64;
        the class of the largest logit, the first of equals, int64.
    """
    return _measure(logits, anchor, pivot, places)[0]


def measure_keeping(
    logits: Tensor, anchor: Tensor, pivot: Tensor, places: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what :func:`measure` does, and write exp u, 0 at the pivots, to ``kept``."""
    measured, exp_others = _measure(logits, anchor, pivot, places)
    kept.copy_(exp_others)
    return measured


def measure_spreading(
    logits: Tensor, anchor: Tensor, pivot: Tensor, places: Tensor, kept: Tensor
) -> tuple[Tensor, ...]:
    """Return what :func:`measure_keeping` does, which writes to ``kept``, and :func:`spread`."""
    measured = measure_keeping(logits, anchor, pivot, places, kept)
    return *measured, spread(logits, anchor, pivot, places)


def survey(
    logits: Tensor, anchor: Tensor, label: Tensor, places: Tensor, kept: Tensor
) -> tuple[Tensor, ...]:
    """Return all that row statistics are made of, where the pivot is the label, each (rows,).

    Returns:
        what :func:`measure_spreading` does, which writes to ``kept``;
        of :func:`ranking`: the largest u of the other classes, and how many are above the label's.
    """
    measured = measure_spreading(logits, anchor, label, places, kept)
    _, runner_up, rank = ranking(logits, anchor, label, places)
    return *measured, runner_up, rank


def derive(at_pivot: Tensor, others: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return what follows from the first two numbers of :func:`measure`, each (rows,), float64.

    Returns:
        exp u at the pivot;
        sum exp u, the partition: at least 1 wherever a logit is finite;
        log sum exp u;
        1 - p at the pivot, without cancellation;
        -log p at the pivot, +inf where its logit is -inf.
    """
    exp = at_pivot.exp()
    partition = exp + others
    # log1p: at others = 1e-9 the sum rounds to 1 and its logarithm to 0.
    log_partition = torch.where(exp == 1, others.log1p(), partition.log())
    surprise = torch.where(at_pivot == -torch.inf, torch.inf, log_partition - at_pivot)
    return exp, partition, log_partition, others / partition, surprise


def first_peak(logits: Tensor, anchor: Tensor, places: Tensor) -> Tensor:
    """Return the class of the largest logit, the first of equals, (rows,), int64."""
    return _first_peak(logits - anchor[:, None], places)


def spread(logits: Tensor, anchor: Tensor, pivot: Tensor, places: Tensor) -> Tensor:
    """Return the sum over classes but the pivot of u exp u, (rows,), float64."""
    shifted = logits - anchor[:, None]
    exp_others = _without(shifted.exp(), pivot, places)
    # exp u is 0 long before u is that small: 0 * -inf cannot arise.
    return _row_sums(exp_others * shifted.clamp_min(torch.finfo(logits.dtype).min))


def ranking(
    logits: Tensor, anchor: Tensor, label: Tensor, places: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return u at the label, the largest u of the other classes, and how many are above it.

    Each (rows,), float64.
    """
    shifted = logits - anchor[:, None]
    at_label = shifted.gather(1, label[:, None])
    rank = _count(shifted > at_label, logits.dtype)
    runner_up = _without(shifted, label, places, -torch.inf).amax(dim=1)
    return at_label[:, 0].double(), runner_up.double(), rank


def weighted_sum(logits: Tensor, anchor: Tensor, weights: Tensor) -> Tensor:
    """Return sum_c w_c u_c, (rows,), float64, where 0 * -inf counts as 0.

    Args:
        logits: as everywhere.
        anchor: as everywhere.
        weights: (classes,) or (rows, classes).
    """
    return _row_sums(_weighted(weights, logits - anchor[:, None]))


def column_sums(kept: Tensor, factors: Tensor) -> Tensor:
    """Return sum over rows of factors[row] * kept[row, class], (classes,), float64.

    Args:
        kept: exp u, 0 at the pivots, (rows, classes).
        factors: (rows,), float64.
    """
    # float64: a float32 sum over rows would depend on how they were split into chunks.
    return _weigh_rows(kept, factors)


def write_scaled(
    kept: Tensor,
    pivot: Tensor,
    places: Tensor,
    factors: Tensor,
    at_pivot: Tensor,
    into: Tensor,
) -> None:
    """Write factors[row] * kept[row, class], and ``at_pivot`` at pivots, (rows, classes).

    Args:
        kept: exp u, (rows, classes).
        pivot: as everywhere.
        places: as everywhere.
        factors: (rows,), compute dtype.
        at_pivot: (rows,), compute dtype.
        into: where to, (rows, classes), compute dtype.
    """
    into.copy_(_without(kept * factors[:, None], pivot, places, at_pivot[:, None]))


def write_tilted(  # noqa: PLR0913, PLR0917  (what a pass needs comes one by one)
    kept: Tensor,
    logits: Tensor,
    anchor: Tensor,
    pivot: Tensor,
    places: Tensor,
    factors: Tensor,
    tilt: Tensor,
    at_pivot: Tensor,
    into: Tensor,
) -> None:
    """Write kept * (factors[row] + tilt[row] u), and ``at_pivot`` at pivots, (rows, classes).

    Args:
        kept: exp u, (rows, classes).
        logits: as everywhere.
        anchor: as everywhere.
        pivot: as everywhere.
        places: as everywhere.
        factors: (rows,), compute dtype.
        tilt: (rows,), compute dtype.
        at_pivot: (rows,), compute dtype.
        into: where to, (rows, classes), compute dtype.
    """
    along = factors[:, None] + tilt[:, None] * (logits - anchor[:, None])
    # exp u is 0 long before u is -inf: what is left of p log p there is 0.
    values = torch.where(kept == 0, 0.0, kept * along)
    into.copy_(_without(values, pivot, places, at_pivot[:, None]))


def _measure(
    logits: Tensor, anchor: Tensor, pivot: Tensor, places: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Tensor]:
    shifted = logits - anchor[:, None]
    at_pivot = shifted.gather(1, pivot[:, None])[:, 0].double()
    prediction = _first_peak(shifted, places)
    exp_others = _without(shifted.exp_(), pivot, places)
    sums = _row_sums(exp_others), _square_sums(exp_others)
    return (at_pivot, *sums, prediction), exp_others


# --- one meaning, spelled for two ways of running -------------------------------------------------


def _without(
    values: Tensor, pivot: Tensor, places: Tensor, instead: Tensor | float = 0.0
) -> Tensor:
    """Return values with something else at the pivots; they may be overwritten."""
    if torch.compiler.is_compiling():
        # A comparison disappears in the loop around it; a scatter would write the matrix out.
        return torch.where(places == pivot[:, None].to(places.dtype), instead, values)
    if isinstance(instead, Tensor):  # two overloads of scatter_
        return values.scatter_(1, pivot[:, None], instead)
    return values.scatter_(1, pivot[:, None], instead)


def _first_peak(shifted: Tensor, places: Tensor) -> Tensor:
    """Return the first class of u = 0, (rows,), int64; class 0 where there is none (NaN)."""
    if torch.compiler.is_compiling():
        place = torch.where(shifted == 0, places, torch.inf).amin(dim=1)
        return torch.where(place.isinf(), 0.0, place).long()
    # argmax and comparisons do not use vector instructions. 1 + sign u is 1 at peaks and 0
    # elsewhere: a single peak's index is a product with 0, 1, 2, ...
    peaks = shifted.sign().add_(1).to(places.dtype)
    place = torch.mv(peaks, places).long()
    several = peaks.sum(dim=1) != 1
    if several.any():
        place[several] = (shifted[several] == 0).to(torch.uint8).argmax(dim=1)
    return place


def _weighted(weights: Tensor, shifted: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return torch.where(weights == 0, 0.0, weights * shifted)
    products = shifted * weights
    if products.isnan().any():
        products = torch.where(weights == 0, 0.0, products)
    return products


def _row_sums(matrix: Tensor) -> Tensor:
    # float64: lanes of float32 that add up a million classes are off in the fifth digit.
    return matrix.sum(dim=1, dtype=torch.float64)


def _square_sums(matrix: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        # Squared in float64: what was converted for the other sum is not converted again.
        return matrix.double().square().sum(dim=1)
    return _row_sums(matrix.square())


def _count(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if torch.compiler.is_compiling():
        # Compiled passes see no more classes than a float32 counts exactly.
        return mask.to(dtype).sum(dim=1).double()
    return _row_sums(mask.to(dtype))


def _weigh_rows(matrix: Tensor, factors: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return (matrix.double() * factors[:, None]).sum(dim=0)
    return torch.mv(matrix.double().t(), factors)
