"""Real data: scikit-learn's handwritten digits, and two classifiers trained on part of them."""

from dataclasses import dataclass
from typing import Final

import torch
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]
from torch import Tensor, nn

SEED: Final = 0
CLASSES: Final = 10
HELD_OUT: Final = 600
STEPS: Final = 120
BRIGHTEST: Final = 16.0


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What neither classifier was trained on.

    Attributes:
        trained_on: how many images were.
        images: (rows, 8, 8), 0 to 1.
        labels: (rows,), int64.
        logits: by classifier, (rows, classes), float32.
        classifiers: by name; they take pixels, (rows, 64), 0 to 1.
    """

    trained_on: int
    images: Tensor
    labels: Tensor
    logits: dict[str, Tensor]
    classifiers: dict[str, nn.Module]

    def accuracy(self, name: str) -> float:
        """Return the share of images that a classifier reads right."""
        return (self.logits[name].argmax(dim=1) == self.labels).double().mean().item()


def train() -> HeldOut:
    """Train both classifiers; the same numbers every time."""
    torch.set_num_threads(1)  # small matrices; and sums in one order
    pixels, targets = load_digits(return_X_y=True)
    split = train_test_split(
        pixels / BRIGHTEST, targets, test_size=HELD_OUT, random_state=SEED, stratify=targets
    )
    x, held_x = (torch.tensor(part, dtype=torch.float32) for part in split[:2])
    y, held_y = (torch.tensor(part, dtype=torch.int64) for part in split[2:])
    torch.manual_seed(SEED)
    classifiers = {
        "linear": nn.Linear(64, CLASSES),
        "neural": nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES)),
    }
    logits = {name: _fit(each, x, y)(held_x).detach() for name, each in classifiers.items()}
    return HeldOut(len(x), held_x.reshape(-1, 8, 8), held_y, logits, classifiers)


def _fit(classifier: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
    optimiser = torch.optim.Adam(classifier.parameters(), lr=0.02)
    for _ in range(STEPS):
        optimiser.zero_grad()
        nn.functional.cross_entropy(classifier(x), y).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return classifier
