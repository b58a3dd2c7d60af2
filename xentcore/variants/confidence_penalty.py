"""Cross-entropy that rewards the entropy of what is predicted."""

from dataclasses import dataclass, replace

import torch

from xentcore.options import Source
from xentcore.row_statistics import RowStatistics, RowTerms, cross_entropy, times
from xentcore.variant import SOFTMAX_REFUSALS, Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidencePenaltySettings(Settings):
    """Settings of ``confidence-penalty``."""

    beta: float = setting(
        0.1, "what the entropy of the prediction is worth; 0 is cross-entropy", minimum=0
    )


class ConfidencePenalty(Variant[ConfidencePenaltySettings]):
    """-sum_c t_c log p_c - beta H(p), H(p) = -sum_c p_c log p_c.

    May be negative, though not below ``-beta log C``. The penalty does not know the label, so that
    there are no class weights: sample weights weigh whole rows.
    """

    slug = "confidence-penalty"
    summary = "cross-entropy less beta times the entropy of the prediction; may be negative"
    formula = "-sum_c t_c log p_c - beta H(p), H(p) = -sum_c p_c log p_c"
    gradient = "p*sum(t) - t + beta p (log p + H(p))"
    source = "Pereyra et al., arXiv 1701.06548"
    settings_type = ConfidencePenaltySettings
    families = ("softmax",)
    label_kinds = ("integer", "one_hot", "probabilities")
    refusals = SOFTMAX_REFUSALS
    example = {
        "settings": {"beta": 0.1},
        "logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]],
        "labels": [0, 3],
    }

    def source_of_rows(self, settings: ConfidencePenaltySettings) -> Source:
        return "spread" if settings.beta else "measured"

    def rows(self, statistics: RowStatistics, settings: ConfidencePenaltySettings) -> RowTerms:
        terms, beta = cross_entropy(statistics, None), settings.beta
        if beta == 0:
            return terms
        entropy = statistics.entropy
        at_label = terms.at_label
        if at_label is not None:
            doubt = entropy - statistics.pivot_surprise
            at_label = at_label + beta * times(statistics.pivot_probability, doubt)
        return replace(
            terms,
            loss=terms.loss - beta * entropy,
            # log p + H is u with something added to it, the same for all classes.
            scale=terms.scale + beta * (entropy - statistics.log_partition),
            tilt=torch.full_like(entropy, beta),
            at_label=at_label,
            magnitude=terms.loss + beta * entropy,
        )
