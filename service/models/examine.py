"""A model's files -> what the model is, and the graph that gives its logits."""

import hashlib
from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto

from service.errors import BrokenModel
from service.models.card import Card, read_card
from service.models.checks import checked, opset_of
from service.models.description import Description, Port, Recognised
from service.models.graph import Cut, blended, cut
from service.models.runtime import DTYPES, FLOATS, ports, said, session_of

CARD_KEY: Final = "xent"
"""The key of a model's own metadata that may hold what model.json does."""

LISTED: Final = 8
TRIAL_ROWS: Final = 4
SUM_TOLERANCE: Final = 1e-3
MATRIX: Final = 2


def digest_of(data: bytes, card: bytes | None) -> str:
    """Return the digest of a model's files."""
    whole = hashlib.blake2b(data, digest_size=16)
    whole.update(b"" if card is None else b"\0" + card)
    return whole.hexdigest()


def prepared(data: bytes, card: bytes | None) -> tuple[bytes, Cut, Card, ModelProto]:
    """Return the model that gives the logits, how, and what was stated.

    Raises:
        BrokenModel: it is none, or not taken.
    """
    model = checked(data)
    stated = _card(model, card)
    names = [each.name for each in model.graph.output]
    output = _output(model, names, stated)
    found = cut(model, output, stated.pre_softmax)
    return model.SerializeToString(), found, stated, model


def examine(data: bytes, card: bytes | None, *, elements: int, classes: int) -> Description:
    """Return what a model is, having loaded it and run it once where its shapes are known.

    Args:
        data: of model.onnx.
        card: of model.json, where there is one.
        elements: most numbers that one row may have.
        classes: most classes.

    Raises:
        BrokenModel: it is none, or not taken.
    """
    edited, found, stated, model = prepared(data, card)
    session = session_of(edited, threads=1, wanted=["CPUExecutionProvider"])
    inputs, outputs = ports(session)
    taking = _input(inputs, stated)
    logits = next(each for each in outputs if each.name == found.output)
    _check_shapes(taking, logits, elements=elements, classes=classes)
    if stated.classes is not None and logits.shape[1:2] not in ((), (len(stated.classes),)):
        _check_names(stated.classes, logits)
    values = _tried(session, taking, found.output, stated)
    recognised, note = _weighed(found, values)
    return Description(
        digest=digest_of(data, card),
        size=len(data),
        opset=opset_of(model),
        input=taking,
        constants={name: float(value) for name, value in stated.constants.items()},
        output=logits,
        outputs=tuple(outputs),
        classes=None if stated.classes is None else tuple(stated.classes),
        recognised=recognised,
        axis=found.axis,
        note=note,
    )


def feeds(
    session_inputs: list[Port], constants: dict[str, float]
) -> dict[str, NDArray[np.generic]]:
    """Return what is given to the inputs that have a constant."""
    made = {}
    for each in session_inputs:
        if each.name in constants:
            sizes = [size if isinstance(size, int) else 1 for size in each.shape]
            made[each.name] = np.full(sizes, constants[each.name]).astype(each.dtype)
    return made


def _card(model: ModelProto, card: bytes | None) -> Card:
    if card is not None:
        return read_card(card, "model.json")
    held = [each.value for each in model.metadata_props if each.key == CARD_KEY]
    if held:
        return read_card(held[0].encode(), f"the model's metadata '{CARD_KEY}'")
    return Card()


def _output(model: ModelProto, names: list[str], stated: Card) -> str:
    if stated.output is not None:
        if stated.output not in names:
            raise BrokenModel(
                f"model.json: the model has no output '{stated.output[:64]}'; it has {_list(names)}"
            )
        return stated.output
    floats: list[str] = [
        each.name for each in model.graph.output if each.type.tensor_type.elem_type in _FLOAT_TYPES
    ]
    if len(floats) == 1:
        return floats[0]
    if isinstance(stated.pre_softmax, str) and names:
        return names[0]
    raise BrokenModel(
        f"the model has {len(floats)} outputs of real numbers, and one is taken: name it in "
        f"model.json (output); there are {_list(names)}"
    )


_FLOAT_TYPES: Final = (1, 10, 11)  # FLOAT, FLOAT16, DOUBLE of TensorProto


def _list(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(f"'{name[:64]}'" for name in names[:LISTED]) + more


def _input(inputs: list[Port], stated: Card) -> Port:
    names = [each.name for each in inputs]
    unknown = [name for name in (stated.input, *stated.constants) if name and name not in names]
    if unknown:
        raise BrokenModel(
            f"model.json: the model has no input '{unknown[0][:64]}'; it has {_list(names)}"
        )
    free = [each for each in inputs if each.name not in stated.constants]
    chosen = [each for each in free if stated.input in (None, each.name)]
    if len(chosen) != 1 or len(free) != 1:
        raise BrokenModel(
            f"the model has {len(free)} inputs, and features are one: name it in model.json (input)"
            f" and give the others a number each (constants); there are {_list(names)}"
        )
    for each in inputs:
        if each.dtype not in DTYPES.values():
            raise BrokenModel(f"the input '{each.name[:64]}' takes {each.dtype}, not numbers")
        if each is not chosen[0] and any(size not in (1, "") for size in each.shape):
            raise BrokenModel(
                f"the input '{each.name[:64]}' has shape {list(each.shape)}; one number can be "
                "given to a scalar only"
            )
    return chosen[0]


def _check_shapes(taking: Port, logits: Port, *, elements: int, classes: int) -> None:
    if logits.dtype not in FLOATS:
        raise BrokenModel(
            f"the output '{logits.name[:64]}' is {logits.dtype}; logits are {', '.join(FLOATS)}"
        )
    if not taking.shape:
        raise BrokenModel(f"the input '{taking.name[:64]}' has no axis of rows")
    size = 1
    for each in taking.shape[1:]:
        size *= each if isinstance(each, int) else 1
    if size > elements:
        raise BrokenModel(f"a row of features has {size} numbers, more than {elements}")
    found = logits.shape[1] if len(logits.shape) > 1 else 1
    if isinstance(found, int) and found > classes:
        raise BrokenModel(f"the logits have {found} classes, more than {classes}")


def _check_names(names: list[str], logits: Port) -> None:
    found = logits.shape[1] if len(logits.shape) > 1 else 1
    if isinstance(found, int) and found != len(names):
        raise BrokenModel(f"model.json names {len(names)} classes, and the logits have {found}")


def _tried(
    session: ort.InferenceSession, taking: Port, output: str, stated: Card
) -> NDArray[np.generic] | None:
    """Return what the model gives for a few rows; ``None`` where their shape is not known."""
    rows, *sizes = taking.shape
    fixed = [size for size in sizes if isinstance(size, int)]
    if len(fixed) != len(sizes):
        return None
    rows = rows if isinstance(rows, int) else TRIAL_ROWS
    numbers = np.random.default_rng(0).standard_normal((rows, *fixed))
    inputs, _ = ports(session)
    given = feeds(inputs, {name: float(value) for name, value in stated.constants.items()})
    if taking.dtype not in FLOATS:  # they may be places in a table, of which 0 is one
        numbers = np.zeros_like(numbers)
    given[taking.name] = numbers.astype(taking.dtype)
    try:
        (found,) = session.run([output], given)
    except Exception as error:  # noqa: BLE001  (the runtime's errors share no other base)
        raise BrokenModel(f"the model does not run: {said(error)}") from None
    if found.shape[:1] != (rows,):
        raise BrokenModel(
            f"the model gives {list(found.shape)} for {rows} rows: logits have a row for each of "
            "the features'"
        )
    return found if found.size else None


def _weighed(found: Cut, values: NDArray[np.generic] | None) -> tuple[Recognised, str]:
    """Return what was recognised, having seen what the model gives."""
    if values is None or found.recognised not in ("none", "probabilities"):
        return found.recognised, found.note
    wide = values.astype(np.float64)
    shares = bool(((wide >= 0) & (wide <= 1)).all())
    if found.recognised == "probabilities":
        logs = bool((wide <= 0).all())
        return ("probabilities", found.note) if shares or logs else ("none", "")
    sums = wide.ndim >= MATRIX and bool(np.all(np.abs(wide.sum(axis=1) - 1) < SUM_TOLERANCE))
    if found.note or not (shares and sums and wide.shape[1] > 1):
        return found.recognised, found.note
    return "probabilities", blended("a softmax")
