"""A variant with its settings, as asked for and as bound to a batch."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from xentcore.elements import Elements
from xentcore.errors import InvalidSetting, ShapeMismatch, XentError
from xentcore.options import Family, LabelKind, Options, Output, Reading
from xentcore.registry import find_variant
from xentcore.row_statistics import RowStatistics
from xentcore.scoring import Scored, ScoredElements, ScoredRows
from xentcore.variant import SOFTMAX_REFUSES_BINARY, Settings, Variant


@dataclass(frozen=True, slots=True)
class Spec:
    """A variant, its settings (``None`` for the defaults) and the name its answer carries."""

    variant: str
    settings: Settings | None = None
    name: str | None = None


class BoundSpec:
    """A spec whose variant is looked up and whose settings no longer depend on the batch.

    Args:
        spec: what was asked.
        class_counts: rows per class of the whole batch, where settings are derived from them.

    Raises:
        UnknownVariant: the spec names none.
        InvalidSetting: settings of another variant, or some that have no default.
    """

    def __init__(self, spec: Spec, class_counts: Sequence[int] | None) -> None:
        self.variant: Variant[Any] = find_variant(spec.variant)
        self.name = spec.name or spec.variant
        self.asked = settings_of(self.variant, spec.settings)
        self.settings = self.variant.resolve(self.asked, class_counts)
        self.class_weights = self.variant.class_weights(self.settings)
        self.source_of_rows = self.variant.source_of_rows(self.settings)
        self.transformation = self.variant.transformation(self.asked, class_counts)

    def check_classes(self, classes: int) -> None:
        """Check that all that is given or counted per class has one entry for each.

        Raises:
            InvalidSetting: a tuple of another length; names the setting.
        """
        self.settings.check_classes(classes)
        if self.transformation is not None:
            self.transformation.check_classes(classes)

    def check(self, kind: LabelKind, classes: int, outputs: Collection[Output]) -> None:
        """Check settings and labels against the batch.

        Raises:
            InvalidSetting: of another length than classes, or row statistics of a sigmoid.
            LabelKindRefused: labels of a kind that the variant does not take.
            ShapeMismatch: softmax over one class.
        """
        self.check_classes(classes)
        if self.family(kind) == "softmax" and classes == 1:
            raise ShapeMismatch(SOFTMAX_REFUSES_BINARY, pointer="/logits")
        self.variant.check_labels(self.settings, kind)
        if self.family(kind) == "sigmoid" and "row_statistics" in outputs:
            raise InvalidSetting(
                "row_statistics are those of a softmax, and these labels ask for sigmoid",
                pointer="/outputs",
            )

    def family(self, kind: LabelKind | None) -> Family:
        """Return the family that serves labels of this kind; before a row decided it, the usual."""
        return self.variant.family(self.settings, kind or self.variant.label_kinds[0])

    def reading(self, kind: LabelKind) -> Reading:
        """Return what labels of this kind are about."""
        return self.variant.reading(self.settings, kind)

    def score(
        self, body: RowStatistics | Elements, weights: Tensor | None, options: Options
    ) -> Scored:
        """Return measured rows under this variant; sample weights ``None`` for ones."""
        if isinstance(body, RowStatistics):
            terms = self.variant.rows(body, self.settings)
            if self.transformation is not None:
                terms = self.transformation.to_given(terms)
            return ScoredRows.of(body, terms, weights, options.nonfinite)
        return ScoredElements.of(
            body, self.variant.elements(body, self.settings), weights, options.nonfinite
        )


def settings_of(variant: Variant[Any], settings: Settings | None) -> Settings:
    """Return the settings, or the variant's defaults.

    Raises:
        InvalidSetting: settings of another variant, or some that have no default.
    """
    expected: type[Settings] = variant.settings_type
    if settings is None:
        try:
            return expected()
        except TypeError:
            raise InvalidSetting(
                f"{variant.slug} has settings without a default: "
                f"see {expected.__name__} for what to give",
                pointer="/settings",
            ) from None
    if not isinstance(settings, expected):
        raise InvalidSetting(
            f"{variant.slug} takes {expected.__name__}, not {type(settings).__name__}",
            pointer="/settings",
        )
    return settings


@contextmanager
def about(spec: int) -> Iterator[None]:
    """Mark errors raised inside as being about the spec at this place of the list."""
    try:
        yield
    except XentError as error:
        error.spec = spec
        raise
