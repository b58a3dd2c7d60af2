"""Cross-entropy that keeps the log-sum-exp of the logits close to 0."""

from dataclasses import dataclass, replace

from xentcore.row_statistics import RowStatistics, RowTerms, cross_entropy
from xentcore.variant import SOFTMAX_REFUSALS, Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ZLossSettings(Settings):
    """Settings of ``z-loss``."""

    penalty: float = setting(
        1e-4, "lambda: what the squared log-sum-exp is multiplied by; 0 is cross-entropy", minimum=0
    )


class ZLoss(Variant[ZLossSettings]):
    """-sum_c t_c log p_c + lambda lse^2, lse = log sum_c exp z_c of the logits as they are.

    The one softmax variant to which a common offset on the logits matters: it is what the penalty
    is about. A row of its gradient sums to 2 lambda lse. Probabilities and log-probabilities have
    lse = 0, and there it is cross-entropy. The penalty does not know the label, so that there are
    no class weights: sample weights weigh whole rows.
    """

    slug = "z-loss"
    summary = "cross-entropy plus a penalty on the log-sum-exp, which keeps logits from drifting"
    formula = "-sum_c t_c log p_c + lambda lse^2, lse = log sum_c exp z_c"
    gradient = "p*sum(t) - t + 2 lambda lse p"
    source = "Chowdhery et al., PaLM, arXiv 2204.02311"
    settings_type = ZLossSettings
    families = ("softmax",)
    label_kinds = ("integer", "one_hot", "probabilities")
    refusals = SOFTMAX_REFUSALS
    shift_invariant = False
    example = {
        "settings": {"penalty": 1e-4},
        "logits": [[2.0, 1.0, 0.0, -1.0], [20.1, 20.2, 20.3, 20.4]],
        "labels": [0, 3],
    }

    def rows(self, statistics: RowStatistics, settings: ZLossSettings) -> RowTerms:
        terms = cross_entropy(statistics, None)
        # float64: at an offset of 3e7 a float32 log-sum-exp is off by 2.
        lse = statistics.maximum.double() + statistics.log_partition
        push = 2 * settings.penalty * lse
        at_label = terms.at_label
        if at_label is not None:
            at_label = at_label + push * statistics.pivot_probability
        return replace(
            terms,
            loss=terms.loss + settings.penalty * lse.square(),
            scale=terms.scale + push,
            at_label=at_label,
        )
