"""The held-out logits with labels in three forms: an index, one-hot, multi-hot."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from demo.digits import CLASSES

PAGE: Final = 3


@dataclass(frozen=True, slots=True)
class Batch:
    """Logits and labels as they are posted.

    Attributes:
        form: what the labels are.
        logits: (rows, classes), float32.
        labels: (rows,) indices, or (rows, classes) of 0 and 1; int64.
    """

    form: str
    logits: Tensor
    labels: Tensor


def batches(logits: Tensor, labels: Tensor) -> list[Batch]:
    """Return the three forms. The first two hold the same rows."""
    one_hot = torch.nn.functional.one_hot(labels, CLASSES)
    return [
        Batch("integer", logits, labels),
        Batch("one-hot", logits, one_hot),
        _pages(logits, one_hot),
    ]


def _pages(logits: Tensor, one_hot: Tensor) -> Batch:
    """Return pages of three images: which digits does a page hold?

    A page's logit for a digit is that of its surest image: log p - log(1-p) under the softmax.
    """
    others = logits[:, None, :].expand(-1, CLASSES, -1).clone()
    others.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    log_odds = logits - others.logsumexp(dim=2)
    return Batch(
        "multi-hot",
        log_odds.reshape(-1, PAGE, CLASSES).amax(dim=1),
        one_hot.reshape(-1, PAGE, CLASSES).amax(dim=1),
    )
