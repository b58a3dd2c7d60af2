"""Compiled passes as :class:`~xentcore.passes.Passes`."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xentcore import softmax
from xentcore.constants import EXACT_IN_FLOAT32
from xentcore.kernels.cache import default_root, folder
from xentcore.kernels.catalogue import kernels
from xentcore.kernels.library import Library
from xentcore.passes import Passes

Libraries = Mapping[tuple[str, torch.dtype], Library]
Pass = Callable[..., Any]


def load_passes(root: Path | None = None) -> Passes | None:
    """Return the compiled passes of this source, torch and processor; ``None`` if not all are here.

    Args:
        root: where they were built; ``None`` for :func:`~xentcore.kernels.cache.default_root`.

    Raises:
        OSError: a library that is there cannot be loaded.
    """
    here = folder(root or default_root())
    paths = {(each.name, each.dtype): here / f"{each.stem}.so" for each in kernels()}
    if not all(path.exists() for path in paths.values()):
        return None
    compiled = partial(_compiled, {key: Library(path) for key, path in paths.items()})
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
    )


def _compiled(libraries: Libraries, name: str, eager: Pass) -> Pass:
    """Return a pass that is compiled for what it was compiled for, and eager for the rest."""

    def run(logits: Tensor, *others: Tensor) -> Any:  # noqa: ANN401  (what the pass returns)
        if logits.device.type != "cpu" or not 0 < logits.shape[1] <= EXACT_IN_FLOAT32:
            return eager(logits, *others)
        return libraries[name, logits.dtype](logits, *(other.contiguous() for other in others))

    return run


def _by_shape_of_weights(of_classes: Pass, of_rows: Pass) -> Pass:
    def run(logits: Tensor, anchor: Tensor, weights: Tensor) -> Tensor:
        chosen = of_classes if weights.dim() == 1 else of_rows
        return chosen(logits, anchor, weights)  # type: ignore[no-any-return]

    return run
