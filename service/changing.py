"""What people write into the history over HTTP: who may, what it is, and a thread to keep it in."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

import orjson
from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel

from service.keys import Keys
from service.lookup import JSON, Lookup
from service.posted import posted

M = TypeVar("M", bound=BaseModel)


class Changing:
    """Takes what is written: notes and rules.

    Args:
        lookup: whose threads do it.
        keys: who may.
        body_deadline_s: within which a document must have come.
    """

    def __init__(self, lookup: Lookup, keys: Keys, *, body_deadline_s: float) -> None:
        self._lookup = lookup
        self._keys = keys
        self._body_deadline_s = body_deadline_s

    async def create(
        self, request: Request, model: type[M], keep: Callable[[M], dict[str, Any]]
    ) -> Response:
        """Keep the document that is posted, and return what was made of it.

        Raises:
            Unauthenticated, Forbidden: the key does not open this.
            ServiceError: as :func:`posted` and ``keep`` do.
        """
        self._keys.require(request.headers, "manage")
        document = await posted(request, model, deadline_s=self._body_deadline_s)
        made = await self._lookup.run(lambda: keep(document))
        return Response(orjson.dumps(made), status_code=HTTPStatus.CREATED, media_type=JSON)

    async def remove(self, request: Request, forget: Callable[[], None]) -> Response:
        """Forget what was written.

        Raises:
            Unauthenticated, Forbidden: the key does not open this.
            ServiceError: as ``forget`` does.
        """
        self._keys.require(request.headers, "manage")
        await self._lookup.run(forget)
        return Response(status_code=HTTPStatus.NO_CONTENT)
