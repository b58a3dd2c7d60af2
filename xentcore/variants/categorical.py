"""Cross-entropy of softmax on one-hot labels or label distributions."""

from dataclasses import dataclass

from xentcore.row_statistics import RowStatistics, RowTerms, cross_entropy
from xentcore.variant import SOFTMAX_REFUSALS, Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoricalSettings(Settings):
    """Settings of ``categorical``."""

    class_weights: tuple[float, ...] | None = setting(
        None, "weight of each class; none means 1 for all", minimum=0
    )


class Categorical(Variant[CategoricalSettings]):
    """-sum a log p with a = w*t, as ``cross_entropy`` on probability targets."""

    slug = "categorical"
    summary = "softmax cross-entropy of one-hot labels or label distributions"
    formula = "-sum_c a_c log p_c, a = w*t"
    gradient = "p*sum(a) - a"
    source = "Good, Rational Decisions (1952); Bishop, PRML (2006), 4.3.4"
    settings_type = CategoricalSettings
    families = ("softmax",)
    label_kinds = ("one_hot", "probabilities")
    refusals = {
        **SOFTMAX_REFUSALS,
        "integer": "categorical takes one-hot labels or distributions: use /loss/sparse",
    }
    example = {
        "settings": {},
        "logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]],
        "labels": [[1.0, 0.0, 0.0, 0.0], [0.0, 0.25, 0.25, 0.5]],
    }

    def class_weights(self, settings: CategoricalSettings) -> tuple[float, ...] | None:
        return settings.class_weights

    def rows(self, statistics: RowStatistics, settings: CategoricalSettings) -> RowTerms:
        return cross_entropy(statistics, settings.class_weights)
