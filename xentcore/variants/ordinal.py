"""Cumulative sigmoid cross-entropy of ranks."""

from dataclasses import dataclass

from xentcore.elements import Elements, ElementTerms, cross_entropy
from xentcore.options import LabelKind, Reading
from xentcore.variant import Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdinalSettings(Settings):
    """Settings of ``ordinal``."""

    class_weights: tuple[float, ...] | None = setting(
        None, "importance of each threshold; none means 1 for all", minimum=0
    )


class Ordinal(Variant[OrdinalSettings]):
    """CORAL: each of C columns asks whether the row's rank is above it, C + 1 ranks in all.

    Integer labels are ranks 0 to C, with t_k = [y > k]. Multi-hot and binary labels are those t as
    they are: once a threshold is not passed, none behind it may be. The usual normaliser counts
    elements, rows times thresholds; the source's mean over rows is ``rows``.
    """

    slug = "ordinal"
    summary = "sigmoid cross-entropy of ranks: is the row above each threshold?"
    formula = "sum_k w_k ((1-t_k) softplus(x_k) + t_k softplus(-x_k)), t_k = [y > k]"
    gradient = "w_k (sigma(x_k) - t_k)"
    source = "Cao, Mirjalili and Raschka, arXiv 1901.07884"
    settings_type = OrdinalSettings
    families = ("sigmoid",)
    label_kinds = ("integer", "multi_hot", "binary")
    refusals = {
        "one_hot": "ordinal takes ranks as integers, or which thresholds each row passed: "
        "state label_kind 'multi_hot' where that happens to be one in every row",
        "probabilities": "ordinal takes ranks, or thresholds passed for certain: use /loss/binary "
        "for the probability that each is passed",
    }
    example = {
        "settings": {},
        "logits": [[2.0, 0.5, -1.0], [3.0, 2.0, 0.5]],
        "labels": [1, 3],
    }

    def reading(self, settings: OrdinalSettings, label_kind: LabelKind) -> Reading:
        return "ranks"

    def class_weights(self, settings: OrdinalSettings) -> tuple[float, ...] | None:
        return settings.class_weights

    def elements(self, block: Elements, settings: OrdinalSettings) -> ElementTerms:
        weight = block.constants.scale(settings.class_weights)
        t = block.targets
        return cross_entropy(block, yes=weight * t, no=weight * (1 - t))
