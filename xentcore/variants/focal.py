"""Focal loss: cross-entropy that looks away from what is already easy."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from xentcore.arithmetic import power
from xentcore.elements import Elements, ElementTerms
from xentcore.errors import InvalidSetting
from xentcore.options import Family, LabelKind
from xentcore.row_statistics import RowStatistics, RowTerms
from xentcore.surprise import focal, on_label
from xentcore.variant import SOFTMAX_REFUSALS, Settings, Variant, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class FocalSettings(Settings):
    """Settings of ``focal``."""

    gamma: float = setting(2.0, "how fast easy rows lose their say; 0 is cross-entropy", minimum=0)
    alpha: float | tuple[float, ...] | None = setting(
        None,
        "softmax: factor of the row's class; sigmoid: the positive side is weighted alpha, "
        "the negative side 1 - alpha, so that it must not exceed 1; part of the loss, "
        "in no denominator",
        minimum=0,
    )
    activation: Literal["auto", "softmax", "sigmoid"] = setting(
        "auto", "auto: sigmoid for binary and multi-hot labels, softmax for all others"
    )


class Focal(Variant[FocalSettings]):
    """alpha (1-p)^gamma times cross-entropy, over softmax or sigmoid.

    Label distributions: softmax takes ``sum_c t_c alpha_c (1-p_c)^g (-log p_c)``, as Keras does;
    sigmoid the expression of the source with ``q = p + t - 2pt``.
    """

    slug = "focal"
    summary = "cross-entropy that fades for rows that are already right"
    formula = "softmax: -alpha_y (1-p_y)^g log p_y; sigmoid: alpha_t q^g bce, q = p + t - 2pt"
    gradient = (
        "softmax: phi (p - e_y), phi = alpha_y q^g (1 + g p_y r), q = 1-p_y, r = -log(p_y)/q; "
        "sigmoid: -s alpha_t q^g (q + g sigma(x_t) softplus(-x_t)), s = 2t-1, x_t = s x"
    )
    source = "Lin et al., arXiv 1708.02002"
    settings_type = FocalSettings
    families = ("softmax", "sigmoid")
    label_kinds = ("integer", "one_hot", "probabilities", "multi_hot", "binary")
    example = {
        "settings": {"gamma": 2.0},
        "logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]],
        "labels": [0, 3],
    }

    def family(self, settings: FocalSettings, label_kind: LabelKind) -> Family:
        if settings.activation != "auto":
            return settings.activation
        return "sigmoid" if label_kind in ("multi_hot", "binary") else "softmax"

    def check_labels(self, settings: FocalSettings, label_kind: LabelKind) -> None:
        family = self.family(settings, label_kind)
        if family == "softmax" and label_kind in SOFTMAX_REFUSALS:
            raise InvalidSetting(
                f"labels are {label_kind}, which softmax cannot hold: use activation 'sigmoid'",
                pointer="/settings/activation",
            )
        alpha = settings.alpha if isinstance(settings.alpha, tuple) else (settings.alpha or 0.0,)
        if family == "sigmoid" and max(alpha) > 1:
            raise InvalidSetting(
                f"alpha is {max(alpha)}, and the negative side would weigh 1 - alpha: "
                "with sigmoid alpha must not exceed 1",
                pointer="/settings/alpha",
            )

    def rows(self, statistics: RowStatistics, settings: FocalSettings) -> RowTerms:
        return on_label(statistics, settings.alpha, partial(focal, gamma=settings.gamma))

    def elements(self, block: Elements, settings: FocalSettings) -> ElementTerms:
        t, gamma = block.targets, settings.gamma
        p, not_p = block.probability, block.complement
        bce = (1 - t) * block.softplus + t * block.softplus_negative
        wrong = (1 - t) * p + t * not_p
        # d log(wrong)/dx. Hard targets have a limit where wrong vanishes; soft ones never vanish.
        slope = torch.where(t == 1, -p, torch.where(t == 0, not_p, (1 - 2 * t) * p * not_p / wrong))
        fade = power(wrong, gamma)
        if block.infinite is not None:
            # An infinite logit is right or infinitely wrong; a tiny soft target must not fade to 0.
            fade = torch.where(block.infinite & (wrong > 0), 1.0, fade)
        if settings.alpha is not None:
            alpha = block.constants.scale(settings.alpha)
            fade = fade * (alpha * t + (1 - alpha) * (1 - t))
        return ElementTerms(
            loss=fade * bce,
            gradient=fade * ((1 - t) * p - t * not_p + gamma * slope * bce),
        )
