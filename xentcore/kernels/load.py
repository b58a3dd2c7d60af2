"""Compiled passes as :class:`~xentcore.passes.Passes`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import pad

from xentcore import sigmoid, softmax
from xentcore.constants import EXACT_IN_FLOAT32
from xentcore.device import VECTOR_ROWS
from xentcore.kernels.cache import default_root, folder
from xentcore.kernels.catalogue import DTYPES, PER_CLASS, SHORT, kernels
from xentcore.kernels.library import Library
from xentcore.memory import lend, lent
from xentcore.passes import Passes

Pass = Callable[..., Any]
Key = tuple[str, torch.dtype, bool]
# Measured: from here on a row fills enough vectors, and copying it into columns is not worth it.
SHORT_CLASSES: Final = 48


def load_passes(root: Path | None = None) -> Passes | None:
    """Return the compiled passes of this source, torch and processor; ``None`` if not all are here.

    Args:
        root: where they were built; ``None`` for :func:`~xentcore.kernels.cache.default_root`.

    Raises:
        OSError: a library that is there cannot be loaded.
    """
    here = folder(root or default_root())
    paths = {(each.name, each.dtype, each.short): here / f"{each.stem}.so" for each in kernels()}
    if not all(path.exists() for path in paths.values()):
        return None
    libraries = {each: Library(path) for each, path in paths.items()}

    def compiled(name: str, eager: Pass) -> Pass:
        return _Compiled(name, eager, libraries)

    return Passes(
        name="compiled",
        # Measured: the one matrix they write, exp u, is read again while it is in the cache; fewer
        # elements would not be worth starting the threads.
        block_elements=1 << 20,
        strip_elements=1 << 19,
        # Measured: as many rows of a thousand classes as hide what starting dozens of operations on
        # their numbers costs.
        sweep_elements=1 << 24,
        laid_out=_laid_out,
        measure=compiled("measure", softmax.measure),
        measure_keeping=compiled("measure_keeping", softmax.measure_keeping),
        measure_spreading=compiled("measure_spreading", softmax.measure_spreading),
        survey=compiled("survey", softmax.survey),
        first_peak=compiled("first_peak", softmax.first_peak),
        spread=compiled("spread", softmax.spread),
        ranking=compiled("ranking", softmax.ranking),
        weighted_sum=_by_shape_of_weights(
            compiled("weighted_sum-classes", softmax.weighted_sum),
            compiled("weighted_sum-rows", softmax.weighted_sum),
        ),
        column_sums=compiled("column_sums", softmax.column_sums),
        write_scaled=compiled("write_scaled", softmax.write_scaled),
        write_tilted=compiled("write_tilted", softmax.write_tilted),
        derive=_on_whole_columns(libraries["derive", torch.float64, False]),
        measure_elements=_on_whole_vectors(compiled("measure_elements", sigmoid.measure_elements)),
        element_sums=compiled("element_sums", sigmoid.element_sums),
    )


def _laid_out(owner: object, logits: Tensor) -> Tensor:
    """Return rows so short that they are worked on side by side class by class in memory."""
    columns = logits.t()
    if logits.device.type != "cpu" or logits.shape[1] >= SHORT_CLASSES or columns.is_contiguous():
        return logits.contiguous()
    return lend(owner, logits.contiguous()).view(columns.shape).copy_(columns).t()


class _Compiled:
    """A pass that is compiled for what it was compiled for, and eager for the rest."""

    def __init__(self, name: str, eager: Pass, libraries: Mapping[Key, Library]) -> None:
        self._eager = eager
        self._per_class = name in PER_CLASS
        self._long = {dtype: libraries[name, dtype, False] for dtype in DTYPES}
        self._short = {dtype: libraries[name, dtype, True] for dtype in DTYPES if name in SHORT}

    def __call__(self, logits: Tensor, *others: Tensor) -> Any:  # noqa: ANN401  (the pass's answer)
        classes = logits.shape[1]
        if logits.device.type != "cpu" or not 0 < classes <= EXACT_IN_FLOAT32:
            return self._eager(logits, *others)
        if classes < SHORT_CLASSES and self._short:
            return self._on_short_rows(logits, others)
        return self._long[logits.dtype](*(each.contiguous() for each in (logits, *others)))

    def _on_short_rows(self, logits: Tensor, others: Sequence[Tensor]) -> Any:  # noqa: ANN401
        run, rows = self._short[logits.dtype], logits.shape[0]
        # Rows that fill vectors: what is left over would be computed otherwise, and a row's
        # numbers would depend on where it stands.
        missing = -rows % VECTOR_ROWS
        columns = pad(logits.t(), (0, missing)) if missing else logits.t().contiguous()
        padded = [
            pad(other, (0, missing)) if missing and other.shape[0] == rows else other.contiguous()
            for other in others
            if other.dim() == 1
        ]
        # The one matrix beside the logits, if there is any, is written to, and comes last.
        into = others[-1] if others and others[-1].dim() > 1 else None
        if into is None:
            found = run(columns.t(), *padded)
        elif not missing and into.t().is_contiguous():
            found = run(columns.t(), *padded, into)
        else:
            with lent(columns) as room:
                found = run(columns.t(), *padded, room.t())
                into.copy_(room.t()[:rows])
        if self._per_class:
            return found
        if isinstance(found, Tensor):
            return found[:rows]
        return tuple(column[:rows] for column in found)


def _by_shape_of_weights(of_classes: Pass, of_rows: Pass) -> Pass:
    def run(logits: Tensor, anchor: Tensor, weights: Tensor) -> Any:  # noqa: ANN401  (the pass's)
        return (of_classes if weights.dim() == 1 else of_rows)(logits, anchor, weights)

    return run


def _on_whole_columns(derive: Pass) -> Pass:
    def run(*columns: Tensor) -> Any:  # noqa: ANN401  (the pass's)
        if columns[0].device.type != "cpu":
            return softmax.derive(*columns)
        rows = columns[0].shape[0]
        missing = -rows % VECTOR_ROWS  # as of short rows
        if not missing:
            return derive(*columns)
        padded = (pad(each, (0, missing)) for each in columns)
        return tuple(found[:rows] for found in derive(*padded))

    return run


def _on_whole_vectors(elements: Pass) -> Pass:
    def run(logits: Tensor) -> Any:  # noqa: ANN401  (the pass's)
        # What does not fill a vector is computed otherwise, and an element's last bit would depend
        # on how many there are.
        missing = -logits.numel() % VECTOR_ROWS
        if not missing:
            return elements(logits)
        flat = pad(logits.reshape(-1), (0, missing)).reshape(-1, VECTOR_ROWS)
        return tuple(found.reshape(-1)[:-missing].reshape(logits.shape) for found in elements(flat))

    return run
