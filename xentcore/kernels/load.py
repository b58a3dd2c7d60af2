"""Compiled passes as :class:`~xentcore.passes.Passes`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import pad

from xentcore import sigmoid, softmax
from xentcore.constants import EXACT_IN_FLOAT32
from xentcore.kernels.cache import default_root, folder
from xentcore.kernels.catalogue import DTYPES, SHORT, kernels
from xentcore.kernels.library import Library
from xentcore.passes import Passes

Pass = Callable[..., Any]
Key = tuple[str, torch.dtype, bool]
# Measured: from here on a row fills enough vectors, and copying it into columns is not worth it.
SHORT_CLASSES: Final = 48
VECTOR_ROWS: Final = 16


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
        measure=compiled("measure", softmax.measure),
        first_peak=compiled("first_peak", softmax.first_peak),
        spread=compiled("spread", softmax.spread),
        ranking=compiled("ranking", softmax.ranking),
        weighted_sum=_by_shape_of_weights(
            compiled("weighted_sum-classes", softmax.weighted_sum),
            compiled("weighted_sum-rows", softmax.weighted_sum),
        ),
        column_sums=compiled("column_sums", softmax.column_sums),
        scaled=compiled("scaled", softmax.scaled),
        measure_elements=_on_whole_vectors(compiled("measure_elements", sigmoid.measure_elements)),
        element_sums=compiled("element_sums", sigmoid.element_sums),
    )


class _Compiled:
    """A pass that is compiled for what it was compiled for, and eager for the rest."""

    def __init__(self, name: str, eager: Pass, libraries: Mapping[Key, Library]) -> None:
        self._eager = eager
        self._long = {dtype: libraries[name, dtype, False] for dtype in DTYPES}
        self._short = {dtype: libraries[name, dtype, True] for dtype in DTYPES if name in SHORT}

    def __call__(self, logits: Tensor, *others: Tensor) -> Any:  # noqa: ANN401  (the pass's answer)
        classes = logits.shape[1]
        if logits.device.type != "cpu" or not 0 < classes <= EXACT_IN_FLOAT32:
            return self._eager(logits, *others)
        if classes < SHORT_CLASSES and self._short:
            return self._on_short_rows(logits, others)
        return self._long[logits.dtype](logits, *(other.contiguous() for other in others))

    def _on_short_rows(self, logits: Tensor, others: Sequence[Tensor]) -> Any:  # noqa: ANN401
        rows = logits.shape[0]
        # Rows that fill vectors: what is left over would be computed otherwise, and a row's
        # numbers would depend on where it stands.
        missing = -rows % VECTOR_ROWS
        columns = pad(logits.t(), (0, missing)) if missing else logits.t().contiguous()
        padded = [
            pad(other, (0, missing)) if missing and other.shape[0] == rows else other.contiguous()
            for other in others
        ]
        found = self._short[logits.dtype](columns.t(), *padded)
        if isinstance(found, Tensor):
            return found[:rows]
        return tuple(column[:rows] for column in found)


def _by_shape_of_weights(of_classes: Pass, of_rows: Pass) -> Pass:
    def run(logits: Tensor, anchor: Tensor, weights: Tensor) -> Any:  # noqa: ANN401  (the pass's)
        return (of_classes if weights.dim() == 1 else of_rows)(logits, anchor, weights)

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
