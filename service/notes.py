"""Notes over HTTP: who may write, what was written, and a thread to keep it in."""

from functools import partial
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import Request
from fastapi.responses import Response

from service.history import annotations
from service.history.annotations import Note
from service.history.database import Database
from service.keys import Keys
from service.lookup import JSON, Lookup
from service.posted import posted


class Notes:
    """Takes what people say of moments.

    Args:
        database: where it is kept.
        lookup: asks the history.
        keys: who may.
        body_deadline_s: within which a note must have come.
    """

    def __init__(
        self, database: Database, lookup: Lookup, keys: Keys, *, body_deadline_s: float
    ) -> None:
        self._database = database
        self._lookup = lookup
        self._keys = keys
        self._body_deadline_s = body_deadline_s

    async def write(self, request: Request, project: str) -> Response:
        """Keep a note and return it.

        Raises:
            ServiceError: as :func:`annotations.write` and :func:`posted` do.
        """
        self._keys.require(request.headers, "manage")
        note = await posted(request, Note, deadline_s=self._body_deadline_s)
        made = await self._lookup.run(partial(self._write, project, note))
        return Response(orjson.dumps(made), status_code=HTTPStatus.CREATED, media_type=JSON)

    async def remove(self, request: Request, project: str, annotation: str) -> Response:
        """Forget a note; raises as :func:`annotations.remove`."""
        self._keys.require(request.headers, "manage")
        await self._lookup.run(partial(self._remove, project, annotation))
        return Response(status_code=HTTPStatus.NO_CONTENT)

    def _write(self, project: str, note: Note) -> dict[str, Any]:
        with self._database.writing() as connection:
            return annotations.write(connection, project, note)

    def _remove(self, project: str, annotation: str) -> None:
        with self._database.writing() as connection:
            annotations.remove(connection, project, annotation)
