"""A loss of the service in PyTorch: its value and gradient are those of the core."""

import pytest
import torch
from torch import Tensor

from tests.xent.rows import LABELS, LOGITS
from xent import Client, InvalidConfiguration, Refused
from xent.torch import RemoteLoss
from xentcore import Options, Spec, evaluate

Z = torch.from_numpy(LOGITS).double()
Y = torch.from_numpy(LABELS)


def by_core(logits: Tensor, labels: Tensor, variant: str, **options: object) -> Tensor:
    (result,) = evaluate(
        logits,
        labels,
        [Spec(variant)],
        outputs={"gradient"},
        options=Options(**options),  # type: ignore[arg-type]
    )
    assert result.gradient is not None
    return result.gradient


@pytest.mark.parametrize("variant", ["focal", "sparse", "label-smoothing", "z-loss", "temperature"])
def test_the_gradient_is_that_of_the_core_and_of_small_steps(variant: str, client: Client) -> None:
    loss = RemoteLoss(client, variant)
    logits = Z.clone().requires_grad_()
    loss(logits, Y).backward()
    assert logits.grad is not None
    assert torch.allclose(logits.grad, by_core(Z, Y, variant), rtol=1e-12, atol=0)
    few = Z[:3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: 3 * loss(z, Y[:3]), few, fast_mode=True)


def test_every_row_has_its_own_gradient(client: Client) -> None:
    loss = RemoteLoss(client, "focal", reduction="none")
    few = Z[:4].clone().requires_grad_()
    assert loss(few, Y[:4]).shape == (4,)
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: weights @ loss(z, Y[:4]), few)


@pytest.mark.parametrize("axis", [1, -1])
def test_pixels_have_gradients_too(axis: int, client: Client) -> None:
    logits = Z[:24].reshape(2, 3, 4, 4).movedim(-1, axis).clone().requires_grad_()
    labels = Y[:24].reshape(2, 3, 4)
    loss = RemoteLoss(client, "sparse", class_axis=axis, reduction="none")
    weights = torch.arange(24.0, dtype=torch.float64).reshape(2, 3, 4)
    (loss(logits, labels) * weights).sum().backward()
    again = logits.detach().clone().requires_grad_()
    theirs = torch.nn.functional.cross_entropy(again.movedim(axis, 1), labels, reduction="none")
    (theirs * weights).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert again.grad is not None
    assert torch.allclose(logits.grad, again.grad, rtol=1e-9)


def test_binary_logits_without_an_axis_of_classes(client: Client) -> None:
    logits, labels = Z[:, 0].clone().requires_grad_(), (Y > 1).long()
    weights = torch.arange(60.0, dtype=torch.float64)
    (RemoteLoss(client, "binary", reduction="none")(logits, labels) * weights).sum().backward()
    assert logits.grad is not None
    assert torch.allclose(logits.grad, weights * (Z[:, 0].sigmoid() - labels), rtol=1e-9)


def test_without_a_gradient_none_is_asked_for(client: Client) -> None:
    loss = RemoteLoss(client, "sparse")
    assert not loss(Z, Y).requires_grad
    assert loss.answer is not None
    assert loss.answer.gradient is None
    with torch.no_grad():
        loss(Z.clone().requires_grad_(), Y)
    assert loss.answer.gradient is None
    assert "sparse" in repr(loss)


def test_a_model_learns_by_it(client: Client) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 4)
    loss = RemoteLoss(client, "focal", gamma=1.0)
    optimiser = torch.optim.SGD(model.parameters(), lr=2.0)
    seen = []
    for _ in range(10):
        optimiser.zero_grad()
        value = loss(model(Z.float()), Y, torch.ones(60))
        value.backward()
        optimiser.step()
        seen.append(value.item())
    assert seen[-1] < seen[0]


def test_half_precision_keeps_its_type(client: Client) -> None:
    logits = Z.bfloat16().requires_grad_()
    value = RemoteLoss(client, "sparse")(logits, Y)
    value.backward()
    assert value.dtype is torch.float32
    assert logits.grad is not None
    assert logits.grad.dtype is torch.bfloat16


def test_nothing_evaluated_is_nan_with_a_gradient_of_zero(client: Client) -> None:
    logits = Z.clone().requires_grad_()
    value = RemoteLoss(client, "sparse")(logits, torch.full((60,), -100))
    value.backward()
    assert value.isnan()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_there_is_no_second_order(client: Client) -> None:
    logits = Z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        RemoteLoss(client, "sparse")(logits, Y), logits, create_graph=True
    )
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        gradient.sum().backward()  # type: ignore[no-untyped-call]


def test_what_it_decides_by_itself_cannot_be_given(client: Client) -> None:
    with pytest.raises(InvalidConfiguration, match="outputs"):
        RemoteLoss(client, "sparse", outputs=["per_class"])
    with pytest.raises(Refused, match="gamma"):
        RemoteLoss(client, "focal", gamma=-1.0)(Z, Y)
