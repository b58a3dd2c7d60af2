"""Cross-entropy of softmax with a margin at the label, larger for rarer classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from xentcore.class_counts import known_counts
from xentcore.errors import InvalidSetting
from xentcore.row_statistics import RowStatistics, RowTerms, times
from xentcore.transformation import Transformation
from xentcore.variant import SOFTMAX_REFUSALS, Settings, Variant, setting

# Classes that a label leads by more than e^-87 are 0 in float32. A margin that takes back so much
# of the lead would have to bring them back.
_LARGEST_SCALED_MARGIN: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LdamSettings(Settings):
    """Settings of ``ldam``."""

    max_margin: float = setting(
        0.5, "margin of the rarest class; times scale at most 60", minimum=0
    )
    scale: float = setting(
        30.0, "s that logits and margins are multiplied by", minimum=1e-30, maximum=1e30
    )
    class_counts: tuple[int, ...] | None = setting(
        None,
        "rows n_c of each class, of the training set say; none counts the batch, "
        "where an absent class has the largest margin",
        minimum=1,
    )
    class_weights: tuple[float, ...] | None = setting(
        None, "weight of each class; none means 1 for all", minimum=0
    )

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        scaled = self.max_margin * self.scale
        if scaled > _LARGEST_SCALED_MARGIN:
            raise InvalidSetting(
                f"max_margin times scale is {scaled:g}, and must be at most "
                f"{_LARGEST_SCALED_MARGIN:g}: float32 holds no probabilities behind such a margin",
                pointer="/settings/max_margin",
            )


class Ldam(Variant[LdamSettings]):
    """-w_y log of softmax(s (z - D_y e_y)) at the label, D_c = D n_c^(-1/4), at most max_margin.

    The margin is known to the loss, not to the model: what is measured is softmax(s z), and so
    predictions, probabilities and calibration are. ``p`` in the gradient is with the margin.
    """

    slug = "ldam"
    summary = "softmax cross-entropy with a margin at the label, larger for rarer classes"
    formula = "-w_y log softmax(s (z - D_y e_y))_y, D_c = max_margin (min n / n_c)^(1/4)"
    gradient = "s w_y (p - e_y), p = softmax(s (z - D_y e_y))"
    source = "Cao et al., arXiv 1906.07413"
    settings_type = LdamSettings
    families = ("softmax",)
    label_kinds = ("integer", "one_hot")
    refusals = {
        **SOFTMAX_REFUSALS,
        "probabilities": "the margin is that of a row's one class, and a distribution has several: "
        "use /loss/logit-adjusted",
    }
    example = {
        "settings": {"class_counts": [600, 200, 150, 50]},
        "logits": [[0.9, 0.5, 0.0, -0.5], [0.1, 0.2, 0.3, 0.4]],
        "labels": [0, 3],
    }

    def needs_class_counts(self, settings: LdamSettings) -> bool:
        return settings.class_counts is None

    def resolve(self, settings: LdamSettings, class_counts: Sequence[int] | None) -> LdamSettings:
        counts = known_counts(settings.class_counts, class_counts, what="the margins")
        rarest = min((n for n in counts if n), default=1)
        return replace(settings, class_counts=tuple(n or rarest for n in counts))

    def transformation(
        self, settings: LdamSettings, class_counts: Sequence[int] | None
    ) -> Transformation:
        return Transformation(scale=settings.scale)

    def class_weights(self, settings: LdamSettings) -> tuple[float, ...] | None:
        return settings.class_weights

    def rows(self, statistics: RowStatistics, settings: LdamSettings) -> RowTerms:
        others = statistics.others
        margin = settings.scale * _margins(statistics, settings)
        at_label = statistics.pivot_shifted - margin
        # What the sum over classes becomes with the margin: at least e^-60.
        partition = others + at_label.exp()
        # -log p at the label is the softplus of what all others have over it.
        ahead = (others.log() - at_label).masked_fill(at_label.isneginf(), torch.inf)
        weight = torch.ones_like(others)
        if settings.class_weights is not None:
            weight = statistics.constants.vector(settings.class_weights)[statistics.pivot].double()
        return RowTerms(
            loss=times(weight, ahead.clamp_min(0) + ahead.abs().neg().exp().log1p()),
            scale=weight * (statistics.partition / partition),
            subtract=None,
            at_label=-weight * (others / partition),
        )


def _margins(statistics: RowStatistics, settings: LdamSettings) -> Tensor:
    """Return the margin of each row's label, (rows,), float64."""
    counts = statistics.constants.exact(settings.class_counts or ())
    ratio = counts.amin() / counts[statistics.pivot]
    # The fourth root: pow would round an element by where it stands.
    return settings.max_margin * ratio.sqrt().sqrt()
