"""Powers whose last bit does not depend on which numbers they are computed with."""

from typing import Final

from torch import Tensor

# Exponents that PyTorch computes by multiplication and square root, the same for every element.
_MULTIPLIED_OUT: Final = (0.0, 0.5, 1.0, 2.0, 3.0)


def power(base: Tensor, exponent: float) -> Tensor:
    """Return base^exponent for a base in [0, 1] and an exponent of at least 0; 0^0 is 1."""
    if exponent in _MULTIPLIED_OUT:
        return base.pow(exponent)
    # pow rounds the last elements of a tensor otherwise than those before; exp and log do not.
    return (exponent * base.log()).exp()
