"""Class-balanced loss: cross-entropy or focal loss, weighted by the effective number of rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from xentcore.class_counts import effective_number, known_counts
from xentcore.row_statistics import RowStatistics, RowTerms, cross_entropy
from xentcore.surprise import focal, on_label
from xentcore.variant import SOFTMAX_REFUSALS, Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassBalancedSettings(Settings):
    """Settings of ``class-balanced``."""

    beta: float = setting(
        0.999, "b: 0 weighs all classes alike, towards 1 by inverse frequency", minimum=0, below=1
    )
    gamma: float = setting(
        0.0,
        "how fast easy rows lose their say: the class-balanced focal loss; 0 is cross-entropy",
        minimum=0,
    )
    class_counts: tuple[int, ...] | None = setting(
        None,
        "rows n_c of each class, of the training set say; none counts the batch, "
        "where an absent class weighs 0",
        minimum=1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weighed(ClassBalancedSettings):
    """The settings with the weights that follow from the counts."""

    class_weights: tuple[float, ...] = setting((), "weight of each class", minimum=0)


class ClassBalanced(Variant[ClassBalancedSettings]):
    """w_y (1-p_y)^g (-log p_y), w_c = (1-b)/(1-b^n_c) scaled to sum C.

    With gamma 0 it is ``weighted`` with ``class_weights: effective_number`` and the same beta, to
    the last bit. ``weighted`` serves other weights too; what it has not is the source's second
    loss, the class-balanced focal loss, here over softmax. Weights enter the ``weights``
    denominator; the source's mean is that of the normaliser ``rows``.

    Label distributions: ``sum_c w_c t_c (1-p_c)^g (-log p_c)``.
    """

    slug = "class-balanced"
    summary = (
        "cross-entropy or focal loss weighted by the effective number of rows per class; "
        "without gamma it is weighted with effective_number"
    )
    formula = "sum_c a_c (1-p_c)^g (-log p_c), a = w*t, w_c = (1-b)/(1-b^n_c) scaled to sum C"
    gradient = "sum_c a_c q_c^g (1 + g p_c r_c) (p - e_c), q = 1-p, r = -log(p)/q"
    source = "Cui et al., arXiv 1901.05555"
    settings_type = ClassBalancedSettings
    families = ("softmax",)
    label_kinds = ("integer", "one_hot", "probabilities")
    refusals = SOFTMAX_REFUSALS
    example = {
        "settings": {"beta": 0.999, "gamma": 1.0, "class_counts": [5000, 2000, 500, 50]},
        "logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]],
        "labels": [0, 3],
    }

    def needs_class_counts(self, settings: ClassBalancedSettings) -> bool:
        return settings.class_counts is None

    def resolve(
        self, settings: ClassBalancedSettings, class_counts: Sequence[int] | None
    ) -> ClassBalancedSettings:
        counts = known_counts(settings.class_counts, class_counts, what="class-balanced weights")
        return _Weighed(
            beta=settings.beta,
            gamma=settings.gamma,
            class_counts=settings.class_counts,
            class_weights=effective_number(counts, settings.beta),
        )

    def class_weights(self, settings: ClassBalancedSettings) -> tuple[float, ...] | None:
        return settings.class_weights if isinstance(settings, _Weighed) else None

    def rows(self, statistics: RowStatistics, settings: ClassBalancedSettings) -> RowTerms:
        weights = self.class_weights(settings)
        if settings.gamma == 0:
            return cross_entropy(statistics, weights)
        return on_label(statistics, weights, partial(focal, gamma=settings.gamma))
