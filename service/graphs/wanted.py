"""What a graph is asked for. Here, so that a question is read without loading ONNX."""

from dataclasses import dataclass
from typing import Any

from xentcore import LabelKind, Settings, Variant


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a graph is asked for.

    Attributes:
        variant: which loss.
        settings: of the loss.
        classes: how many columns the logits have.
        label_kind: what labels the graph takes; ``None`` for the first that the variant names,
            ``binary`` aside.
        ignore_index: marks rows to leave out; ``None`` leaves none out.
    """

    variant: Variant[Any]
    settings: Settings
    classes: int
    label_kind: LabelKind | None = None
    ignore_index: int | None = -100

    @property
    def kind(self) -> LabelKind:
        """The kind of labels that the graph takes."""
        # One column of yes and no is what multi-hot labels of one class are.
        usual = next(kind for kind in self.variant.label_kinds if kind != "binary")
        return self.label_kind or usual
