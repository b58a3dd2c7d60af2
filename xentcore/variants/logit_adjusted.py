"""Cross-entropy of softmax whose logits are raised by the logarithm of the class prior."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xentcore.class_counts import known_counts, log_shares
from xentcore.errors import InvalidSetting
from xentcore.row_statistics import RowStatistics, RowTerms, cross_entropy
from xentcore.transformation import Transformation
from xentcore.variant import SOFTMAX_REFUSALS, Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitAdjustedSettings(Settings):
    """Settings of ``logit-adjusted``."""

    tau: float = setting(
        1.0, "how much of the log prior is added; 0 is cross-entropy", minimum=0, maximum=1e30
    )
    class_prior: tuple[float, ...] | None = setting(
        None,
        "how frequent each class is in training; divided by its sum, so that any unit will do",
        above=0,
    )
    class_counts: tuple[int, ...] | None = setting(
        None,
        "rows n_c of each class, in place of class_prior; without either the batch is counted, "
        "and a class it does not hold has prior 0: p = 0, and a label on it an infinite loss",
        minimum=1,
    )

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        if self.class_prior is not None and self.class_counts is not None:
            raise InvalidSetting(
                "class_prior and class_counts say the same: give one of them",
                pointer="/settings/class_counts",
            )


class LogitAdjusted(Variant[LogitAdjustedSettings]):
    """-sum t log p with p = softmax(z + tau log prior).

    A class of prior 0 has a logit of -inf; at tau = 0 no prior counts, not even one of 0.
    """

    slug = "logit-adjusted"
    summary = "softmax cross-entropy that asks rare classes for a larger margin"
    formula = "-sum_c t_c log p_c, p = softmax(z + tau log prior)"
    gradient = "p*sum(t) - t"
    source = "Menon et al., arXiv 2007.07314"
    settings_type = LogitAdjustedSettings
    families = ("softmax",)
    label_kinds = ("integer", "one_hot", "probabilities")
    refusals = SOFTMAX_REFUSALS
    example = {
        "settings": {"class_prior": [0.6, 0.2, 0.15, 0.05]},
        "logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]],
        "labels": [0, 3],
    }

    def needs_class_counts(self, settings: LogitAdjustedSettings) -> bool:
        return settings.class_prior is None and settings.class_counts is None

    def transformation(
        self, settings: LogitAdjustedSettings, class_counts: Sequence[int] | None
    ) -> Transformation:
        amounts: Sequence[float] | None = settings.class_prior
        if amounts is None:
            amounts = known_counts(settings.class_counts, class_counts, what="the priors")
        # 0 log 0 is 0 here.
        return Transformation(
            offsets=tuple(
                settings.tau * log if settings.tau or math.isfinite(log) else 0.0
                for log in log_shares(amounts)
            )
        )

    def rows(self, statistics: RowStatistics, settings: LogitAdjustedSettings) -> RowTerms:
        return cross_entropy(statistics, None)
