"""Sigmoid cross-entropy that fades differently for positives and negatives."""

import math
from dataclasses import dataclass

import torch

from xentcore.arithmetic import power
from xentcore.elements import Elements, ElementTerms
from xentcore.variant import Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class AsymmetricSettings(Settings):
    """Settings of ``asymmetric``."""

    gamma_pos: float = setting(0.0, "how fast easy positives lose their say", minimum=0)
    gamma_neg: float = setting(4.0, "how fast easy negatives lose their say", minimum=0)
    margin: float = setting(
        0.05, "m: negatives of p <= m count nothing, all others as p - m", minimum=0, below=1
    )


class Asymmetric(Variant[AsymmetricSettings]):
    """(1-p)^g+ (-log p) for positives, p_m^g- (-log(1-p_m)) for negatives, p_m = max(p - m, 0).

    Soft targets take the mix t * positive + (1-t) * negative. With a margin the loss of a negative
    never exceeds -log m: it is finite even where the logit is +inf.
    """

    slug = "asymmetric"
    summary = "sigmoid cross-entropy for many labels, most of them negative"
    formula = "t (1-p)^g+ (-log p) + (1-t) p_m^g- (-log(1-p_m)), p_m = max(p - m, 0)"
    gradient = (
        "-t q^g+ (q + g+ p (-log p)) + (1-t) p q p_m^g- (g- r + 1/(1-p_m)), q = 1-p, "
        "r = -log(1-p_m)/p_m; 0 for the negative where p <= m"
    )
    source = "Ben-Baruch et al., arXiv 2009.14119"
    settings_type = AsymmetricSettings
    families = ("sigmoid",)
    label_kinds = ("multi_hot", "binary", "one_hot", "probabilities", "integer")
    example = {
        "settings": {"gamma_pos": 1.0},
        "logits": [[2.0, -1.0, 0.5], [-0.3, 1.2, -2.0]],
        "labels": [[1, 0, 1], [0, 0, 0]],
    }

    def elements(self, block: Elements, settings: AsymmetricSettings) -> ElementTerms:
        t = block.targets
        positive = _positive(block, settings.gamma_pos)
        negative = _negative(block, settings.gamma_neg, settings.margin)
        return ElementTerms(
            loss=t * positive.loss + (1 - t) * negative.loss,
            gradient=t * positive.gradient + (1 - t) * negative.gradient,
            bounded=block.logits > 0 if settings.margin else None,
        )


def _positive(block: Elements, gamma: float) -> ElementTerms:
    surprise, missing = block.softplus_negative, block.complement
    fade = power(missing, gamma)
    # p -> 0: p * surprise -> 0, although the surprise itself grows without bound.
    return ElementTerms(
        loss=fade * surprise,
        gradient=-fade * (missing + gamma * block.probability * surprise),
    )


def _negative(block: Elements, gamma: float, margin: float) -> ElementTerms:
    p, q = block.probability, block.complement
    beyond = (p - margin).clamp_min(0)
    # 1 - p_m without cancellation where p -> 1.
    rest = q + margin
    surprise = block.softplus
    if margin:
        shifted = torch.where(beyond < 0.5, -(-beyond).log1p(), -rest.log())  # noqa: PLR2004
        # A margin too small for float32 leaves -log 0: both bounds hold for it all the same.
        surprise = torch.minimum(surprise, shifted).clamp_max(-math.log(margin))
    # 0^0 is 1, and what the margin covers counts nothing all the same.
    fade = torch.where(beyond > 0, power(beyond, gamma), 0.0)
    ratio = torch.where(beyond == 0, 1.0, surprise / beyond)
    bend = torch.where(rest == 0, 0.0 if margin else 1.0, q / rest)
    return ElementTerms(loss=fade * surprise, gradient=p * fade * (gamma * q * ratio + bend))
