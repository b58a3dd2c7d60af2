"""Cross-entropy of softmax whose logits are divided by a temperature."""

from collections.abc import Sequence
from dataclasses import dataclass

from xentcore.row_statistics import RowStatistics, RowTerms, cross_entropy
from xentcore.transformation import Transformation
from xentcore.variant import SOFTMAX_REFUSALS, Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureSettings(Settings):
    """Settings of ``temperature``."""

    temperature: float = setting(
        1.0,
        "T that logits are divided by: above 1 softens the probabilities, below 1 sharpens them",
        # Room for weights beside 1/T, which enters the gradient: float32 ends at 3e38.
        minimum=1e-30,
    )
    class_weights: tuple[float, ...] | None = setting(
        None, "weight of each class; none means 1 for all", minimum=0
    )


class Temperature(Variant[TemperatureSettings]):
    """-sum a log p with a = w*t and p = softmax(z/T), the loss by which T is fitted.

    The gradient is by z, the logits as given: one over T times that by z/T.
    """

    slug = "temperature"
    summary = "softmax cross-entropy of logits divided by a temperature"
    formula = "-sum_c a_c log p_c, a = w*t, p = softmax(z/T)"
    gradient = "(p*sum(a) - a)/T"
    source = "Guo et al., arXiv 1706.04599"
    settings_type = TemperatureSettings
    families = ("softmax",)
    label_kinds = ("integer", "one_hot", "probabilities")
    refusals = SOFTMAX_REFUSALS
    example = {
        "settings": {"temperature": 1.5},
        "logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]],
        "labels": [0, 3],
    }

    def transformation(
        self, settings: TemperatureSettings, class_counts: Sequence[int] | None
    ) -> Transformation:
        return Transformation(scale=1 / settings.temperature)

    def class_weights(self, settings: TemperatureSettings) -> tuple[float, ...] | None:
        return settings.class_weights

    def rows(self, statistics: RowStatistics, settings: TemperatureSettings) -> RowTerms:
        return cross_entropy(statistics, settings.class_weights)
