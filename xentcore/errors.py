"""Everything that xentcore raises.

    XentError
    ├── InvalidTensor            the numbers that were sent cannot be evaluated
    │   ├── ShapeMismatch        logits, labels and weights do not fit each other
    │   ├── UnsupportedDtype     a tensor of a type that holds no logits, or no labels
    │   ├── InvalidLabel         a label outside what its kind allows; names the first one
    │   ├── InvalidWeight        a sample weight that is negative or not finite
    │   ├── InvalidProbability   an input stated to be probabilities that is none
    │   └── NonFinite            a row refused under ``nonfinite="reject"``
    ├── InvalidSetting           an option or a variant's setting outside its range
    │   └── LabelKindRefused     labels of a kind that the variant does not take
    ├── UnknownVariant           no such variant; suggests the nearest
    ├── CannotMerge              two evaluations that did not ask the same question
    ├── Cancelled                the caller lost interest between two blocks
    └── DeviceUnavailable        the device asked for is not there, or its memory is exhausted

Every error carries ``pointer``, the JSON pointer (RFC 6901) of the part of the request it is about,
so that a caller can show it in place. Where several variants are evaluated at once, ``spec`` is the
place in their list of the one it is about. None of them knows a status code.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class XentError(Exception):
    """Root of the tree. ``pointer`` names the offending part of the request, "" the whole."""

    spec: int | None = None

    def __init__(self, message: str, *, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class InvalidTensor(XentError):
    """The numbers that were sent cannot be evaluated."""


class ShapeMismatch(InvalidTensor):
    """Logits, labels and weights do not fit each other."""


class UnsupportedDtype(InvalidTensor):
    """A tensor of a type that holds no logits, or no labels."""


class InvalidLabel(InvalidTensor):
    """A label outside what its kind allows.

    ``position`` is its place in the labels' shape, or the place of its row among the rows.
    """

    def __init__(self, message: str, *, position: tuple[int, ...], pointer: str) -> None:
        super().__init__(message, pointer=pointer)
        self.position = position


class InvalidWeight(InvalidTensor):
    """A sample weight that is negative or not finite."""


class InvalidProbability(InvalidTensor):
    """An input stated to be probabilities, or their logarithms, that is none."""


class NonFinite(InvalidTensor):
    """A row refused under ``nonfinite="reject"``."""


class InvalidSetting(XentError):
    """An option or a variant's setting outside its range."""


class LabelKindRefused(InvalidSetting):
    """Labels of a kind that the variant does not take; the message names the variant that does."""

    def __init__(self, message: str) -> None:
        super().__init__(message, pointer="/labels")


class UnknownVariant(XentError):
    """No such variant. The message suggests the nearest name and lists all."""

    def __init__(self, slug: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = get_close_matches(slug, names, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ";"
        # Cut: a name of a megabyte is not worth a megabyte of answer.
        super().__init__(
            f"unknown variant '{slug[:64]}'{hint} known: {', '.join(names)}", pointer="/variant"
        )
        self.slug = slug


class CannotMerge(XentError):
    """Two evaluations that did not ask the same question."""


class Cancelled(XentError):
    """The caller lost interest between two blocks; nothing of the evaluation is kept."""


class DeviceUnavailable(XentError):
    """The device asked for is not there, or its memory is exhausted even for one row."""


def pointer_to(root: str, position: Iterable[int]) -> str:
    """Return the JSON pointer of an element: ``pointer_to("labels", (3, 0)) == "/labels/3/0"``."""
    return "/".join(["", root, *map(str, position)])
