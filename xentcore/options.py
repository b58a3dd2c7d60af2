"""How a batch is to be read and reduced: one frozen object, from the request to the arithmetic."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch

from xentcore.errors import InvalidSetting

Family = Literal["softmax", "sigmoid"]
# What a row's label is about: one decision among the classes; a yes or no of every element; or how
# many of the columns, the thresholds between ranks, are passed.
Reading = Literal["classes", "elements", "ranks"]
# What the loss of a row with one class is made of: what a measurement tells of the row; that, and a
# further number that a pass finds, the sum of u exp u or that of u; or all its logits.
Source = Literal["measured", "spread", "total", "logits"]
LabelKind = Literal["integer", "one_hot", "probabilities", "multi_hot", "binary"]
Reduction = Literal["mean", "sum", "none"]
Normaliser = Literal["weights", "rows", "elements"]
InputKind = Literal["logits", "log_probabilities", "probabilities"]
NonFinitePolicy = Literal["exclude", "reject", "propagate"]
Output = Literal[
    "per_sample",
    "gradient",
    "per_class",
    "distribution",
    "calibration",
    "hardest",
    "row_statistics",
]

# What is kept of an evaluation for later days: sums; or also what each row added to them.
Record = Literal["sums", "rows"]

OUTPUTS: Final[tuple[Output, ...]] = get_args(Output)
# The outputs whose sums are recorded, asked for or not.
RECORDED: Final = frozenset[Output]({"per_class", "distribution", "calibration", "hardest"})
LABEL_KINDS: Final[tuple[LabelKind, ...]] = get_args(LabelKind)
GRADIENT_DTYPES: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a batch is to be read and reduced.

    Attributes:
        reduction: what ``loss`` and ``gradient`` are of: the mean, the sum, or each row by itself.
        normaliser: what the mean divides by; ``None`` takes the family's own, ``weights`` for
            softmax and ``elements`` for sigmoid.
        label_kind: how labels are to be read; ``auto`` decides by shape and values.
        class_axis: the axis of the logits that holds the classes.
        ignore_index: integer label of rows to leave out; ``None`` leaves none out. Labels shaped
            like the logits leave a row out when all its entries hold this value.
        input: what the numbers are; (log-)probabilities are turned into logits first.
        probability_floor: clip ``input="probabilities"`` to [floor, 1 - floor], as Keras does at
            1e-7; ``None`` clips nothing.
        nonfinite: what becomes of rows with a NaN or infinite loss.
        hardest: how many rows of largest loss ``outputs={"hardest"}`` lists.
        gradient_dtype: what the gradient is rounded to, once; ``None`` takes the logits' dtype.
        per_class_limit: list this many classes, those with the largest share of the loss, and fold
            the rest into one row of class -1; ``None`` lists all.

    Raises:
        InvalidSetting: a value outside its range.
    """

    reduction: Reduction = "mean"
    normaliser: Normaliser | None = None
    label_kind: LabelKind | Literal["auto"] = "auto"
    class_axis: int = 1
    ignore_index: int | None = -100
    input: InputKind = "logits"
    probability_floor: float | None = None
    nonfinite: NonFinitePolicy = "exclude"
    hardest: int = 10
    gradient_dtype: torch.dtype | None = None
    per_class_limit: int | None = None

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InvalidSetting(
                    f"{name} must be one of {', '.join(map(str, allowed))}", pointer=f"/{name}"
                )
        for name in ("hardest", "per_class_limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidSetting(f"{name} must be at least 1, not {value}", pointer=f"/{name}")
        if self.ignore_index is not None and not -(2**63) <= self.ignore_index < 2**63:
            raise InvalidSetting(
                "ignore_index must fit into 64 bits, as labels do", pointer="/ignore_index"
            )
        self._check_floor()

    def _check_floor(self) -> None:
        floor = self.probability_floor
        if floor is None:
            return
        if not 0 < floor < _HALF:
            raise InvalidSetting(
                f"probability_floor must lie in (0, 0.5), not {floor}", pointer="/probability_floor"
            )
        if self.input != "probabilities":
            raise InvalidSetting(
                f"probability_floor clips probabilities, and the input is {self.input}",
                pointer="/probability_floor",
            )


_HALF: Final = 0.5
_CHOICES: Final[dict[str, tuple[object, ...]]] = {
    "reduction": get_args(Reduction),
    "normaliser": (*get_args(Normaliser), None),
    "label_kind": (*LABEL_KINDS, "auto"),
    "input": get_args(InputKind),
    "nonfinite": get_args(NonFinitePolicy),
    "gradient_dtype": (*GRADIENT_DTYPES, None),
}
