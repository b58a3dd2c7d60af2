"""What things are called in documents."""

from typing import Annotated, Any, Final

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator

INT64_MAX: Final = (1 << 63) - 1
LONGEST: Final = 256


def _together(ids: object, validate: ValidatorFunctionWrapHandler) -> object:
    """Return ids that are right by a look at all of them; else look at one after the other.

    A batch has thousands, nearly always all numbers or all plain texts.
    """
    return ids if isinstance(ids, list) and ids and _are_right(ids) else validate(ids)


def _are_right(ids: list[Any]) -> bool:
    kinds = set(map(type, ids))
    if kinds == {int}:
        return bool(max(ids) <= INT64_MAX)
    return kinds == {str} and max(map(len, ids)) <= LONGEST and "".join(ids).isascii()


Name = Annotated[str, Field(max_length=LONGEST)]
SampleId = Annotated[str, Field(max_length=LONGEST)] | Annotated[int, Field(le=INT64_MAX)]
# Fail fast: a million wrong ids are one error.
Ids = Annotated[list[SampleId], Field(fail_fast=True), WrapValidator(_together)]
