"""``model.json``: what a model's file does not say about itself."""

from typing import Annotated, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import BrokenModel

CARD_BYTES: Final = 1 << 22
Text = Annotated[str, Field(min_length=1, max_length=256)]


class Card(BaseModel):
    """What is stated about a model; nothing need be."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    input: Text | None = None
    """The input that takes the features, where there are several."""

    constants: dict[Text, float | int | bool] = {}
    """What the other inputs are given: one number each."""

    output: Text | None = None
    """The output that is, or is made of, the logits, where there are several."""

    classes: Annotated[list[Text], Field(min_length=1, fail_fast=True)] | None = None
    """One name per class."""

    pre_softmax: Text | Literal[False] | None = None
    """The tensor that is the logits; false: the output is, whatever it ends in."""


def read_card(data: bytes, where: str) -> Card:
    """Return what a JSON text states.

    Raises:
        BrokenModel: it is no JSON, or not of this kind.
    """
    if len(data) > CARD_BYTES:
        raise BrokenModel(f"{where} has {len(data)} bytes, more than {CARD_BYTES}")
    try:
        return Card.model_validate(orjson.loads(data))
    except orjson.JSONDecodeError:
        raise BrokenModel(f"{where} is not JSON") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = "".join(f"/{part}" for part in first["loc"])[:200]
        known = ", ".join(Card.model_fields)
        raise BrokenModel(f"{where}: {place}: {first['msg']}; known: {known}") from None
