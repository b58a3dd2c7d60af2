"""Cross-entropy of softmax on smoothed labels."""

from dataclasses import dataclass
from typing import Literal

from xentcore.options import Source
from xentcore.row_statistics import RowStatistics, RowTerms, cross_entropy
from xentcore.variant import SOFTMAX_REFUSALS, Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSmoothingSettings(Settings):
    """Settings of ``label-smoothing``."""

    smoothing: float = setting(
        0.1, "share e of the label that is spread over classes", minimum=0, below=1
    )
    spread: Literal["uniform", "others"] = setting(
        "uniform",
        "uniform: t' = (1-e)t + e/C, as PyTorch and Keras; "
        "others: the true class keeps 1-e and the rest share e",
    )
    class_weights: tuple[float, ...] | None = setting(
        None, "weight of each class; none means 1 for all", minimum=0
    )


class LabelSmoothing(Variant[LabelSmoothingSettings]):
    """-sum a log p with a = w*t', t' the smoothed label.

    For a class weight of 0 the smoothed mass on that class counts 0, even on a logit of -inf.
    """

    slug = "label-smoothing"
    summary = "softmax cross-entropy of labels that are spread a little over all classes"
    formula = "-sum_c a_c log p_c, a = w*t', t' = (1-e)t + e/C (uniform) or (1-e)t + (1-t)e/(C-1)"
    gradient = "p*sum(a) - a"
    source = "Szegedy et al., arXiv 1512.00567"
    settings_type = LabelSmoothingSettings
    families = ("softmax",)
    label_kinds = ("integer", "one_hot", "probabilities")
    refusals = SOFTMAX_REFUSALS
    example = {
        "settings": {"smoothing": 0.1},
        "logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]],
        "labels": [0, 3],
    }

    def class_weights(self, settings: LabelSmoothingSettings) -> tuple[float, ...] | None:
        return settings.class_weights

    def source_of_rows(self, settings: LabelSmoothingSettings) -> Source:
        if not settings.smoothing:
            return "measured"
        return "total" if settings.class_weights is None else "logits"

    def rows(self, statistics: RowStatistics, settings: LabelSmoothingSettings) -> RowTerms:
        classes = statistics.classes
        smoothing = settings.smoothing
        if settings.spread == "uniform":
            keep, spread = 1 - smoothing, smoothing / classes
        else:
            spread = smoothing / (classes - 1)
            keep = 1 - smoothing - spread
        return cross_entropy(statistics, settings.class_weights, keep=keep, spread=spread)
