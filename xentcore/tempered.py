"""The tempered softmax: exp with a heavy tail in place of exp, t the temperature.

    exp_t(x) = (1 + (1-t) x)^(1/(1-t)) where that is positive; exp for t = 1
    p_c      = exp_t(z_c - lambda), lambda such that sum_c p_c = 1

With u = z - max z and mu = lambda - max z it is ``p_c = (1 + b (mu - u_c))^(-1/b)``, b = t - 1.
All numbers are float64: lambda is a root, and what is made of it inherits its digits.

Source: Amid et al., arXiv 1906.03361; Naudts, Physica A 316 (2002).
"""

from typing import Final

import torch
from torch import Tensor

# Newton's last step leaves the square of what it finds: 1e-9 is as good as nothing.
_CLOSE: Final = 1e-9


def log_probabilities(shifted: Tensor, temperature: float) -> Tensor:
    """Return log p of the tempered softmax, (rows, classes), float64; -inf where a logit is.

    Args:
        shifted: z - max z, (rows, classes), float64.
        temperature: t, above 1.
    """
    b = temperature - 1
    return _log_p(shifted, _offset(shifted, b), b)


def _log_p(shifted: Tensor, offset: Tensor, b: float) -> Tensor:
    return torch.log1p(b * (offset[:, None] - shifted)) / -b


def _offset(shifted: Tensor, b: float) -> Tensor:
    """Return mu >= 0 such that the probabilities sum to 1, (rows,).

    Newton's method on S^-b = 1, S the sum over classes: a mean of numbers linear in mu, so that it
    is close to linear itself, and concave. From mu = 0, where S >= 1, every step falls short of the
    root, and few are needed: one for equal logits, whatever their number, and rarely more than ten.
    The fixed-point iteration of the source has the same root, and needs more steps for a larger t.
    """
    offset = torch.zeros_like(shifted[:, 0])
    # Each row stops by itself: its number must not depend on rows beside it.
    open_rows = torch.ones_like(offset, dtype=torch.bool)
    while open_rows.any():
        grown = b * (offset[:, None] - shifted)
        p = (grown.log1p() / -b).exp()
        total = p.sum(dim=1)
        # dp/dmu = -p^t = -p / (1 + b (mu - u))
        slope = (p / (1 + grown)).sum(dim=1)
        moved = offset + total * torch.expm1(b * total.log()) / (b * slope)
        # A step that rounds to nothing ends it too: offsets only grow, and so the loop ends.
        further = open_rows & (moved > offset)
        offset = torch.where(further, moved, offset)
        open_rows = further & (total > 1 + _CLOSE)
    return offset
