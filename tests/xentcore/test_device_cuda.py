"""What only a GPU can show. Skipped where there is none."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from xentcore import (
    OUTPUTS,
    VARIANTS,
    DeviceUnavailable,
    Evaluation,
    LabelKind,
    Options,
    Output,
    Result,
    Settings,
    Spec,
    Variant,
    evaluate,
    resolve_device,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

CLASSES = 4
PAIRS = [(slug, kind) for slug, variant in VARIANTS.items() for kind in variant.label_kinds]
MIB = 1 << 20


def documented(variant: Variant[Any]) -> Settings:
    """Return the settings of a variant's worked example, for CLASSES classes."""
    given = variant.example["settings"]
    assert isinstance(given, dict)
    settings: Settings = variant.settings_type(
        **{name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    )
    return settings


def batch(kind: LabelKind, rows: int = 5000) -> tuple[Tensor, Tensor]:
    """Return logits and labels of a kind."""
    generator = torch.Generator().manual_seed(11)
    classes = 1 if kind == "binary" else CLASSES
    logits = 3 * torch.randn(rows, classes, generator=generator)
    index = torch.randint(max(2, classes), (rows,), generator=generator)
    labels = {
        "integer": index,
        "one_hot": torch.nn.functional.one_hot(index, max(2, classes)),
        "probabilities": torch.randn(rows, classes, generator=generator).softmax(dim=1),
        "multi_hot": (logits + torch.randn(logits.shape, generator=generator) > 0).int(),
        "binary": index[:, None],
    }[kind]
    return logits, labels


@pytest.fixture
def cuda() -> Iterator[torch.device]:
    device = resolve_device("cuda")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    yield device
    torch.cuda.set_per_process_memory_fraction(1.0, device)
    torch.cuda.empty_cache()


def outputs_of(family: str) -> Sequence[Output]:
    """Return all outputs that a family has."""
    return [name for name in OUTPUTS if family == "softmax" or name != "row_statistics"]


@pytest.mark.parametrize(("slug", "kind"), PAIRS)
@pytest.mark.parametrize("on_device", [False, True], ids=["from-cpu", "from-cuda"])
def test_cuda_agrees_with_the_cpu(
    slug: str, kind: LabelKind, on_device: bool, cuda: torch.device
) -> None:
    settings = documented(VARIANTS[slug])
    logits, labels = batch(kind)
    if kind == "multi_hot" and VARIANTS[slug].reading(settings, kind) == "ranks":
        labels = labels.cumprod(dim=1)
    outputs = outputs_of(VARIANTS[slug].family(settings, kind))
    asked: dict[str, Any] = {"outputs": outputs, "options": Options(label_kind=kind)}
    (expected,) = evaluate(logits, labels, [Spec(slug, settings)], **asked)
    if on_device:
        logits, labels = logits.to(cuda), labels.to(cuda)
    (found,) = evaluate(logits, labels, [Spec(slug, settings)], device=cuda, **asked)
    assert found.rows == expected.rows
    assert found.loss == pytest.approx(expected.loss, rel=2e-6)
    for name in ("per_sample", "gradient"):
        close(getattr(found, name), getattr(expected, name))
    assert found.per_class is not None
    assert expected.per_class is not None
    for name, column in expected.per_class.items():
        close(found.per_class[name], column, rtol=1e-5)


def close(found: Tensor, expected: Tensor, rtol: float = 2e-6) -> None:
    """Check that a column that came back to the CPU is the expected one."""
    torch.testing.assert_close(found.cpu(), expected, rtol=rtol, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("weights", ["balanced", "effective_number"])
def test_class_counts_of_labels_on_the_device(weights: str, cuda: torch.device) -> None:
    logits, labels = batch("integer")
    spec = Spec("weighted", VARIANTS["weighted"].settings_type(class_weights=weights))
    (expected,) = evaluate(logits, labels, [spec])
    (found,) = evaluate(logits.to(cuda), labels.to(cuda), [spec], device=cuda)
    assert found.loss == pytest.approx(expected.loss, rel=2e-6)


def test_evaluations_of_two_devices_merge(cuda: torch.device) -> None:
    logits, labels = batch("integer")
    outputs: Sequence[Output] = ["per_class", "distribution", "calibration", "hardest"]
    here = Evaluation([Spec("sparse")], outputs=outputs)
    there = Evaluation([Spec("sparse")], outputs=outputs, device=cuda)
    here.update(logits, labels)
    there.update(logits, labels)
    here.merge(there)
    (result,) = here.result()
    assert result.rows.total == 2 * len(logits)


@pytest.mark.parametrize("kind", dict.fromkeys(kind for _, kind in PAIRS))
@pytest.mark.parametrize("on_device", [False, True], ids=["from-cpu", "from-cuda"])
def test_comparisons_agree_with_the_cpu(
    kind: LabelKind, on_device: bool, cuda: torch.device
) -> None:
    logits, labels = batch(kind)
    specs = [Spec(slug, documented(VARIANTS[slug])) for slug, taken in PAIRS if taken == kind]
    here, there = (
        Evaluation(specs, compare=True, device=each) for each in (torch.device("cpu"), cuda)
    )
    here.update(logits, labels)
    there.update(*((logits.to(cuda), labels.to(cuda)) if on_device else (logits, labels)))
    expected, found = here.comparison(), there.comparison()
    for mine, theirs in zip(found.variants, expected.variants, strict=True):
        assert mine.normalised_entropy == pytest.approx(theirs.normalised_entropy, rel=2e-6)
        close(mine.class_share["share"], theirs.class_share["share"], rtol=1e-5)
    for one, other in zip(found.pairs, expected.pairs, strict=True):
        assert one.spearman == pytest.approx(other.spearman, abs=1e-4)
        assert one.gradient_cosine == pytest.approx(other.gradient_cosine, abs=1e-5)


def run(rows: int, device: torch.device) -> tuple[Result, int]:
    """Return the answer for many rows of 1000 classes and the most memory that was allocated."""
    logits = torch.zeros(1, 1000).expand(rows, 1000)
    torch.cuda.reset_peak_memory_stats(device)
    (result,) = evaluate(
        logits, torch.zeros(rows, dtype=torch.int64), [Spec("sparse")], device=device
    )
    return result, torch.cuda.max_memory_allocated(device)


def test_memory_is_bounded_by_the_block_and_not_by_the_batch(cuda: torch.device) -> None:
    _, few = run(50_000, cuda)
    _, many = run(400_000, cuda)
    assert many <= 1.2 * few + MIB


def test_a_block_that_does_not_fit_is_halved(cuda: torch.device) -> None:
    expected, peak = run(100_000, cuda)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(cuda).total_memory
    torch.cuda.set_per_process_memory_fraction(peak / 4 / total, cuda)
    found, capped = run(100_000, cuda)
    assert capped <= peak / 4 + MIB
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)


def test_a_row_that_does_not_fit_is_the_device_s_fault(cuda: torch.device) -> None:
    torch.cuda.set_per_process_memory_fraction(1e-9, cuda)
    with pytest.raises(DeviceUnavailable, match="the memory of cuda:0 is exhausted"):
        run(10, cuda)
