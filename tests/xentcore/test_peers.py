"""How these numbers relate to those of other libraries, checked against the libraries themselves.

PyTorch       index labels: the mean divides by the labels' weights (``normaliser="weights"``), with
              smoothing too; label distributions: by ``rows``; binary: by ``elements``.
Keras         the mean divides by rows (softmax) or elements (sigmoid), whatever the weights.
optax         gives values per row or element: their mean is ``rows``, ``elements``.
torchvision   sigmoid_focal_loss: per element; alpha -1 there is no alpha here.
timm          LabelSmoothingCrossEntropy is ``uniform`` smoothing, mean over rows.
scikit-learn  log_loss takes probabilities and divides by the sample weights: ``weights``.
"""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (PyTorch's own name for it)

from tests.xentcore.conftest import ask, draw, name_of, spec
from tests.xentcore.oracle import WEIGHTS
from xentcore import Options, Spec

ROWS = 40
EXACT = 1e-12
W = torch.tensor(WEIGHTS, dtype=torch.float64)


def moderate(kind: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return logits whose probabilities stay away from what others clip, and labels."""
    batch = draw(kind, ROWS, dtype)
    return batch.logits.clamp(-5, 5), batch.labels


def assert_gradients_equal(
    asked: Spec, z: Tensor, y: Tensor, loss: Tensor, options: Options
) -> None:
    """Check a closed form against the peer's own backward pass."""
    (expected,) = torch.autograd.grad(loss, z)
    found = ask(asked, z.detach(), y, outputs={"gradient"}, options=options).gradient
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)


# PyTorch


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weights"])
def test_pytorchs_index_path_is_the_usual_normaliser(
    weights: tuple[float, ...] | None, smoothing: float, reduction: str
) -> None:
    batch = draw("integer", ROWS, torch.float64)
    z, y = batch.logits.clone().requires_grad_(), batch.labels.clone()
    y[::7] = -100
    w = None if weights is None else W
    loss = F.cross_entropy(z, y, w, label_smoothing=smoothing, reduction=reduction)
    asked = spec("label-smoothing", smoothing=smoothing, class_weights=weights)
    options = Options(reduction="mean" if reduction == "mean" else "sum")
    assert ask(asked, z.detach(), y, options=options).loss == pytest.approx(loss.item(), rel=EXACT)
    assert_gradients_equal(asked, z, y, loss, options)


@pytest.mark.parametrize("asked", [spec("sparse"), spec("focal", gamma=0.0)], ids=name_of)
def test_pytorchs_plain_cross_entropy_is_sparse(asked: Spec) -> None:
    batch = draw("integer", ROWS, torch.float64)
    expected = F.cross_entropy(batch.logits, batch.labels).item()
    assert ask(asked, batch.logits, batch.labels).loss == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize("ignored", [-100, -1, 3])
def test_pytorchs_ignore_index_is_ours(ignored: int) -> None:
    batch = draw("integer", ROWS, torch.float64)
    y = batch.labels.clone()
    y[::3] = ignored
    expected = F.cross_entropy(batch.logits, y, W, ignore_index=ignored).item()
    asked = spec("sparse", class_weights=WEIGHTS)
    found = ask(asked, batch.logits, y, options=Options(ignore_index=ignored))
    assert found.loss == pytest.approx(expected, rel=EXACT)


def test_pytorchs_mean_over_nothing_is_nan_and_ours_is_undefined() -> None:
    logits, labels = torch.randn(2, 3), torch.tensor([-100, -100])
    assert F.cross_entropy(logits, labels).isnan()
    result = ask(spec("sparse"), logits, labels)
    assert (result.loss, result.undefined) == (None, "no_rows")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weights"])
@pytest.mark.parametrize("kind", ["one_hot", "probabilities"])
def test_pytorchs_distribution_path_divides_by_rows(
    kind: str, weights: tuple[float, ...] | None, smoothing: float
) -> None:
    batch = draw(kind, ROWS, torch.float64)
    z = batch.logits.clone().requires_grad_()
    w = None if weights is None else W
    loss = F.cross_entropy(z, batch.targets.double(), w, label_smoothing=smoothing)
    asked = spec("label-smoothing", smoothing=smoothing, class_weights=weights)
    options = Options(normaliser="rows")
    found = ask(asked, batch.logits, batch.labels, options=options)
    assert found.loss == pytest.approx(loss.item(), rel=EXACT)
    assert_gradients_equal(asked, z, batch.labels, loss, options)


def test_pytorchs_segmentation_layout_is_the_usual_class_axis() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(3, 5, 4, 6, dtype=torch.float64, generator=generator)
    y = torch.randint(5, (3, 4, 6), generator=generator)
    result = ask(spec("sparse", class_weights=WEIGHTS), z, y, options=Options(reduction="none"))
    assert result.per_sample is not None
    torch.testing.assert_close(result.per_sample, F.cross_entropy(z, y, W, reduction="none"))
    mean = F.cross_entropy(z, y, W).item()
    assert ask(spec("sparse", class_weights=WEIGHTS), z, y).loss == pytest.approx(mean, rel=EXACT)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["multi_hot", "probabilities"])
@pytest.mark.parametrize("positive", [None, WEIGHTS[::-1]], ids=["plain", "positive"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weights"])
def test_pytorchs_binary_cross_entropy_divides_by_elements(
    kind: str,
    weights: tuple[float, ...] | None,
    positive: tuple[float, ...] | None,
    reduction: str,
) -> None:
    batch = draw(kind, ROWS, torch.float64)
    z = batch.logits.clone().requires_grad_()
    loss = F.binary_cross_entropy_with_logits(
        z,
        batch.targets.double(),
        weight=None if weights is None else W,
        pos_weight=None if positive is None else torch.tensor(positive, dtype=torch.float64),
        reduction=reduction,
    )
    asked = spec("binary", class_weights=weights, positive_weights=positive or 1.0)
    options = Options(reduction="mean" if reduction == "mean" else "sum")
    found = ask(asked, batch.logits, batch.labels, options=options)
    assert found.loss == pytest.approx(loss.item(), rel=EXACT)
    assert_gradients_equal(asked, z, batch.labels, loss, options)


def test_pytorchs_nll_loss_takes_log_probabilities() -> None:
    batch = draw("integer", ROWS, torch.float64)
    log_p = batch.logits.log_softmax(1)
    options = Options(input="log_probabilities")
    found = ask(spec("sparse", class_weights=WEIGHTS), log_p, batch.labels, options=options)
    assert found.loss == pytest.approx(F.nll_loss(log_p, batch.labels, W).item(), rel=EXACT)


def test_pytorchs_bce_loss_takes_probabilities_and_stops_at_100_where_ours_is_infinite() -> None:
    z, y = moderate("multi_hot")
    options = Options(input="probabilities")
    expected = F.binary_cross_entropy(z.sigmoid(), y.double()).item()
    found = ask(spec("binary"), z.sigmoid(), y, options=options)
    assert found.loss == pytest.approx(expected, rel=EXACT)
    zero, one = torch.tensor([0.0]), torch.tensor([1.0])
    assert F.binary_cross_entropy(zero, one).item() == 100
    assert ask(spec("binary"), zero, one, options=options).rows.infinite == 1


# torchvision and timm, from their definitions: neither has a build for every platform


def torchvision_focal(z: Tensor, t: Tensor, alpha: float, gamma: float) -> Tensor:
    """torchvision.ops.sigmoid_focal_loss, reduction "none"; alpha < 0 is no alpha."""
    p = z.sigmoid()
    bce = F.binary_cross_entropy_with_logits(z, t, reduction="none")
    p_t = p * t + (1 - p) * (1 - t)
    loss = bce * (1 - p_t) ** gamma
    return (alpha * t + (1 - alpha) * (1 - t)) * loss if alpha >= 0 else loss


@pytest.mark.parametrize("kind", ["multi_hot", "binary", "probabilities"])
@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.0])
@pytest.mark.parametrize("alpha", [-1.0, 0.25])
def test_torchvisions_focal_loss_is_the_sigmoid_form(kind: str, gamma: float, alpha: float) -> None:
    batch = draw(kind, ROWS, torch.float64)
    expected = torchvision_focal(batch.logits, batch.targets.double(), alpha, gamma)
    asked = spec("focal", gamma=gamma, alpha=None if alpha < 0 else alpha, activation="sigmoid")
    mean = ask(asked, batch.logits, batch.labels)
    assert mean.loss == pytest.approx(expected.mean().item(), rel=EXACT)
    assert mean.reduction.sum == pytest.approx(expected.sum().item(), rel=EXACT)


def test_timms_label_smoothing_is_uniform() -> None:
    batch = draw("integer", ROWS, torch.float64)
    log_p = batch.logits.log_softmax(1)
    nll = -log_p.gather(1, batch.labels[:, None])[:, 0]
    expected = (0.9 * nll + 0.1 * -log_p.mean(1)).mean().item()
    found = ask(spec("label-smoothing"), batch.logits, batch.labels)
    assert found.loss == pytest.approx(expected, rel=EXACT)


# Keras and optax, in float32: both compute so unless told otherwise


SINGLE = 2e-6


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """keras.losses on the torch backend; its configuration stays out of the home directory."""
    home: Path = tmp_path_factory.mktemp("keras")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", str(home))
        yield pytest.importorskip("keras").losses


BY_ROWS, BY_ELEMENTS = Options(normaliser="rows"), Options(normaliser="elements")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["one_hot", "probabilities"])
def test_keras_categorical_crossentropy_divides_by_rows(
    losses: ModuleType, kind: str, smoothing: float
) -> None:
    batch = draw(kind, ROWS, torch.float32)
    peer = losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    expected = peer(batch.targets, batch.logits).item()
    asked = spec("label-smoothing", smoothing=smoothing)
    found = ask(asked, batch.logits, batch.labels, options=BY_ROWS)
    assert found.loss == pytest.approx(expected, rel=SINGLE)


def test_keras_sparse_crossentropy_and_its_ignored_class(losses: ModuleType) -> None:
    batch = draw("integer", ROWS, torch.float32)
    y = batch.labels.clone()
    y[::3] = -1
    peer = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    found = ask(spec("sparse"), batch.logits, y, options=Options(ignore_index=-1))
    assert found.loss == pytest.approx(peer(y, batch.logits).item(), rel=SINGLE)


def test_keras_sample_weights_do_not_enter_its_denominator(losses: ModuleType) -> None:
    batch = draw("integer", ROWS, torch.float32)
    s = torch.arange(ROWS, dtype=torch.float64).remainder(5) / 4
    peer = losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = peer(batch.labels, batch.logits, sample_weight=s).item()
    found = ask(spec("sparse"), batch.logits, batch.labels, sample_weights=s, options=BY_ROWS)
    assert found.loss == pytest.approx(expected, rel=SINGLE)


def test_keras_sample_weights_with_its_mean_with_sample_weight_are_our_usual(
    losses: ModuleType,
) -> None:
    batch = draw("integer", ROWS, torch.float32)
    s = torch.arange(ROWS, dtype=torch.float64).remainder(5) / 4
    peer = losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    expected = peer(batch.labels, batch.logits, sample_weight=s).item()
    found = ask(spec("sparse"), batch.logits, batch.labels, sample_weights=s)
    # Keras adds its epsilon of 1e-7 to the denominator.
    assert found.loss == pytest.approx(expected, rel=SINGLE)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["multi_hot", "probabilities"])
def test_keras_binary_crossentropy_divides_by_elements(
    losses: ModuleType, kind: str, smoothing: float
) -> None:
    batch = draw(kind, ROWS, torch.float32)
    peer = losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing)
    expected = peer(batch.targets, batch.logits).item()
    found = ask(spec("binary", smoothing=smoothing), batch.logits, batch.labels)
    assert found.loss == pytest.approx(expected, rel=SINGLE)


@pytest.mark.parametrize("kind", ["one_hot", "probabilities"])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_keras_categorical_focal_crossentropy_takes_one_alpha_for_all(
    losses: ModuleType, kind: str, gamma: float
) -> None:
    z, y = moderate(kind, torch.float32)
    peer = losses.CategoricalFocalCrossentropy(alpha=0.25, gamma=gamma, from_logits=True)
    asked = spec("focal", gamma=gamma, alpha=0.25)
    found = ask(asked, z, y, options=BY_ROWS)
    assert found.loss == pytest.approx(peer(y, z).item(), rel=SINGLE)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_keras_binary_focal_crossentropy_is_the_sigmoid_form(
    losses: ModuleType, gamma: float, smoothing: float
) -> None:
    z, y = moderate("multi_hot", torch.float32)
    peer = losses.BinaryFocalCrossentropy(
        apply_class_balancing=True,
        alpha=0.25,
        gamma=gamma,
        from_logits=True,
        label_smoothing=smoothing,
    )
    # Keras smooths inside; here the smoothed labels are given.
    t = y * (1 - smoothing) + smoothing / 2
    asked = spec("focal", gamma=gamma, alpha=0.25, activation="sigmoid")
    assert ask(asked, z, t).loss == pytest.approx(peer(y, z).item(), rel=SINGLE)


def test_keras_clips_probabilities_at_its_epsilon_as_a_floor_does(losses: ModuleType) -> None:
    p = torch.tensor([[0.0, 1.0, 0.0], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0]], dtype=torch.float32)
    y = torch.tensor([0, 1, 1])
    peer = losses.SparseCategoricalCrossentropy(from_logits=False)
    options = Options(input="probabilities", probability_floor=1e-7)
    # Keras does not renormalise after clipping, which tells in the seventh digit.
    assert ask(spec("sparse"), p, y, options=options).loss == pytest.approx(
        peer(y, p).item(), rel=SINGLE
    )


def test_keras_clips_yes_or_no_probabilities_as_a_floor_does(losses: ModuleType) -> None:
    p = torch.tensor([[0.0, 1.0, 0.3], [0.0, 1.0, 0.9]], dtype=torch.float32)
    y = torch.tensor([[1, 0, 1], [0, 1, 1]])
    peer = losses.BinaryCrossentropy(from_logits=False)
    options = Options(input="probabilities", probability_floor=1e-7)
    expected = peer(y, p).item()
    assert ask(spec("binary"), p, y, options=options).loss == pytest.approx(expected, rel=SINGLE)


# optax


def optax_and_numpy() -> tuple[ModuleType, ModuleType]:
    return pytest.importorskip("optax"), pytest.importorskip("jax.numpy")


def test_optax_softmax_cross_entropy_is_a_value_per_row() -> None:
    optax, jnp = optax_and_numpy()
    batch = draw("probabilities", ROWS, torch.float32)
    z, t = jnp.asarray(batch.logits.numpy()), jnp.asarray(batch.labels.numpy())
    expected = torch.tensor(optax.softmax_cross_entropy(z, t).tolist(), dtype=torch.float64)
    options = Options(reduction="none")
    found = ask(spec("categorical"), batch.logits, batch.labels, options=options).per_sample
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=2e-7)


def test_optax_integer_labels_are_sparse() -> None:
    optax, jnp = optax_and_numpy()
    batch = draw("integer", ROWS, torch.float32)
    z, y = jnp.asarray(batch.logits.numpy()), jnp.asarray(batch.labels.numpy())
    expected = float(optax.softmax_cross_entropy_with_integer_labels(z, y).mean())
    assert ask(spec("sparse"), batch.logits, batch.labels).loss == pytest.approx(
        expected, rel=SINGLE
    )


def test_optax_smooth_labels_is_uniform() -> None:
    optax, jnp = optax_and_numpy()
    batch = draw("one_hot", ROWS, torch.float32)
    z = jnp.asarray(batch.logits.numpy())
    t = optax.smooth_labels(jnp.asarray(batch.labels.float().numpy()), 0.1)
    expected = float(optax.softmax_cross_entropy(z, t).mean())
    found = ask(spec("label-smoothing"), batch.logits, batch.labels)
    assert found.loss == pytest.approx(expected, rel=SINGLE)


@pytest.mark.parametrize("kind", ["multi_hot", "probabilities"])
@pytest.mark.parametrize(("alpha", "gamma"), [(None, 2.0), (0.25, 0.5)])
def test_optax_sigmoid_focal_loss_is_the_sigmoid_form(
    kind: str, alpha: float | None, gamma: float
) -> None:
    optax, jnp = optax_and_numpy()
    batch = draw(kind, ROWS, torch.float32)
    z, t = jnp.asarray(batch.logits.numpy()), jnp.asarray(batch.labels.numpy())
    expected = float(optax.sigmoid_focal_loss(z, t, alpha=alpha, gamma=gamma).mean())
    asked = spec("focal", alpha=alpha, gamma=gamma, activation="sigmoid")
    assert ask(asked, batch.logits, batch.labels).loss == pytest.approx(expected, rel=SINGLE)


def test_optax_sigmoid_binary_cross_entropy_is_binary() -> None:
    optax, jnp = optax_and_numpy()
    batch = draw("multi_hot", ROWS, torch.float32)
    z, t = jnp.asarray(batch.logits.numpy()), jnp.asarray(batch.labels.numpy())
    expected = float(optax.sigmoid_binary_cross_entropy(z, t).mean())
    assert ask(spec("binary"), batch.logits, batch.labels).loss == pytest.approx(
        expected, rel=SINGLE
    )


# scikit-learn


def test_scikit_learns_log_loss_divides_by_sample_weights() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    z, y = moderate("integer")
    s = torch.arange(ROWS, dtype=torch.float64).remainder(5) / 4
    p = z.softmax(1)
    expected = metrics.log_loss(y.numpy(), p.numpy(), sample_weight=s.numpy(), labels=range(5))
    options = Options(input="probabilities")
    found = ask(spec("sparse"), p, y, sample_weights=s, options=options)
    assert found.loss == pytest.approx(expected, rel=EXACT)


def test_scikit_learns_balanced_class_weights_are_balanced() -> None:
    class_weight = pytest.importorskip("sklearn.utils.class_weight")
    batch = draw("integer", ROWS, torch.float64)
    classes = torch.arange(5)
    w = class_weight.compute_class_weight(
        "balanced", classes=classes.numpy(), y=batch.labels.numpy()
    )
    stated = ask(spec("weighted", class_weights=tuple(w.tolist())), batch.logits, batch.labels)
    derived = ask(spec("weighted", class_weights="balanced"), batch.logits, batch.labels)
    assert derived.loss == pytest.approx(stated.loss, rel=EXACT)
    assert derived.reduction.denominator == pytest.approx(ROWS, rel=EXACT)


@pytest.mark.parametrize("kind", ["integer", "binary"])
def test_scikit_learns_brier_score_is_ours(kind: str) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    batch = draw(kind, ROWS, torch.float64)
    softmax = kind == "integer"
    p = batch.logits.softmax(1) if softmax else batch.logits.sigmoid()[:, 0]
    y = batch.labels if softmax else batch.labels[:, 0]
    labels = range(5) if softmax else [0, 1]
    # Over classes scikit-learn does not halve; of two classes it counts one.
    expected = metrics.brier_score_loss(
        y.numpy(), p.numpy(), labels=labels, scale_by_half=not softmax
    )
    asked = spec("sparse" if softmax else "binary")
    found = ask(asked, batch.logits, batch.labels, outputs={"calibration"}).calibration
    assert found is not None
    assert found.brier == pytest.approx(expected, rel=EXACT)
