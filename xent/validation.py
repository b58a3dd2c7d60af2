"""Validation that the history remembers, batch by batch, in loops of any kind."""

import uuid
import warnings
from collections.abc import Callable
from typing import Any, cast

from xent.answers import Answer
from xent.client import Client
from xent.errors import NoAnswer, QueueFull, ServiceFailed, Unavailable
from xent.tracking import Track

PASSING = (NoAnswer, QueueFull, Unavailable, ServiceFailed)
"""What may be over at the next batch. Whatever is refused is raised: it would be again."""


class Validation:
    """Tracks each batch of a validation, and adds up their sums.

    >>> validation = Validation(client, "sparse", Track("digits", "net", "7", "digits@1"))
    >>> for epoch in range(3):
    ...     validation.begin(epoch)
    ...     for images, labels in loader:
    ...         validation.batch(model(images), labels)
    ...     print(epoch, validation.loss)

    Args:
        client: asks the service.
        variant: its name in routes.
        track: what the batches are of; each gets a ``batch_id`` of its own:
            run, epoch and number.
        strict: raise where the service cannot be reached; else warn, count what was ``missed`` and
            go on: no training ends because nobody was there to watch it.
        given: settings and options as ``Client.loss`` takes them.
    """

    def __init__(
        self,
        client: Client,
        variant: str,
        track: Track,
        *,
        strict: bool = False,
        **given: Any,  # noqa: ANN401  (as Client.loss)
    ) -> None:
        self._client = client
        self._variant = variant
        self._track = track
        self._strict = strict
        self._given = given
        self._run = track.batch_id or uuid.uuid4().hex[:12]
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Begin an epoch: nothing is seen yet."""
        self.epoch = epoch
        self.answers: list[Answer] = []
        self.missed = 0

    def batch(
        self,
        logits: object,
        labels: object,
        *,
        name: str | None = None,
        **given: Any,  # noqa: ANN401
    ) -> Answer | None:
        """Evaluate and track one batch.

        Args:
            logits: as for ``Client.loss``.
            labels: as for ``Client.loss``.
            name: of the batch within the epoch; ``None`` for its number.
            given: what holds for this batch only, ``sample_weights`` say.

        Returns:
            the answer, ``None`` where the service could not be reached.
        """
        number = len(self.answers) + self.missed
        place = f"{self._run}/{self.epoch}/{number if name is None else name}"
        track = self._track.of(batch_id=place)
        loss = cast("Callable[..., Answer]", self._client.loss)
        try:
            answer = loss(self._variant, logits, labels, track=track, **self._given, **given)
        except PASSING as error:
            if self._strict:
                raise
            self.missed += 1
            warnings.warn(f"a batch was not tracked: {error}", stacklevel=2)
            return None
        self.answers.append(answer)
        return answer

    @property
    def loss(self) -> float | None:
        """The loss of all batches of this epoch: their sums over their denominators.

        ``None`` where nothing was evaluated, or a sum is not finite.
        """
        sums = [answer.reduction.sum for answer in self.answers]
        denominators = [answer.reduction.denominator for answer in self.answers]
        if None in sums or None in denominators or not any(denominators):
            return None
        return sum(cast("list[float]", sums)) / sum(cast("list[float]", denominators))
