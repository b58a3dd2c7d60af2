"""What an evaluation makes once instead of once per block, and with which passes it computes."""

from typing import Final

import torch
from torch import Tensor

from xentcore.errors import InvalidSetting
from xentcore.passes import EAGER, Passes

# Whole numbers up to here have a float32 of their own.
EXACT_IN_FLOAT32: Final = 1 << 24


class Constants:
    """Turns the tuples of settings into vectors on the device, and remembers them.

    Carries the passes too: whoever is given constants knows how, in which dtype and where.

    Keyed by identity: the settings that own the tuples live as long as the evaluation, and hashing
    a million weights for every block would cost more than the block.
    """

    def __init__(self, *, dtype: torch.dtype, device: torch.device, passes: Passes = EAGER) -> None:
        self.passes = passes
        self.dtype = dtype
        self.device = device
        self._places: Tensor | None = None
        self._vectors: dict[int, tuple[tuple[float, ...], Tensor]] = {}
        self._exact: dict[int, tuple[tuple[float, ...], Tensor]] = {}

    def vector(self, values: tuple[float, ...]) -> Tensor:
        """Return the tuple as a vector of shape (classes,) in the compute dtype.

        Raises:
            InvalidSetting: a number that the compute dtype cannot hold.
        """
        known = self._vectors.get(id(values))
        if known is None:
            vector = torch.tensor(values, dtype=self.dtype, device=self.device)
            if not vector.isfinite().all():
                largest = torch.finfo(self.dtype).max
                raise InvalidSetting(
                    f"per-class settings must not exceed {largest:g}, the largest number of the "
                    "arithmetic used",
                    pointer="/settings",
                )
            # The tuple is kept too: its identity must not be given to another one meanwhile.
            known = self._vectors[id(values)] = (values, vector)
        return known[1]

    def exact(self, values: tuple[float, ...]) -> Tensor:
        """Return the tuple as a float64 vector of shape (classes,), infinities as they are."""
        known = self._exact.get(id(values))
        if known is None:
            vector = torch.tensor(values, dtype=torch.float64, device=self.device)
            known = self._exact[id(values)] = (values, vector)
        return known[1]

    def ones(self, classes: int) -> Tensor:
        """Return 1 for each class, in the compute dtype."""
        return torch.ones(1, dtype=self.dtype, device=self.device).expand(classes)

    def places(self, classes: int) -> Tensor:
        """Return 0, 1, ..., classes - 1 in the compute dtype, or in float64 if it cannot."""
        if self._places is None or len(self._places) != classes:
            dtype = self.dtype if classes <= EXACT_IN_FLOAT32 else torch.float64
            self._places = torch.arange(classes, dtype=dtype, device=self.device)
        return self._places

    def scale(self, value: float | tuple[float, ...] | None) -> "Tensor | float":
        """Return a factor that broadcasts over classes: a number, a vector, or 1 for ``None``."""
        if value is None:
            return 1.0
        return self.vector(value) if isinstance(value, tuple) else value
