"""Cross-entropy losses with stated conventions: tensors in, numbers out.

>>> import torch
>>> from xentcore import Spec, evaluate
>>> logits = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]])
>>> (result,) = evaluate(logits, torch.tensor([0, 3]), [Spec("sparse")])
>>> round(result.loss, 4), result.reduction.denominator
(0.8414, 2.0)
"""

from xentcore.device import resolve_device
from xentcore.errors import (
    Cancelled,
    CannotMerge,
    DeviceUnavailable,
    InvalidLabel,
    InvalidProbability,
    InvalidSetting,
    InvalidTensor,
    InvalidWeight,
    LabelKindRefused,
    NonFinite,
    ShapeMismatch,
    UnknownVariant,
    UnsupportedDtype,
    XentError,
)
from xentcore.evaluation import Evaluation, evaluate, evaluation_of
from xentcore.histogram import bucket_bounds
from xentcore.kernels.cache import default_root as kernels_dir
from xentcore.kernels.load import load_passes
from xentcore.options import LABEL_KINDS, OUTPUTS, Family, LabelKind, Options, Output, Record
from xentcore.passes import EAGER, Passes
from xentcore.record import Recorded
from xentcore.registry import VARIANTS, find_variant
from xentcore.result import (
    Calibration,
    ComparedPair,
    ComparedVariant,
    Comparison,
    Diagnostic,
    Distribution,
    HardRow,
    Reduction,
    Result,
    Rows,
)
from xentcore.spec import Spec
from xentcore.variant import Settings, Variant

__all__ = [
    "EAGER",
    "LABEL_KINDS",
    "OUTPUTS",
    "VARIANTS",
    "Calibration",
    "Cancelled",
    "CannotMerge",
    "ComparedPair",
    "ComparedVariant",
    "Comparison",
    "DeviceUnavailable",
    "Diagnostic",
    "Distribution",
    "Evaluation",
    "Family",
    "HardRow",
    "InvalidLabel",
    "InvalidProbability",
    "InvalidSetting",
    "InvalidTensor",
    "InvalidWeight",
    "LabelKind",
    "LabelKindRefused",
    "NonFinite",
    "Options",
    "Output",
    "Passes",
    "Record",
    "Recorded",
    "Reduction",
    "Result",
    "Rows",
    "Settings",
    "ShapeMismatch",
    "Spec",
    "UnknownVariant",
    "UnsupportedDtype",
    "Variant",
    "XentError",
    "bucket_bounds",
    "evaluate",
    "evaluation_of",
    "find_variant",
    "kernels_dir",
    "load_passes",
    "resolve_device",
]
