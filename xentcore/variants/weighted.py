"""Cross-entropy of softmax with class weights given, or derived from class counts."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, replace
from typing import Literal

from xentcore.class_counts import balanced, effective_number, known_counts
from xentcore.errors import InvalidSetting
from xentcore.row_statistics import RowStatistics, RowTerms, cross_entropy
from xentcore.variant import SOFTMAX_REFUSALS, Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedSettings(Settings):
    """Settings of ``weighted``."""

    class_weights: tuple[float, ...] | Literal["balanced", "effective_number"] = setting(
        MISSING,
        "weight of each class; 'balanced': R/(C n_c); "
        "'effective_number': (1-b)/(1-b^n_c), scaled to sum C",
        minimum=0,
    )
    beta: float = setting(0.999, "b of 'effective_number'", minimum=0, below=1)
    class_counts: tuple[int, ...] | None = setting(
        None,
        "rows n_c of each class, of the training set say; none counts the batch, "
        "where an absent class weighs 0",
        minimum=1,
    )

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        if self.class_counts is not None and isinstance(self.class_weights, tuple):
            raise InvalidSetting(
                "class_counts serve 'balanced' and 'effective_number': "
                "leave them out, or give no class_weights of your own",
                pointer="/settings/class_counts",
            )


class Weighted(Variant[WeightedSettings]):
    """-sum a log p with a = w*t and w required."""

    slug = "weighted"
    summary = "softmax cross-entropy with class weights, given or derived from class counts"
    formula = (
        "-sum_c a_c log p_c, a = w*t; balanced w_c = R/(C n_c), effective number (1-b)/(1-b^n_c)"
    )
    gradient = "p*sum(a) - a"
    source = "King and Zeng, Political Analysis 9 (2001); Cui et al., arXiv 1901.05555"
    settings_type = WeightedSettings
    families = ("softmax",)
    label_kinds = ("integer", "one_hot", "probabilities")
    refusals = SOFTMAX_REFUSALS
    example = {
        "settings": {"class_weights": [0.5, 1.0, 1.0, 2.0]},
        "logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]],
        "labels": [0, 3],
    }

    def needs_class_counts(self, settings: WeightedSettings) -> bool:
        return isinstance(settings.class_weights, str) and settings.class_counts is None

    def resolve(
        self, settings: WeightedSettings, class_counts: Sequence[int] | None
    ) -> WeightedSettings:
        if isinstance(settings.class_weights, tuple):
            return settings
        counts = known_counts(
            settings.class_counts, class_counts, what=f"class_weights '{settings.class_weights}'"
        )
        weights = (
            balanced(counts)
            if settings.class_weights == "balanced"
            else effective_number(counts, settings.beta)
        )
        return replace(settings, class_weights=weights, class_counts=None)

    def class_weights(self, settings: WeightedSettings) -> tuple[float, ...] | None:
        return settings.class_weights if isinstance(settings.class_weights, tuple) else None

    def rows(self, statistics: RowStatistics, settings: WeightedSettings) -> RowTerms:
        return cross_entropy(statistics, self.class_weights(settings))
