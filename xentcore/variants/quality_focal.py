"""Sigmoid cross-entropy of soft targets that fades where p is close to its target."""

from dataclasses import dataclass

import torch

from xentcore.arithmetic import power
from xentcore.elements import Elements, ElementTerms
from xentcore.variant import Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityFocalSettings(Settings):
    """Settings of ``quality-focal``."""

    beta: float = setting(
        2.0, "how fast elements close to their target lose their say; 0 is binary", minimum=0
    )


class QualityFocal(Variant[QualityFocalSettings]):
    """|t - p|^beta times cross-entropy of t, the quality of a detection say.

    On targets of 0 and 1 this is sigmoid ``focal`` with gamma = beta. Below beta = 1 the slope is
    unbounded around p = t of a soft target; at p = t itself it is 0.
    """

    slug = "quality-focal"
    summary = "sigmoid cross-entropy that fades where p is close to its soft target"
    formula = "abs(t-p)^b bce, bce = (1-t) softplus(x) + t softplus(-x)"
    gradient = "abs(d)^b (d + b p (1-p) bce / d), d = p - t"
    source = "Li et al., arXiv 2006.04388"
    settings_type = QualityFocalSettings
    families = ("sigmoid",)
    label_kinds = ("probabilities", "multi_hot", "binary", "one_hot", "integer")
    example = {
        "settings": {"beta": 2.0},
        "logits": [[2.0, -1.0, 0.5], [-0.3, 1.2, -2.0]],
        "labels": [[0.8, 0.0, 0.6], [0.0, 0.5, 0.0]],
    }

    def elements(self, block: Elements, settings: QualityFocalSettings) -> ElementTerms:
        beta, dtype = settings.beta, block.logits.dtype
        # Around p = t the difference has few digits of float32, and a small beta shows it.
        wide = block.in_float64()
        t, p, q = wide.targets, wide.probability, wide.complement
        bce = (1 - t) * wide.softplus + t * wide.softplus_negative
        off = (1 - t) * p - t * q
        fade = power(off.abs(), beta)
        if block.infinite is not None:
            # An infinite logit is right or infinitely wrong; a tiny target must not fade to 0.
            fade = torch.where(block.infinite & (off != 0), 1.0, fade)
        pull = torch.where(off == 0, 0.0, beta * p * q * bce / off)
        return ElementTerms(loss=(fade * bce).to(dtype), gradient=(fade * (off + pull)).to(dtype))
