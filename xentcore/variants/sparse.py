"""Cross-entropy of softmax on class indices."""

from dataclasses import dataclass

from xentcore.row_statistics import RowStatistics, RowTerms, cross_entropy
from xentcore.variant import SOFTMAX_REFUSALS, Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseSettings(Settings):
    """Settings of ``sparse``."""

    class_weights: tuple[float, ...] | None = setting(
        None, "weight of each class; none means 1 for all", minimum=0
    )


class Sparse(Variant[SparseSettings]):
    """-w_y log p_y, as ``torch.nn.functional.cross_entropy`` on index labels."""

    slug = "sparse"
    summary = "softmax cross-entropy of one class index per row"
    formula = "-w_y log p_y"
    gradient = "w_y (p - e_y)"
    source = "Good, Rational Decisions (1952); Bishop, PRML (2006), 4.3.4"
    settings_type = SparseSettings
    families = ("softmax",)
    label_kinds = ("integer",)
    refusals = {
        **SOFTMAX_REFUSALS,
        "one_hot": "sparse takes class indices: use /loss/categorical",
        "probabilities": "sparse takes class indices: use /loss/categorical",
    }
    example = {
        "settings": {},
        "logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]],
        "labels": [0, 3],
    }

    def class_weights(self, settings: SparseSettings) -> tuple[float, ...] | None:
        return settings.class_weights

    def rows(self, statistics: RowStatistics, settings: SparseSettings) -> RowTerms:
        return cross_entropy(statistics, settings.class_weights)
