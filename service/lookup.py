"""Asking the history: the key, the question, what did not change since, a thread to read in."""

from collections.abc import AsyncIterator, Callable, Generator
from functools import partial
from hashlib import blake2b
from typing import Any, Final, TypeVar

import orjson
from anyio import CapacityLimiter, to_thread
from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from service.errors import QueueFull
from service.history import export, listing, rollups
from service.history.database import Database
from service.history.questions import Question, read
from service.history.rollups import View
from service.keys import Keys
from service.version import VERSION

READERS: Final = 4  # questions that are answered at the same time
EXPORTS: Final = 4  # that are sent at the same time
JSON: Final = "application/json"

Q = TypeVar("Q", bound=Question)
T = TypeVar("T")


class Lookup:
    """Answers questions about what was evaluated.

    Args:
        database: where it is kept.
        keys: who may ask.
    """

    def __init__(self, database: Database, keys: Keys) -> None:
        self._database = database
        self._keys = keys
        self._limiter = CapacityLimiter(READERS)
        self._exports = 0

    async def answer(
        self,
        request: Request,
        project: str,
        model: type[Q],
        ask: Callable[[View, Q], dict[str, Any]],
    ) -> Response:
        """Return the answer as JSON, or 304 where the caller has it.

        Raises:
            Unauthenticated, Forbidden: the key does not open this.
            InvalidDocument: the question is not meaningful.
            UnknownProject: there is nothing to ask.
            HistoryUnavailable: the database does not answer.
        """
        question = self.question(request, model)
        return await self.run(partial(self._answer, request, project, lambda v: ask(v, question)))

    async def projects(self, request: Request) -> Response:
        """Return all projects; raises as :meth:`answer`."""
        self.question(request, listing.Nothing)
        return await self.run(self._projects)

    async def exported(self, request: Request, project: str) -> Response:
        """Return a file of everything, sent as it is read; raises as :meth:`answer`.

        Raises:
            QueueFull: others are being sent; each holds a connection to the database.
        """
        question = self.question(request, export.Question)
        await self.run(partial(self._exists, project))
        if self._exports >= EXPORTS:
            raise QueueFull("as many exports as may be are being sent", retry_after_s=10)
        name = f'attachment; filename="{project}.{question.format}"'
        return StreamingResponse(
            self._parts(project, question),
            media_type=export.MEDIA_TYPES[question.format],
            headers={"content-disposition": name, "cache-control": "no-store"},
        )

    def question(self, request: Request, model: type[Q]) -> Q:
        """Return what is asked, of who may; raises as :meth:`answer`."""
        self._keys.require(request.headers, "read")
        return read(model, request.query_params.multi_items())

    async def run(self, work: Callable[[], T]) -> T:
        """Do work that reads the database in a thread, and return what it returns."""
        return await to_thread.run_sync(work, limiter=self._limiter)

    def unchanged(self, request: Request, project: str) -> Response | None:
        """Return 304 where the caller's copy is of the project as it is."""
        with self._database.reading() as connection:
            tag = entity_tag(request, rollups.project_of(connection, project).revision)
        given = request.headers.get("if-none-match", "")
        known = {each.strip() for each in given.split(",")}
        return Response(status_code=304, headers=caching(tag)) if known & {tag, "*"} else None

    async def _parts(self, project: str, question: export.Question) -> AsyncIterator[bytes]:
        parts = self._read(project, question)
        self._exports += 1
        try:
            while (part := await self.run(lambda: next(parts, None))) is not None:
                yield part
        finally:
            self._exports -= 1
            parts.close()

    def _read(self, project: str, question: export.Question) -> Generator[bytes, None, None]:
        with rollups.bare(self._database, project) as view:
            yield from export.export(view, question)

    def _exists(self, project: str) -> None:
        with rollups.bare(self._database, project):
            pass

    def _answer(
        self, request: Request, project: str, ask: Callable[[View], dict[str, Any]]
    ) -> Response:
        unchanged = self.unchanged(request, project)
        if unchanged is not None:
            return unchanged
        with rollups.view(self._database, project) as view:
            body = orjson.dumps(ask(view))
            headers = caching(entity_tag(request, view.revision))
        return Response(body, media_type=JSON, headers=headers)

    def _projects(self) -> Response:
        rollups.refresh_all(self._database)
        with self._database.reading() as connection:
            return Response(orjson.dumps(listing.projects(connection)), media_type=JSON)


def entity_tag(request: Request, revision: int) -> str:
    """Return what tells answers to one question apart: how much had been recorded."""
    asked = "\n".join((VERSION, request.url.path, request.url.query))
    return f'W/"{revision}-{blake2b(asked.encode(), digest_size=8).hexdigest()}"'


def caching(tag: str) -> dict[str, str]:
    """Return headers that have a cache ask every time."""
    return {"etag": tag, "cache-control": "no-cache"}
