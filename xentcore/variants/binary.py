"""Cross-entropy of sigmoid: every element an independent yes or no."""

from dataclasses import dataclass

from xentcore.elements import Elements, ElementTerms, cross_entropy
from xentcore.variant import Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class BinarySettings(Settings):
    """Settings of ``binary``."""

    positive_weights: float | tuple[float, ...] = setting(
        1.0, "weight P of the positive side, one for all or one per class", minimum=0
    )
    class_weights: tuple[float, ...] | None = setting(
        None, "weight of each class; none means 1 for all", minimum=0
    )
    smoothing: float = setting(0.0, "e: t is used as t(1-e) + e/2", minimum=0, below=1)


class Binary(Variant[BinarySettings]):
    """BCE with logits, per element, summed per row.

    Written as ``(1-t) softplus(x) + P t softplus(-x)``: equal to the usual
    ``(1-t)x + (1+(P-1)t) softplus(-x)``, which cancels for x far below 0 (at x = -20, t = 0 it
    gives 0 in float32 where the loss is 2e-9).
    """

    slug = "binary"
    summary = "sigmoid cross-entropy: each class an independent yes or no"
    formula = "w_c ((1-t)x + (1+(P-1)t) softplus(-x)), t smoothed as t(1-e)+e/2"
    gradient = "w_c ((1+(P-1)t) sigma(x) - P t)"
    source = "Cox, JRSS B 20 (1958)"
    settings_type = BinarySettings
    families = ("sigmoid",)
    label_kinds = ("binary", "multi_hot", "one_hot", "probabilities", "integer")
    example = {
        "settings": {"positive_weights": 2.0},
        "logits": [[2.0, -1.0, 0.5], [-0.3, 1.2, -2.0]],
        "labels": [[1, 0, 1], [0, 0, 0]],
    }

    def class_weights(self, settings: BinarySettings) -> tuple[float, ...] | None:
        return settings.class_weights

    def elements(self, block: Elements, settings: BinarySettings) -> ElementTerms:
        weight = block.constants.scale(settings.class_weights)
        positive = block.constants.scale(settings.positive_weights)
        t = block.targets
        if settings.smoothing:
            t = t * (1 - settings.smoothing) + settings.smoothing / 2
        return cross_entropy(block, yes=weight * positive * t, no=weight * (1 - t))
