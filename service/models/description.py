"""What is known of a model once it was tried."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Recognised = Literal["none", "stated", "softmax", "log_softmax", "sigmoid", "probabilities"]
Shape = tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class Port:
    """An input or an output.

    Attributes:
        name: in the graph.
        dtype: as NumPy calls it, or as ONNX does where NumPy has none.
        shape: with names, or ``None``, for sizes that are free.
    """

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Description:
    """A model that was tried.

    Attributes:
        digest: of its files.
        size: of its file, in bytes.
        opset: the version of the standard operators.
        input: takes the features.
        constants: numbers for its other inputs.
        output: is the logits, perhaps after an edit of the graph.
        outputs: of the file.
        classes: the classes' names, where the model states them.
        recognised: what normalised the logits, and was left out; ``probabilities``: what normalised
            them could not be.
        axis: of the classes, where the graph says; else ``None``.
        note: about that, a sentence.
    """

    digest: str
    size: int
    opset: int
    input: Port
    constants: dict[str, float]
    output: Port
    outputs: tuple[Port, ...]
    classes: tuple[str, ...] | None
    recognised: Recognised
    axis: int | None
    note: str

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Description":
        """Return what :meth:`plain` made plain."""
        classes = plain["classes"]
        return cls(
            **{
                **plain,
                "input": _port(plain["input"]),
                "output": _port(plain["output"]),
                "outputs": tuple(map(_port, plain["outputs"])),
                "classes": None if classes is None else tuple(classes),
            }
        )


def _port(plain: dict[str, Any]) -> Port:
    return Port(plain["name"], plain["dtype"], tuple(plain["shape"]))
