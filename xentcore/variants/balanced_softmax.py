"""Cross-entropy of softmax whose exponentials are weighted by class counts."""

from collections.abc import Sequence
from dataclasses import dataclass

from xentcore.class_counts import known_counts, log_shares
from xentcore.row_statistics import RowStatistics, RowTerms, cross_entropy
from xentcore.transformation import Transformation
from xentcore.variant import SOFTMAX_REFUSALS, Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancedSoftmaxSettings(Settings):
    """Settings of ``balanced-softmax``."""

    class_counts: tuple[int, ...] | None = setting(
        None,
        "rows n_c of each class, of the training set say; none counts the batch, "
        "and a class it does not hold has p = 0, a label on it an infinite loss",
        minimum=1,
    )


class BalancedSoftmax(Variant[BalancedSoftmaxSettings]):
    """-sum t log p with p_c = n_c e^z_c / sum_k n_k e^z_k.

    A factor common to all counts cancels in p: this is ``logit-adjusted`` with tau = 1 and the
    counts' shares as prior, bit for bit, and the two share a pass.
    """

    slug = "balanced-softmax"
    summary = "softmax cross-entropy whose exponentials are weighted by class counts"
    formula = "-sum_c t_c log p_c, p = softmax(z + log n)"
    gradient = "p*sum(t) - t"
    source = "Ren et al., arXiv 2007.10740"
    settings_type = BalancedSoftmaxSettings
    families = ("softmax",)
    label_kinds = ("integer", "one_hot", "probabilities")
    refusals = SOFTMAX_REFUSALS
    example = {
        "settings": {"class_counts": [600, 200, 150, 50]},
        "logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]],
        "labels": [0, 3],
    }

    def needs_class_counts(self, settings: BalancedSoftmaxSettings) -> bool:
        return settings.class_counts is None

    def transformation(
        self, settings: BalancedSoftmaxSettings, class_counts: Sequence[int] | None
    ) -> Transformation:
        counts = known_counts(settings.class_counts, class_counts, what="the class counts")
        return Transformation(offsets=log_shares(counts))

    def rows(self, statistics: RowStatistics, settings: BalancedSoftmaxSettings) -> RowTerms:
        return cross_entropy(statistics, None)
