"""The protocol's names of types."""

from collections.abc import Mapping
from typing import Final

import torch

from service.wire.payload import TORCH_DTYPES

DTYPES: Final[Mapping[str, torch.dtype]] = {
    "FP16": TORCH_DTYPES["float16"],
    "BF16": TORCH_DTYPES["bfloat16"],
    "FP32": TORCH_DTYPES["float32"],
    "FP64": TORCH_DTYPES["float64"],
    "INT8": TORCH_DTYPES["int8"],
    "INT16": TORCH_DTYPES["int16"],
    "INT32": TORCH_DTYPES["int32"],
    "INT64": TORCH_DTYPES["int64"],
    "UINT8": TORCH_DTYPES["uint8"],
    "UINT16": TORCH_DTYPES["uint16"],
    "UINT32": TORCH_DTYPES["uint32"],
    "UINT64": TORCH_DTYPES["uint64"],
    "BOOL": TORCH_DTYPES["bool"],
}
NAMES: Final[Mapping[torch.dtype, str]] = {dtype: name for name, dtype in DTYPES.items()}

REALS: Final = ("FP16", "BF16", "FP32", "FP64")
WHOLES: Final = tuple(name for name in DTYPES if "INT" in name)
ALL: Final = tuple(DTYPES)
BINARY_ONLY: Final = "BF16"  # has no JSON form
