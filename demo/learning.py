"""A small classifier that learns by the gradients of the service, validated by its losses."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from xent import Answer, Client

CLASSES: Final = ("ant", "bee", "cat")
ROWS: Final = 300
FEATURES: Final = 4
RATE: Final = 0.2


def validated(client: Client, epochs: int = 5) -> Iterator[tuple[int, Answer]]:
    """Yield the number of each epoch, and what the service says of its validation."""
    random = np.random.default_rng(7)
    centres = random.normal(scale=1.5, size=(len(CLASSES), FEATURES))
    labels = random.integers(len(CLASSES), size=2 * ROWS)
    features = centres[labels] + random.normal(size=(2 * ROWS, FEATURES))
    seen, unseen = slice(ROWS), slice(ROWS, None)
    weights = np.zeros((FEATURES, len(CLASSES)))
    for epoch in range(epochs):
        step = client.loss("sparse", features[seen] @ weights, labels[seen], outputs=["gradient"])
        weights -= RATE * features[seen].T @ step.gradient
        yield (
            epoch,
            client.loss(
                "sparse",
                features[unseen] @ weights,
                labels[unseen],
                outputs=["per_class", "calibration", "distribution"],
                class_names=CLASSES,
            ),
        )
