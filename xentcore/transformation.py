"""What a variant does to logits before the softmax pass, and the way back for its gradient."""

from dataclasses import dataclass, replace

from torch import Tensor

from xentcore.constants import Constants
from xentcore.errors import InvalidSetting
from xentcore.row_statistics import RowTerms


@dataclass(frozen=True, slots=True)
class Transformed:
    """Rows of transformed logits, less the largest of each row.

    Attributes:
        shifted: (rows, classes) in the compute dtype; the largest of a row is 0, or -inf where
            nothing of the row is left.
        largest: what was taken off, (rows,), float64.
    """

    shifted: Tensor
    largest: Tensor


@dataclass(frozen=True, slots=True)
class Transformation:
    """z'_c = scale * z_c + offset_c. Specs with equal transformations share one pass.

    Attributes:
        scale: above 0 and finite, so that the order of logits and of infinities stays.
        offsets: one per class, -inf where the class cannot be; ``None`` for zeros.
    """

    scale: float = 1.0
    offsets: tuple[float, ...] | None = None

    def check_classes(self, classes: int) -> None:
        """Check that there is one offset per class.

        Raises:
            InvalidSetting: the class counts they were made of are of another length.
        """
        if self.offsets is not None and len(self.offsets) != classes:
            raise InvalidSetting(
                f"class_counts has {len(self.offsets)} entries for {classes} classes: "
                "give one per class",
                pointer="/settings/class_counts",
            )

    def apply(self, logits: Tensor, maximum: Tensor, constants: Constants) -> Transformed:
        """Transform rows of logits.

        Args:
            logits: (rows, classes) in the compute dtype.
            maximum: the largest of each row, (rows,).
            constants: of the evaluation.
        """
        # float64, and shifted before and after: a logit of 3e7 plus log 0.3 would be 3e7, and
        # where two large terms cancel, float32 would keep half of the digits.
        base = maximum.double()
        base = base.masked_fill(base.isneginf(), 0)
        shifted = logits.double() - base[:, None]
        if self.scale != 1:
            shifted.mul_(self.scale)
        if self.offsets is not None:
            shifted.add_(constants.exact(self.offsets))
        top = shifted.amax(dim=1)
        shifted.sub_(top.masked_fill(top.isneginf(), 0)[:, None])
        return Transformed(shifted.to(logits.dtype), base * self.scale + top)

    def to_given(self, terms: RowTerms) -> RowTerms:
        """Return terms of the transformed logits with the gradient by the logits as given.

        The chain rule: d z'_c / d z_c = scale.
        """
        if self.scale == 1:
            return terms
        subtract, at_label, tilt = terms.subtract, terms.at_label, terms.tilt
        return replace(
            terms,
            scale=terms.scale * self.scale,
            subtract=None if subtract is None else lambda: subtract() * self.scale,
            at_label=None if at_label is None else at_label * self.scale,
            tilt=None if tilt is None else tilt * self.scale,
        )
