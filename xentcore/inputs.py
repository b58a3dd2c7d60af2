"""What was sent as logits, as logits: the dtype of the arithmetic, and probabilities undone."""

from typing import Final

import torch
from torch import Tensor

from xentcore.errors import InvalidProbability, UnsupportedDtype, pointer_to
from xentcore.layout import Block, Layout
from xentcore.options import Family, Options

# Room for what rounding does to the probabilities of a softmax in half precision.
_PROBABILITY_TOLERANCE: Final = 1e-3
_COMPUTE_DTYPES: Final = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
}


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the arithmetic: float32 for half and single inputs, float64 for double.

    Raises:
        UnsupportedDtype: logits that are not floating-point numbers of these kinds.
    """
    try:
        return _COMPUTE_DTYPES[dtype]
    except KeyError:
        raise UnsupportedDtype(
            f"logits are {str(dtype).removeprefix('torch.')}: "
            "give float16, bfloat16, float32 or float64",
            pointer="/logits",
        ) from None


def to_logits(values: Tensor, family: Family, options: Options) -> Tensor:
    """Return logits whose softmax (or sigmoid) are the probabilities that the values state.

    Softmax needs logarithms only, and renormalises by itself; sigmoid takes log p - log(1-p).

    Args:
        values: (rows, classes) in the compute dtype; (log-)probabilities were checked.
        family: which probabilities they are of.
        options: ``input`` and ``probability_floor``.
    """
    if options.input == "logits":
        return values
    if options.input == "log_probabilities":
        if family == "softmax":
            return values
        log_p = values.clamp_max(0)
        return log_p - torch.log(-torch.expm1(log_p))
    p = values.clamp(0, 1)
    if options.probability_floor is not None:
        p = p.clamp(options.probability_floor, 1 - options.probability_floor)
    return p.log() if family == "softmax" else p.log() - (-p).log1p()


def check_probabilities(
    values: Tensor, block: Block, layout: Layout, options: Options, *, ignored: Tensor | None
) -> None:
    """Refuse numbers that are no (log-)probabilities. NaN is left to the non-finite policy.

    Args:
        values: (rows, classes) as sent.
        block: where they stand.
        layout: of the logits.
        options: ``input`` says what the numbers are.
        ignored: rows that may hold anything, (rows,), bool; ``None`` for none.

    Raises:
        InvalidProbability: naming the first one.
    """
    if options.input == "logits":
        return
    if options.input == "probabilities":
        wrong = (values < 0) | (values > 1 + _PROBABILITY_TOLERANCE)
        words = "is no probability: give numbers in [0, 1], or input 'logits'"
    else:
        wrong = values > _PROBABILITY_TOLERANCE
        words = "is no logarithm of a probability: give numbers up to 0, or input 'logits'"
    if ignored is not None:
        wrong &= ~ignored[:, None]
    if wrong.any():
        row, cls = wrong.nonzero()[0].tolist()
        position = layout.element_position(block.start + row, cls)
        raise InvalidProbability(
            f"{values[row, cls].item():g} at position {position} {words}",
            pointer=pointer_to("logits", position),
        )
