"""The pass of the sigmoid family, and its losses.

Every element is a yes or no of its own, made of ``decay = exp(-|x|)``, which cannot overflow.
Matrices are (rows, classes), float64.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from service.graphs.expression import Graph, Value, times, where

# The largest number of float32 stands in for infinity, so that 0 * inf cannot arise.
_LARGEST: Final = 3.4028234663852886e38
_HALF: Final = 0.5


@dataclass(frozen=True, slots=True)
class ElementTerms:
    """A loss and its gradient per element.

    Attributes:
        loss: nats.
        gradient: d loss / d x.
        bounded: where an infinite logit has a finite loss although it is wrong; ``None``: nowhere.
    """

    loss: Value
    gradient: Value
    bounded: Value | None = None


@dataclass(frozen=True)
class Elements:
    """Logits and targets, and what the losses of their elements are made of.

    Attributes:
        graph: that is written.
        given: logits, as they are given.
        classes: how many there are.
        targets: t in [0, 1].
    """

    graph: Graph
    given: Value
    classes: int
    targets: Value

    @cached_property
    def infinite(self) -> Value:
        """Where x is +inf or -inf."""
        return self.given.abs().equals(math.inf)

    @cached_property
    def logits(self) -> Value:
        """X, no infinity."""
        return self.given.at_most(_LARGEST).at_least(-_LARGEST)

    @cached_property
    def _decay(self) -> Value:
        return (-self.logits.abs()).exp()

    @cached_property
    def _larger(self) -> Value:
        return 1.0 / (1 + self._decay)

    @cached_property
    def _is_yes(self) -> Value:
        return self.logits >= 0.0

    @cached_property
    def softplus(self) -> Value:
        """-log(1 - p) = log(1 + e^x): the loss where t = 0."""
        return self.logits.at_least(0.0) + self._decay.log1p()

    @cached_property
    def softplus_negative(self) -> Value:
        """-log p = log(1 + e^-x): the loss where t = 1."""
        return self._decay.log1p() - self.logits.at_most(0.0)

    @cached_property
    def probability(self) -> Value:
        """P = sigma(x)."""
        return where(self._is_yes, self._larger, self._decay * self._larger)

    @cached_property
    def complement(self) -> Value:
        """1 - p = sigma(-x), without cancellation."""
        return where(self._is_yes, self._decay * self._larger, self._larger)

    def factor(self, values: tuple[float, ...] | float | None) -> Value:
        """Return a factor that broadcasts over classes, 1 for ``None``."""
        if isinstance(values, tuple):
            return self.graph.vector(values)
        return self.graph.number(1.0 if values is None else values)

    def losses(self, terms: ElementTerms) -> Value:
        """Return the loss per element, +inf where an infinite logit is wrong about its target."""
        # Where it is right, the loss of the number that stands in for it is exactly 0.
        wrong = self.infinite & (terms.loss > 0.0)
        if terms.bounded is not None:
            wrong = wrong & ~terms.bounded
        return where(wrong, math.inf, terms.loss)


def binary(block: Elements, settings: Any) -> ElementTerms:
    """w_c ((1-t)x + (1+(P-1)t) softplus(-x)), t smoothed as t(1-e)+e/2."""
    weight, positive = block.factor(settings.class_weights), block.factor(settings.positive_weights)
    t = block.targets
    if settings.smoothing:
        t = t * (1 - settings.smoothing) + settings.smoothing / 2
    return _cross_entropy(block, yes=weight * positive * t, no=weight * (1 - t))


def ordinal(block: Elements, settings: Any) -> ElementTerms:
    """sum_k w_k ((1-t_k) softplus(x_k) + t_k softplus(-x_k))."""
    weight, t = block.factor(settings.class_weights), block.targets
    return _cross_entropy(block, yes=weight * t, no=weight * (1 - t))


def focal(block: Elements, settings: Any) -> ElementTerms:
    """alpha_t q^g bce, q = p + t - 2pt."""
    t, p, not_p, gamma = block.targets, block.probability, block.complement, settings.gamma
    bce = (1 - t) * block.softplus + t * block.softplus_negative
    wrong = (1 - t) * p + t * not_p
    # d log(wrong)/dx. Hard targets have a limit where wrong vanishes; soft ones never vanish.
    soft = (1 - 2 * t) * p * not_p / wrong
    slope = where(t.equals(1.0), -p, where(t.equals(0.0), not_p, soft))
    # An infinite logit is right or infinitely wrong; a tiny soft target must not fade to 0.
    fade = where(block.infinite & (wrong > 0.0), 1.0, wrong**gamma)
    if settings.alpha is not None:
        alpha = block.factor(settings.alpha)
        fade = fade * (alpha * t + (1 - alpha) * (1 - t))
    return ElementTerms(
        loss=fade * bce, gradient=fade * ((1 - t) * p - t * not_p + gamma * slope * bce)
    )


def quality_focal(block: Elements, settings: Any) -> ElementTerms:
    """abs(t-p)^b bce, bce = (1-t) softplus(x) + t softplus(-x)."""
    t, p, q, beta = block.targets, block.probability, block.complement, settings.beta
    bce = (1 - t) * block.softplus + t * block.softplus_negative
    off = (1 - t) * p - t * q
    right = off.equals(0.0)
    # An infinite logit is right or infinitely wrong; a tiny target must not fade to 0.
    fade = where(block.infinite & ~right, 1.0, off.abs() ** beta)
    pull = where(right, 0.0, beta * p * q * bce / off)
    return ElementTerms(loss=fade * bce, gradient=fade * (off + pull))


def asymmetric(block: Elements, settings: Any) -> ElementTerms:
    """Positives (1-p)^g+ (-log p), negatives p_m^g- (-log(1-p_m)), p_m = max(p - m, 0)."""
    t, margin = block.targets, settings.margin
    positive = _positive(block, settings.gamma_pos)
    negative = _negative(block, settings.gamma_neg, margin)
    return ElementTerms(
        loss=t * positive.loss + (1 - t) * negative.loss,
        gradient=t * positive.gradient + (1 - t) * negative.gradient,
        bounded=block.logits > 0.0 if margin else None,
    )


def _positive(block: Elements, gamma: float) -> ElementTerms:
    surprise, missing = block.softplus_negative, block.complement
    fade = missing**gamma
    # p -> 0: p * surprise -> 0, although the surprise itself grows without bound.
    slope = missing + gamma * times(block.probability, surprise)
    return ElementTerms(loss=fade * surprise, gradient=-fade * slope)


def _negative(block: Elements, gamma: float, margin: float) -> ElementTerms:
    p, q = block.probability, block.complement
    beyond = (p - margin).at_least(0.0)
    # 1 - p_m without cancellation where p -> 1.
    rest = q + margin
    surprise = block.softplus
    if margin:
        shifted = where(beyond < _HALF, -(-beyond).log1p(), -rest.log())
        surprise = shifted.at_most(-math.log(margin))
    # 0^0 is 1, and what the margin covers counts nothing all the same.
    fade = where(beyond > 0.0, beyond**gamma, 0.0)
    ratio = where(beyond.equals(0.0), 1.0, surprise / beyond)
    bend = where(rest.equals(0.0), 0.0 if margin else 1.0, q / rest)
    return ElementTerms(loss=fade * surprise, gradient=p * fade * (gamma * q * ratio + bend))


def _cross_entropy(block: Elements, *, yes: Value, no: Value) -> ElementTerms:
    """Return yes * softplus(-x) + no * softplus(x): cross-entropy with a weight for each side."""
    return ElementTerms(
        loss=no * block.softplus + yes * block.softplus_negative,
        gradient=no * block.probability - yes * block.complement,
    )
