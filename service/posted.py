"""What is posted as a whole: a body read within limits, a small JSON document checked."""

from typing import Final, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel

from service.errors import Malformed, UnsupportedMediaType
from service.schema.validation import validate
from service.telemetry import notes_of
from service.wire.body import Incoming
from service.wire.buffer import Buffer

DOCUMENT_BYTES: Final = 1 << 16
MEDIA_TYPE: Final = "application/json"

M = TypeVar("M", bound=BaseModel)


async def posted(request: Request, model: type[M], *, deadline_s: float) -> M:
    """Return the body of a request, which says that it is JSON, as ``model``.

    Raises:
        UnsupportedMediaType: it is not plain JSON.
        ServiceError: as :func:`document` does.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if (
        media_type != MEDIA_TYPE
        or request.headers.get("content-encoding", "identity") != "identity"
    ):
        raise UnsupportedMediaType(f"send {MEDIA_TYPE}, not encoded")
    return await document(request, model, deadline_s=deadline_s)


async def document(request: Request, model: type[M], *, deadline_s: float) -> M:
    """Return the body of a request as ``model``, whatever its media type.

    Raises:
        TooLarge: it has more than :data:`DOCUMENT_BYTES`.
        Malformed: it is no JSON.
        InvalidDocument: naming every offending part.
        ServiceError: as :func:`received` does.
    """
    body = await received(request, limit=DOCUMENT_BYTES, deadline_s=deadline_s)
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Malformed("the body is not JSON") from None
    return validate(model, found)


async def received(request: Request, *, limit: int, deadline_s: float) -> bytes:
    """Return a body.

    Raises:
        TooLarge: it has more than ``limit`` bytes.
        BodyTimeout, ClientDisconnected: it did not come.
        Malformed: it is not as long as its headers say.
    """
    incoming = Incoming(request.receive, request.headers, limit=limit, deadline_s=deadline_s)
    buffer = Buffer(limit=limit, expected=incoming.expected)
    while not incoming.complete:
        buffer.append((await incoming.receive()).get("body", b""))
    notes_of(request.scope).request_bytes = incoming.size
    return buffer.body().tobytes()
