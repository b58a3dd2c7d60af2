"""What a variant is: a name, its settings, and its terms per row or per element.

A variant turns what a pass measured into a loss and a gradient before reduction. It knows neither
reductions nor sample weights nor chunks: those have their one home in :mod:`xentcore.evaluation`.
"""

import math
import operator
import sys
from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from functools import cache
from types import UnionType
from typing import (
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from xentcore.elements import Elements, ElementTerms
from xentcore.errors import InvalidSetting, LabelKindRefused
from xentcore.options import Family, LabelKind, Reading, Source
from xentcore.row_statistics import RowStatistics, RowTerms
from xentcore.transformation import Transformation


def setting(
    default: Any,  # noqa: ANN401  (the field's own annotation is the type)
    description: str,
    *,
    minimum: float | None = None,
    below: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
) -> Any:  # noqa: ANN401  (dataclasses.field is typed so as well)
    """Declare one setting: its default, what it does, and the range of its numbers.

    The range holds for a number and for every entry of a tuple; tuples have one entry per class.
    The same declaration is checked here and shown in the API's schema.
    """
    bounds = {"minimum": minimum, "below": below, "maximum": maximum, "above": above}
    metadata = {"description": description, **{k: v for k, v in bounds.items() if v is not None}}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Base of every variant's settings. Numbers are checked against their declared range.

    Raises:
        InvalidSetting: a number that is not finite or outside its range; names the setting.
    """

    def __post_init__(self) -> None:
        hints = type(self).hints()
        for declared in fields(self):
            value = getattr(self, declared.name)
            pointer = f"/settings/{declared.name}"
            if not _is_of(value, hints[declared.name]):
                raise InvalidSetting(
                    f"{declared.name} must be {_words(hints[declared.name])}", pointer=pointer
                )
            if isinstance(value, tuple):
                for position, entry in enumerate(value):
                    _check_range(declared, entry, f"{pointer}/{position}")
            elif isinstance(value, int | float):
                _check_range(declared, value, pointer)

    @classmethod
    @cache
    def hints(cls) -> dict[str, Any]:
        """Return the types that the settings are declared with."""
        return get_type_hints(cls)

    def check_classes(self, classes: int) -> None:
        """Check that every per-class setting has one entry per class.

        Raises:
            InvalidSetting: a tuple of another length; names the setting.
        """
        for declared in fields(self):
            value = getattr(self, declared.name)
            if isinstance(value, tuple) and len(value) != classes:
                raise InvalidSetting(
                    f"{declared.name} has {len(value)} entries for {classes} classes: "
                    "give one per class",
                    pointer=f"/settings/{declared.name}",
                )


def _is_of(value: object, hint: Any) -> bool:  # noqa: ANN401  (any annotation)
    """Tell whether a value is of a type that settings are declared with."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_is_of(value, option) for option in get_args(hint))
    if origin is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if origin is tuple:
        entry = get_args(hint)[0]
        return isinstance(value, tuple) and all(_is_of(part, entry) for part in value)
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float if hint is float else hint)


def _words(hint: Any) -> str:  # noqa: ANN401  (any annotation)
    """Name a type that settings are declared with, for people."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return " or ".join(_words(option) for option in get_args(hint))
    if origin is Literal:
        return " or ".join(f"'{choice}'" for choice in get_args(hint))
    if origin is tuple:
        return f"a tuple with {_words(get_args(hint)[0])} per class"
    return {float: "a number", int: "a whole number", type(None): "none"}[hint]


def _check_range(declared: "Field[Any]", value: float, pointer: str) -> None:
    bounds = declared.metadata
    try:
        finite = math.isfinite(value)
    except OverflowError:
        # Not repeated: the whole number may have any number of digits.
        raise InvalidSetting(
            f"{declared.name} must not exceed {sys.float_info.max:g}, "
            "the largest number of the arithmetic used",
            pointer=pointer,
        ) from None
    if not finite:
        raise InvalidSetting(f"{declared.name} must be finite, not {value}", pointer=pointer)
    for bound, words, holds in _BOUNDS:
        if bound in bounds and not holds(value, bounds[bound]):
            raise InvalidSetting(
                f"{declared.name} must be {words} {bounds[bound]}, not {value}", pointer=pointer
            )


_BOUNDS: Final = (
    ("minimum", "at least", operator.ge),
    ("maximum", "at most", operator.le),
    ("above", "above", operator.gt),
    ("below", "below", operator.lt),
)


S = TypeVar("S", bound=Settings)


class Variant(ABC, Generic[S]):
    """One loss of the cross-entropy family.

    Attributes:
        slug: its name in routes, ``^[a-z0-9-]+$``.
        summary: one line for people who choose.
        formula: the loss, as written in the documentation.
        gradient: its derivative with respect to the logits, before reduction.
        source: where the definition comes from.
        settings_type: the frozen dataclass of its settings.
        label_kinds: the kinds it takes.
        refusals: for kinds it does not take, the sentence that names the way out.
        shift_invariant: whether a common offset on a row's logits changes nothing, so that a row of
            the gradient sums to 0. True of every softmax loss that knows logits by p alone.
        example: settings, logits and labels of the worked example in the API's documentation.
    """

    slug: ClassVar[str]
    summary: ClassVar[str]
    formula: ClassVar[str]
    gradient: ClassVar[str]
    source: ClassVar[str]
    settings_type: type[S]
    families: ClassVar[tuple[Family, ...]]
    label_kinds: ClassVar[tuple[LabelKind, ...]]
    refusals: ClassVar[Mapping[LabelKind, str]] = {}
    shift_invariant: ClassVar[bool] = True
    example: ClassVar[Mapping[str, object]]

    def family(self, settings: S, label_kind: LabelKind) -> Family:  # noqa: ARG002
        """Return the family that serves labels of this kind under these settings."""
        return self.families[0]

    def reading(self, settings: S, label_kind: LabelKind) -> Reading:
        """Return what labels of this kind are about; "ranks" go up to C, one more than columns."""
        return "classes" if self.family(settings, label_kind) == "softmax" else "elements"

    def check_labels(self, settings: S, label_kind: LabelKind) -> None:  # noqa: ARG002
        """Refuse labels of a kind that this variant does not take.

        Raises:
            LabelKindRefused: naming the variant that takes them.
        """
        if label_kind not in self.label_kinds:
            raise LabelKindRefused(f"labels are {label_kind}: {self.refusals[label_kind]}")

    def needs_class_counts(self, settings: S) -> bool:  # noqa: ARG002
        """Tell whether the rows per class of the whole batch are needed.

        They are given to :meth:`resolve` and :meth:`transformation`.
        """
        return False

    def resolve(self, settings: S, class_counts: Sequence[int] | None) -> S:  # noqa: ARG002
        """Return settings in which nothing depends on the batch any more."""
        return settings

    def transformation(
        self,
        settings: S,  # noqa: ARG002
        class_counts: Sequence[int] | None,  # noqa: ARG002
    ) -> Transformation | None:
        """Return what is done to logits before the softmax pass; ``None`` leaves them as they are.

        The pass then measures the transformed logits: predictions, probabilities, calibration and
        row statistics are those of the model under this variant. :meth:`rows` gives the gradient
        by the transformed logits; the chain rule is applied to its terms, not by it. What is said
        about non-finite or doubly softmaxed logits is about those that were given.
        """
        return None

    def source_of_rows(self, settings: S) -> Source:  # noqa: ARG002
        """Return what the losses of hard labels (softmax family) are made of."""
        return "measured"

    def class_weights(self, settings: S) -> tuple[float, ...] | None:  # noqa: ARG002
        """Return the class weights that enter the ``weights`` denominator, if any."""
        return None

    def rows(self, statistics: RowStatistics, settings: S) -> RowTerms:
        """Return loss and gradient terms per row (softmax family), of the logits measured."""
        raise NotImplementedError(f"{self.slug} has no softmax form")

    def elements(self, block: Elements, settings: S) -> ElementTerms:
        """Return loss and gradient per element (sigmoid family)."""
        raise NotImplementedError(f"{self.slug} has no sigmoid form")


SOFTMAX_REFUSES_MULTI_HOT: Final = "each class is an independent yes/no: use /loss/binary"
SOFTMAX_REFUSES_BINARY: Final = "softmax over one class is constant: use /loss/binary"
SOFTMAX_REFUSALS: Final[Mapping[LabelKind, str]] = {
    "multi_hot": SOFTMAX_REFUSES_MULTI_HOT,
    "binary": SOFTMAX_REFUSES_BINARY,
}
