"""The passes of the sigmoid family over elements, in plain PyTorch.

Every element is an independent yes or no with probability ``sigma(x)``. Everything is built from
``decay = exp(-|x|)``, which cannot overflow: ``softplus(x) = max(x, 0) + log1p(decay)``.

As those of :mod:`xentcore.softmax`, a pass runs as it stands or compiled from this source.
"""

import torch
from torch import Tensor

_HALF = 0.5


def measure_elements(logits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what the losses of elements are made of, each (rows, classes), in the compute dtype.

    Returns:
        softplus(x) = -log(1 - p), the loss where t = 0;
        softplus(-x) = -log p, the loss where t = 1;
        p = sigma(x);
        1 - p = sigma(-x), without cancellation.

    Args:
        logits: x, (rows, classes), finite.
    """
    decay = logits.abs().neg_().exp_()
    bend = decay.log1p()
    larger = (1 + decay).reciprocal()
    smaller = decay * larger
    yes = logits >= 0
    return (
        logits.clamp_min(0) + bend,
        bend - logits.clamp_max(0),
        torch.where(yes, larger, smaller),
        torch.where(yes, smaller, larger),
    )


def element_sums(  # noqa: PLR0913, PLR0917  (five matrices, two columns)
    logits: Tensor,
    targets: Tensor,
    probability: Tensor,
    loss: Tensor,
    slope: Tensor,
    counted: Tensor,
    factors: Tensor,
) -> tuple[Tensor, ...]:
    """Return sums per class over elements, each (classes,), float64.

    Returns:
        elements with t >= 1/2; with p >= 1/2; with both;
        losses of elements with t >= 1/2, and of the others;
        probabilities;
        magnitudes of the slopes; slopes;
        targets.

    Args:
        logits: x, (rows, classes), finite.
        targets: t, (rows, classes).
        probability: p, (rows, classes).
        loss: (rows, classes), finite where the row's factor is not 0.
        slope: d loss / d x, (rows, classes), likewise.
        counted: 1 for rows that are counted, 0 for the others, (rows,), float64.
        factors: what losses, slopes and targets of a row are multiplied by, (rows,), float64.
    """
    rows, weights = counted[:, None], factors[:, None]
    positive, predicted = targets >= _HALF, logits >= 0
    weighted_loss = torch.where(weights == 0, 0.0, weights * loss)
    weighted_slope = torch.where(weights == 0, 0.0, weights * slope)
    return (
        torch.where(positive, rows, 0.0).sum(dim=0),
        torch.where(predicted, rows, 0.0).sum(dim=0),
        torch.where(positive & predicted, rows, 0.0).sum(dim=0),
        torch.where(positive, weighted_loss, 0.0).sum(dim=0),
        torch.where(positive, 0.0, weighted_loss).sum(dim=0),
        (rows * probability).sum(dim=0),
        weighted_slope.abs().sum(dim=0),
        weighted_slope.sum(dim=0),
        (weights * targets).sum(dim=0),
    )
