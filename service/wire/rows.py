"""Where the rows of logits lie among their bytes."""

from collections.abc import Sequence

from service.wire.payload import extent


def rows_are_in_order(shape: Sequence[int], class_axis: object) -> bool:
    """Tell whether the bytes of logits of this shape come row after row."""
    first_is_classes = class_axis in (0, -len(shape)) and len(shape) > 1
    rows, _ = extent(shape, class_axis)
    return bool(rows) and not first_is_classes


def bytes_of_rows(shape: Sequence[int], class_axis: object, size: int, number: int) -> int:
    """Return how many of the ``size`` bytes hold the rows below a number, if they are in order."""
    rows, _ = extent(shape, class_axis)
    entries = -(-number // (rows // shape[0]))
    return entries * (size // shape[0])
