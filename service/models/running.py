"""One request's features through a model, so many rows at a time, as far as they are needed."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.errors import ModelFailed, invalid
from service.models.description import Description
from service.models.runtime import said
from service.wire.payload import Limits
from service.wire.rows import bytes_of_rows, rows_are_in_order
from xentcore import Cancelled

LOOK_S: Final = 0.05
Cancel = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that can be run, and what its other inputs are given."""

    session: ort.InferenceSession
    constants: Mapping[str, NDArray[np.generic]]


class Running:
    """Logits that are made as they are read.

    The first rows are made at once: they tell the logits' type and shape.

    Args:
        loaded: the model.
        model: what it is.
        features: (rows, ...), of a type that :func:`fitted` made.
        most_rows: at once.
        limits: of the logits.
        class_axis: that the request names.
        cancelled: asked now and then, also while the model runs.

    Attributes:
        logits: (rows, ...); those rows hold their numbers that were asked for.
        first_s: seconds that the first rows took.
        spent_s: seconds in the model.

    Raises:
        ModelFailed: the model does not run on these features.
        TooLarge: logits above ``limits``.
        Cancelled: ``cancelled`` returned true.
    """

    def __init__(  # noqa: PLR0913  (a model, its numbers, and on which terms)
        self,
        loaded: Loaded,
        model: Description,
        features: NDArray[np.generic],
        *,
        most_rows: int,
        limits: Limits,
        class_axis: object,
        cancelled: Cancel,
    ) -> None:
        self._loaded = loaded
        self._model = model
        self._features = features
        fixed = model.input.shape[0]
        self._step = fixed if isinstance(fixed, int) else most_rows
        self._whole = isinstance(fixed, int)
        self._cancelled = cancelled
        self.spent_s = 0.0
        with self._watched() as options:
            first = self._run(0, options)
        self.first_s = self.spent_s
        shape = (len(features), *first.shape[1:])
        limits.check("logits", shape, class_axis)
        self.logits: Tensor = torch.empty(shape, dtype=torch.from_numpy(first).dtype)
        self._class_axis = class_axis
        self._done = 0
        self._put(first)

    def await_rows(self, rows: int) -> None:
        """Return once the logits' rows below a number are there.

        Raises:
            ModelFailed, Cancelled: as above.
        """
        wanted = min(self._entries(rows), len(self._features))
        if self._done >= wanted:
            return
        with self._watched() as options:
            while self._done < wanted:
                if self._cancelled():
                    raise Cancelled("given up while the model ran")
                self._put(self._run(self._done, options))

    def _entries(self, rows: int) -> int:
        shape = self.logits.shape
        if not rows_are_in_order(shape, self._class_axis):
            return len(self._features)
        return bytes_of_rows(shape, self._class_axis, len(self._features), rows)

    def _put(self, found: NDArray[np.generic]) -> None:
        if found.shape[1:] != tuple(self.logits.shape[1:]):
            raise ModelFailed(
                f"the model gave rows of shape {list(found.shape[1:])} after rows of shape "
                f"{list(self.logits.shape[1:])}"
            )
        end = self._done + len(found)
        self.logits[self._done : end] = torch.from_numpy(found)
        self._done = end

    def _run(self, begin: int, options: ort.RunOptions) -> NDArray[np.generic]:
        """Return the logits of the rows from one on."""
        given = self._features[begin : begin + self._step]
        rows = len(given)
        if self._whole and rows < self._step:  # a model of so many rows, no more and no fewer
            given = np.concatenate([given, np.zeros_like(given, shape=self._missing(rows))])
        since_s = time.perf_counter()
        feeds = {**self._loaded.constants, self._model.input.name: np.ascontiguousarray(given)}
        try:
            (found,) = self._loaded.session.run([self._model.output.name], feeds, options)
        except Exception as error:  # noqa: BLE001  (the runtime's errors share no other base)
            if self._cancelled():
                raise Cancelled("given up while the model ran") from None
            raise ModelFailed(f"the model does not run on these features: {said(error)}") from None
        finally:
            self.spent_s += time.perf_counter() - since_s
        if found.shape[:1] != (len(given),):
            raise ModelFailed(
                f"the model gave shape {list(found.shape)} for {len(given)} rows: logits have a "
                "row for each of the features'"
            )
        result: NDArray[np.generic] = found[:rows]
        return result

    def _missing(self, rows: int) -> tuple[int, ...]:
        return (self._step - rows, *self._features.shape[1:])

    @contextmanager
    def _watched(self) -> Iterator[ort.RunOptions]:
        """Stop the model where the request is given up: a graph may hold a loop without end."""
        options: Any = ort.RunOptions()
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(LOOK_S):
                if self._cancelled():
                    options.terminate = True
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield options
        finally:
            ended.set()
            watcher.join()


def fitted(features: Tensor, model: Description) -> NDArray[np.generic]:
    """Return features in the type that the model takes.

    Raises:
        InvalidDocument: they have another shape, no rows, or numbers that the type cannot hold.
    """
    expected = model.input.shape
    shape = tuple(features.shape)
    fits = len(shape) == len(expected) and all(
        not isinstance(size, int) or size == found
        for size, found in zip(expected[1:], shape[1:], strict=True)
    )
    if not fits:
        raise invalid(
            "/features",
            f"have shape {list(shape)}, the model's input '{model.input.name[:64]}' "
            f"takes {_sizes(expected)}",
        )
    if not features.numel():
        raise invalid("/features", f"have shape {list(shape)}, and so no numbers: send some rows")
    if features.dtype == torch.bfloat16:
        features = features.float()
    numbers: NDArray[np.generic] = features.numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        made = numbers.astype(model.input.dtype, copy=False)
    if not _holds(numbers, made):
        raise invalid(
            "/features", f"the model takes {model.input.dtype}, and a number does not fit that"
        )
    return made


def _holds(numbers: NDArray[Any], made: NDArray[Any]) -> bool:
    """Tell whether numbers are the same in another type, but for rounding."""
    if made.dtype.kind == "f":
        if numbers.dtype.kind != "f" or numbers.dtype.itemsize <= made.dtype.itemsize:
            return True
        return bool((np.isfinite(numbers) == np.isfinite(made)).all())
    return bool((numbers == made).all())


def _sizes(shape: Sequence[int | str | None]) -> str:
    named = ["rows", *(each if isinstance(each, int) else each or "any" for each in shape[1:])]
    return f"[{', '.join(map(str, named))}]"
