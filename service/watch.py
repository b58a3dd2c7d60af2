"""How alerts stand, asked over HTTP: looked at first, then told."""

from functools import partial

import orjson
from fastapi import Request
from fastapi.responses import Response

from service.history.alerts import Alerts
from service.history.listing import Nothing
from service.lookup import JSON, Lookup, caching, entity_tag


class Watch:
    """Answers questions about alerts.

    Args:
        alerts: what is watched.
        lookup: asks the history.
    """

    def __init__(self, alerts: Alerts, lookup: Lookup) -> None:
        self._alerts = alerts
        self._lookup = lookup

    async def listing(self, request: Request, project: str) -> Response:
        """Return how a project's alerts stand, or 304 where the caller knows.

        Raises:
            Unauthenticated, Forbidden: the key does not open this.
            UnknownProject: there is nothing to watch.
            Unavailable: the database does not answer.
        """
        self._lookup.question(request, Nothing)
        return await self._lookup.run(partial(self._listing, request, project))

    def _listing(self, request: Request, project: str) -> Response:
        # Looking first: what the caller has may be of before the last change was looked at.
        self._alerts.evaluate(project)
        unchanged = self._lookup.unchanged(request, project)
        if unchanged is not None:
            return unchanged
        answer = self._alerts.listing(project)
        headers = caching(entity_tag(request, answer["revision"]))
        return Response(orjson.dumps(answer), media_type=JSON, headers=headers)
