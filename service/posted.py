"""A small JSON document that is posted: read within limits, and checked."""

import asyncio
from typing import Final, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from service.errors import (
    BodyTimeout,
    ClientDisconnected,
    InvalidDocument,
    Malformed,
    TooLarge,
    UnsupportedMediaType,
)
from service.schema.validation import faults_of

BODY_BYTES: Final = 1 << 16
MEDIA_TYPE: Final = "application/json"

M = TypeVar("M", bound=BaseModel)


async def posted(request: Request, model: type[M], *, deadline_s: float) -> M:
    """Return the body of a request as ``model``.

    Raises:
        UnsupportedMediaType: it is not plain JSON.
        TooLarge: it has more than :data:`BODY_BYTES`.
        BodyTimeout, ClientDisconnected: it did not come.
        Malformed: it is no JSON.
        InvalidDocument: naming every offending part.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if (
        media_type != MEDIA_TYPE
        or request.headers.get("content-encoding", "identity") != "identity"
    ):
        raise UnsupportedMediaType(f"send {MEDIA_TYPE}, not encoded")
    try:
        async with asyncio.timeout(deadline_s):
            body = await _body(request)
    except TimeoutError:
        raise BodyTimeout(f"the body was not complete after {deadline_s:g} s") from None
    except ClientDisconnect:
        raise ClientDisconnected("the client left before its body was complete") from None
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Malformed("the body is no JSON") from None
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidDocument(faults_of(error, document)) from None


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES:
            raise TooLarge(f"the document has more than {BODY_BYTES} bytes")
    return bytes(body)
