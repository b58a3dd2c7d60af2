"""Alerts over HTTP: who may ask, what was asked, and a thread to answer in."""

from functools import partial
from http import HTTPStatus

import orjson
from fastapi import Request
from fastapi.responses import Response

from service.history.alerts import Alerts
from service.history.listing import Nothing
from service.history.rules import Rule
from service.keys import Keys
from service.lookup import JSON, Lookup, caching, entity_tag
from service.posted import posted


class Watch:
    """Answers questions about alerts, and takes rules.

    Args:
        alerts: what is watched.
        lookup: asks the history.
        keys: who may.
        body_deadline_s: within which a rule must have come.
    """

    def __init__(
        self, alerts: Alerts, lookup: Lookup, keys: Keys, *, body_deadline_s: float
    ) -> None:
        self._alerts = alerts
        self._lookup = lookup
        self._keys = keys
        self._body_deadline_s = body_deadline_s

    async def listing(self, request: Request, project: str) -> Response:
        """Return how a project's alerts stand, or 304 where the caller knows.

        Raises:
            Unauthenticated, Forbidden: the key does not open this.
            UnknownProject: there is nothing to watch.
            Unavailable: the database does not answer.
        """
        self._lookup.question(request, Nothing)
        return await self._lookup.run(partial(self._listing, request, project))

    async def create(self, request: Request, project: str) -> Response:
        """Keep a rule and return how it stands.

        Raises:
            ServiceError: as :meth:`Alerts.create` and :func:`posted` do.
        """
        self._keys.require(request.headers, "manage")
        rule = await posted(request, Rule, deadline_s=self._body_deadline_s)
        made = await self._lookup.run(partial(self._alerts.create, project, rule))
        return Response(orjson.dumps(made), status_code=HTTPStatus.CREATED, media_type=JSON)

    async def remove(self, request: Request, project: str, name: str) -> Response:
        """Forget an alert; raises as :meth:`Alerts.remove`."""
        self._keys.require(request.headers, "manage")
        await self._lookup.run(partial(self._alerts.remove, project, name))
        return Response(status_code=HTTPStatus.NO_CONTENT)

    def _listing(self, request: Request, project: str) -> Response:
        # Looking first: what the caller has may be of before the last change was looked at.
        self._alerts.evaluate(project)
        unchanged = self._lookup.unchanged(request, project)
        if unchanged is not None:
            return unchanged
        answer = self._alerts.listing(project)
        headers = caching(entity_tag(request, answer["revision"]))
        return Response(orjson.dumps(answer), media_type=JSON, headers=headers)
