"""A callback for Lightning that has the history remember every validation batch."""

from collections.abc import Callable, Mapping
from typing import Any

from xent.client import Client
from xent.errors import InvalidBatch, missing
from xent.tracking import Track
from xent.validation import Validation

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback
    except ImportError:
        raise missing("lightning", "xent.lightning") from None

Read = Callable[[Any, Any], tuple[Any, Any]]
"""From the outputs of ``validation_step`` and the batch to logits and labels."""


def logits_and_labels(outputs: object, batch: Any) -> tuple[Any, Any]:  # noqa: ANN401  (the module's)
    """Return ``outputs["logits"]``, and ``outputs["labels"]`` or the batch's second part.

    Raises:
        InvalidBatch: the step returns no logits.
    """
    if not isinstance(outputs, Mapping) or "logits" not in outputs:
        raise InvalidBatch('return {"logits": ...} from validation_step, or give read=')
    return outputs["logits"], outputs["labels"] if "labels" in outputs else batch[1]


class TrackValidation(Callback):
    """Tracks each validation batch, and logs the loss of the epoch as ``xent/<variant>``.

    Args:
        client: asks the service.
        variant: its name in routes.
        track: what the batches are of.
        read: where logits and labels are.
        strict: raise where the service cannot be reached; else warn and go on.
        given: settings and options as ``Client.loss`` takes them.
    """

    def __init__(
        self,
        client: Client,
        variant: str,
        track: Track,
        *,
        read: Read = logits_and_labels,
        strict: bool = False,
        **given: Any,  # noqa: ANN401  (as Client.loss)
    ) -> None:
        super().__init__()
        self._name = f"xent/{variant}"
        self._read = read
        self.validation = Validation(client, variant, track, strict=strict, **given)

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401, ARG002
        """Begin an epoch."""
        self.validation.begin(trainer.current_epoch)

    def on_validation_batch_end(
        self,
        trainer: Any,  # noqa: ANN401
        pl_module: Any,  # noqa: ANN401, ARG002
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Track a batch."""
        if trainer.sanity_checking:
            return
        logits, labels = self._read(outputs, batch)
        # Every process has batches of its own, and so has every loader.
        name = f"{trainer.global_rank}.{dataloader_idx}.{batch_idx}"
        self.validation.batch(logits, labels, name=name)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        """Log the loss."""
        loss = self.validation.loss
        if loss is not None and not trainer.sanity_checking:
            pl_module.log(self._name, loss)
