"""What is known about elements of the sigmoid family, and what losses are made of it."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from xentcore.constants import Constants


@dataclass(frozen=True)
class Elements:
    """A block of logits and targets, and what the losses of its elements are made of.

    Attributes:
        logits: x, (rows, classes), no NaN; infinities replaced by the largest finite number.
        targets: t in [0, 1], (rows, classes).
        infinite: where x is +inf or -inf, or ``None`` when nowhere.
        constants: per-class settings as tensors.
    """

    logits: Tensor
    targets: Tensor
    infinite: Tensor | None
    constants: Constants

    def in_float64(self) -> "Elements":
        """Return the block in float64, for losses that cancel where p is close to t."""
        return replace(self, logits=self.logits.double(), targets=self.targets.double())

    @cached_property
    def _measured(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.constants.passes.measure_elements(self.logits)

    @property
    def softplus(self) -> Tensor:
        """-log(1 - p) = log(1 + e^x): the loss where t = 0."""
        return self._measured[0]

    @property
    def softplus_negative(self) -> Tensor:
        """-log p = log(1 + e^-x): the loss where t = 1."""
        return self._measured[1]

    @property
    def probability(self) -> Tensor:
        """P = sigma(x)."""
        return self._measured[2]

    @property
    def complement(self) -> Tensor:
        """1 - p = sigma(-x), without cancellation."""
        return self._measured[3]


@dataclass(frozen=True, slots=True)
class ElementTerms:
    """A variant's loss and gradient per element, both (rows, classes) in the compute dtype.

    Attributes:
        loss: nats.
        gradient: d loss / d x.
        bounded: where an infinite logit has a finite loss although it is wrong, (rows, classes),
            bool; ``None`` for nowhere.
    """

    loss: Tensor
    gradient: Tensor
    bounded: Tensor | None = None


def elements(logits: Tensor, targets: Tensor, constants: Constants) -> Elements:
    """Prepare a block of logits without NaN; see :class:`Elements` for shapes."""
    infinite = logits.isinf()
    if not infinite.any():
        return Elements(logits=logits, targets=targets, infinite=None, constants=constants)
    # The largest finite number stands in for infinity, so that 0 * inf cannot arise.
    limits = torch.finfo(logits.dtype)
    return Elements(
        logits=logits.clamp(limits.min, limits.max),
        targets=targets,
        infinite=infinite,
        constants=constants,
    )


def restore_infinities(block: Elements, terms: ElementTerms) -> ElementTerms:
    """Return terms whose loss is +inf where an infinite logit is wrong about its target."""
    if block.infinite is None:
        return terms
    # Where it is right, the loss of the number that stands in for it is exactly 0.
    wrong = block.infinite & (terms.loss > 0)
    if terms.bounded is not None:
        wrong &= ~terms.bounded
    return replace(terms, loss=terms.loss.masked_fill(wrong, torch.inf))


def cross_entropy(block: Elements, *, yes: "Tensor | float", no: "Tensor | float") -> ElementTerms:
    """Return yes * softplus(-x) + no * softplus(x): cross-entropy with a weight for each side."""
    return ElementTerms(
        loss=no * block.softplus + yes * block.softplus_negative,
        gradient=no * block.probability - yes * block.complement,
    )
