"""A loss whose value and gradient come from the service, for use in PyTorch."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from xent.answers import Answer
from xent.client import Client
from xent.errors import InvalidConfiguration

Ask = Callable[[Tensor], Answer]
RESERVED = ("outputs", "labels", "logits", "gradient_dtype")


class RemoteLoss(nn.Module):
    """A loss function like those of ``torch.nn``: ``RemoteLoss(client, "focal", gamma=2.0)``.

    The gradient is the one that the service computes with the loss; there is none of second order.

    Args:
        client: asks the service.
        variant: its name in routes.
        given: settings and options as ``Client.loss`` takes them; ``reduction="none"`` gives a
            value per row.

    Raises:
        InvalidConfiguration: ``outputs``, which follow from what is differentiated.
    """

    def __init__(self, client: Client, variant: str, **given: Any) -> None:  # noqa: ANN401
        super().__init__()
        reserved = [name for name in RESERVED if name in given]
        if reserved:
            raise InvalidConfiguration(f"RemoteLoss decides about {reserved[0]} by itself")
        self._client = client
        self.variant = variant
        self.given = given
        self.answer: Answer | None = None
        """What the service answered last."""

    def extra_repr(self) -> str:
        """Return what ``print`` shows."""
        return ", ".join([self.variant, *(f"{name}={each}" for name, each in self.given.items())])

    def forward(
        self, logits: Tensor, labels: Tensor, sample_weights: Tensor | None = None
    ) -> Tensor:
        """Return the loss: one number, or one per row.

        Where there is none, as for a batch of ignored rows, it is NaN and the gradient 0.
        """
        by_row = self.given.get("reduction") == "none"
        given = dict(self.given)
        if sample_weights is not None:
            given["sample_weights"] = sample_weights

        # Without gradients nobody asks for one, though the logits might have one.
        differentiated = torch.is_grad_enabled() and logits.requires_grad
        wanted = (differentiated and "gradient", by_row and "per_sample")
        given["outputs"] = [output for output in wanted if output]

        def ask(detached: Tensor) -> Answer:
            loss = cast("Callable[..., Answer]", self._client.loss)
            self.answer = loss(self.variant, detached, labels, **given)
            return self.answer

        axis = self.given.get("class_axis", 1)
        return cast("Tensor", _Asked.apply(logits, ask, axis))  # type: ignore[no-untyped-call]


class _Asked(torch.autograd.Function):
    """The loss as a node of the graph."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ask: Ask, class_axis: int) -> Tensor:  # noqa: ANN401
        answer = ask(logits.detach())
        ctx.class_axis = class_axis
        if answer.gradient is not None:
            ctx.save_for_backward(answer.gradient, logits)
        # The sum of a batch is more than half precision can hold.
        dtype = logits.dtype if logits.dtype == torch.float64 else torch.float32
        if answer.per_sample is not None:
            return cast("Tensor", answer.per_sample).to(logits.device, dtype)
        return torch.tensor(float(answer), dtype=dtype, device=logits.device)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        gradient, logits = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants a graph of the gradient
            gradient = _OfFirstOrder.apply(gradient, logits)  # type: ignore[no-untyped-call]
        # Rows do not know each other: the gradient of the sum, row by row, is that of the rows.
        if outer.ndim and outer.ndim < gradient.ndim:
            outer = outer.unsqueeze(ctx.class_axis)
        return (outer * gradient).to(gradient.dtype), None, None


class _OfFirstOrder(torch.autograd.Function):
    """A gradient that came from elsewhere: as a constant it would make a second order wrong."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, logits: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        raise RuntimeError("the gradient of RemoteLoss cannot be differentiated again")
