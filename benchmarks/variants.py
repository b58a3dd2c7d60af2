"""Several variants on one batch, against one: what the shared pass saves."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, Final

import torch
from torch import Tensor

from benchmarks import compiled
from benchmarks.bodies import batch
from benchmarks.harness import Curve, Plot, Row, Table, interleaved
from xentcore import EAGER, VARIANTS, InvalidSetting, Output, Passes, Spec, XentError, evaluate

COUNTS: Final = (1, 2, 4, 8, 12)
CLASSES: Final = 1000
# What settings are multiplied by, to make more specs than there are variants.
FACTORS: Final = (1.0, 0.5, 1.5, 0.25, 0.75, 1.25, 2.0, 0.125)
# Normalises every row by iteration, whatever softmax others share.
OWN: Final = ("bi-tempered",)
TOGETHER: Final = "one evaluation"
APART: Final = "one evaluation each"


def run(*, quick: bool) -> Table:
    """Measure 1 to 12 variants, together and one by one."""
    logits, labels = batch(4096 if quick else 65536, CLASSES)
    passes = compiled.both()
    name, fastest = next(iter(passes.items()))
    specs = _specs(COUNTS[-1])

    def case(count: int, *outputs: Output) -> Callable[[], object]:
        return lambda: evaluate(logits, labels, specs[:count], outputs=outputs, passes=fastest)

    def apart(count: int) -> Callable[[], object]:
        return lambda: [evaluate(logits, labels, [spec], passes=fastest) for spec in specs[:count]]

    named: dict[str, Callable[[], object]] = {}
    for count in COUNTS:
        named[_name(count, name)] = case(count)
        named[_name(count, name, "per_class")] = case(count, "per_class")
        named[f"{count} apart"] = apart(count)
    samples = interleaved(named, repetitions=3 if quick else 7)
    most = COUNTS[-1]
    limit = compiled.limit(
        fastest, lambda each: evaluate(logits, labels, specs, outputs=(), passes=each)
    )
    rows = []
    for outputs, target in (((), ("<=", 1.3)), (("per_class",), None)):
        base, full = _name(1, name, *outputs), _name(most, name, *outputs)
        rows += [Row(base, samples[base]), Row(full, samples[full], base, target, limit)]
    threads = torch.get_num_threads()
    title = f"Variants, {len(logits)} x {CLASSES} float32, {threads} threads"
    return Table(
        title,
        "ms",
        tuple(rows),
        (f"The variants: {', '.join(str(spec.name) for spec in specs)}.",),
        Plot(
            "variants",
            title,
            "variants",
            "milliseconds",
            (
                Curve(TOGETHER, tuple((n, samples[_name(n, name)]) for n in COUNTS)),
                Curve(APART, tuple((n, samples[f"{n} apart"]) for n in COUNTS)),
            ),
        ),
    )


def _name(count: int, passes: str, *outputs: str) -> str:
    return ", ".join((f"{count} variant{'s' if count > 1 else ''}", *outputs, passes))


def _specs(count: int) -> list[Spec]:
    """Return softmax variants that take integer labels and read the logits as they are."""
    found: list[Spec] = []
    for spec in _candidates():
        if _shares_the_pass(spec):
            found.append(spec)
        if len(found) == count:
            return found
    raise RuntimeError(f"the registry has settings for {len(found)} variants, not {count}")


def _candidates() -> Iterator[Spec]:
    """Yield every variant with its defaults, ``sparse`` first; then with other settings."""
    slugs = sorted(VARIANTS.keys() - OWN, key=lambda slug: (slug != "sparse", slug))
    for factor in FACTORS:
        for slug in slugs:
            try:
                default = VARIANTS[slug].settings_type()
                numbers = {
                    each.name: getattr(default, each.name) * factor
                    for each in fields(default)
                    if isinstance(getattr(default, each.name), float)
                }
                settings = replace(default, **numbers)
            except (TypeError, InvalidSetting):
                continue  # settings without defaults, or outside their range
            if factor == 1:
                yield Spec(slug, name=slug)
            elif settings != default:
                words = " ".join(f"{name} {number:g}" for name, number in numbers.items())
                yield Spec(slug, settings, f"{slug} {words}")


def _shares_the_pass(spec: Spec) -> bool:
    """Tell whether a variant's softmax is that of the logits as they are.

    Those that change the logits first measure their own.
    """
    logits, labels = batch(8, 4)
    measured = 0

    def measure(*inputs: Tensor) -> Any:  # noqa: ANN401  (what the pass returns)
        nonlocal measured
        measured += 1
        return EAGER.measure(*inputs)

    counting: Passes = replace(EAGER, measure=measure)

    def passes_for(specs: Sequence[Spec]) -> int:
        nonlocal measured
        measured = 0
        results = evaluate(logits, labels, specs, passes=counting)
        return measured if all(each.family == "softmax" for each in results) else 0

    try:
        return passes_for([Spec("sparse"), spec]) == passes_for([Spec("sparse")])
    except XentError:
        return False
