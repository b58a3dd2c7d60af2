"""A month of batches: the same images through both classifiers, as two versions of a model.

From the middle on, version 2 is given blurred threes and eights: what a change somewhere before a
model does to it. Nothing else differs between the halves.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import torch
from torch import Tensor, nn

from demo.batches import Batch
from demo.digits import HeldOut

DAYS: Final = 30
EVERY: Final = timedelta(hours=6)
SLOTS: Final = timedelta(days=DAYS) // EVERY
ROWS: Final = 60
VERSIONS: Final = {"1": "linear", "2": "neural"}
BLURRED: Final = (3, 8)
SEED: Final = 0
NOISE: Final = 0.05
"""Of the camera: each view of an image differs a little. Standard deviation, in 0 to 1."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """One batch of one version.

    Attributes:
        version: of the model.
        batch_id: its name.
        time: when the images were seen.
        ids: of the images, (rows,): the same image is the same sample whenever it is seen.
        batch: what is posted.
    """

    version: str
    batch_id: str
    time: datetime
    ids: list[int]
    batch: Batch


def month(held_out: HeldOut, start: datetime) -> Iterator[Tracked]:
    """Yield the batches of a month, in the order of their time; the same for the same start."""
    generator = torch.Generator().manual_seed(SEED)
    order = torch.zeros(0, dtype=torch.int64)
    for slot in range(SLOTS):
        if len(order) < ROWS:  # every image has been seen as often as every other
            order = torch.randperm(len(held_out.labels), generator=generator)
        seen, order = order[:ROWS], order[ROWS:]
        images = held_out.images[seen]
        noise = torch.randn(images.shape, generator=generator)
        views = (images + NOISE * noise).clamp(0, 1)
        labels = held_out.labels[seen]
        time = start + slot * EVERY
        for version, name in VERSIONS.items():
            given = views
            if version == "2" and slot >= SLOTS // 2:
                given = _blurred(views, labels)
            logits = _logits(held_out.classifiers[name], given)
            batch_id = f"{time:%Y-%m-%dT%H:%MZ}"
            yield Tracked(version, batch_id, time, seen.tolist(), Batch("integer", logits, labels))


def middle(start: datetime) -> datetime:
    """Return when the blur begins."""
    return start + SLOTS // 2 * EVERY


def end(start: datetime) -> datetime:
    """Return when the month is over."""
    return start + SLOTS * EVERY


def _blurred(images: Tensor, labels: Tensor) -> Tensor:
    """Return images, (rows, 8, 8), with some digits smeared over their neighbouring pixels."""
    smeared = nn.functional.avg_pool2d(images[:, None], 3, stride=1, padding=1)[:, 0]
    chosen = torch.isin(labels, torch.tensor(BLURRED))
    return torch.where(chosen[:, None, None], smeared, images)


def _logits(classifier: nn.Module, images: Tensor) -> Tensor:
    """Return logits, (rows, classes), rounded: the same bytes whatever the last digits are."""
    with torch.no_grad():
        logits: Tensor = classifier(images.reshape(len(images), -1))
    return torch.round(logits * 256) / 256
