"""What a model takes and gives, by the protocol's names."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.wire.kserve.datatypes import ALL


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor that is taken.

    Attributes:
        name: what requests call it.
        datatype: what it usually is.
        shape: -1 where any size is taken.
        taken: what else it may be.
        optional: whether a request may do without.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    taken: tuple[str, ...] = ALL
    optional: bool = True


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor that is given where it is asked for.

    Attributes:
        name: what requests call it.
        datatype: what it is; the gradient is of the logits' type.
        shape: -1 where the batch decides.
        path: where the answer document holds it.
        needs: the output that the document must ask for; ``None`` where it is always there.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    path: tuple[str, ...]
    needs: str | None


@dataclass(frozen=True, slots=True)
class Model:
    """A variant, as the protocol sees it.

    Attributes:
        name: the variant.
        inputs: by name.
        outputs: by name.
        options: parameters that are fields of the request's document, with their defaults.
        settings: parameters that are settings of the variant, with their defaults as JSON knows
            them; those that may be lists are inputs, too.
    """

    name: str
    inputs: Mapping[str, Input]
    outputs: Mapping[str, Output]
    options: Mapping[str, object]
    settings: Mapping[str, object]
