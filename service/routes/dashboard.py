"""``/``: the dashboard. Pages are shells without data; their parts need the scope ``read``."""

from functools import partial
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

from service.dashboard.pages import Shells
from service.dashboard.parts import Parts
from service.dashboard.render import FOLDER
from service.keys import Keys
from service.lookup import Lookup

HEADERS: Final = {
    "content-security-policy": "default-src 'self'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cache-control": "no-cache",
}
STATIC: Final = FOLDER / "static"


class Files(StaticFiles):
    """Files that a browser keeps but asks about each time: a new version shows at once."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        """Return a file."""
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers.update(HEADERS)
        return response


def router(parts: Parts, lookup: Lookup, keys: Keys) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(include_in_schema=False)
    shells = Shells()

    @routes.get("/")
    async def home() -> Response:
        return _page(shells.home())

    @routes.get("/try")
    async def trial() -> Response:
        return _page(shells.trial())

    @routes.get("/dashboard/{project}")
    @routes.get("/dashboard/{project}/{page}")
    async def project(request: Request, project: str, page: str = "") -> Response:
        return _page(shells.project(project, page, request.url.query))

    @routes.get("/parts")
    async def projects(request: Request) -> Response:
        keys.require(request.headers, "read")
        return _page(await lookup.run(parts.projects), cache="no-store")

    @routes.get("/parts/{project}/{part}")
    async def part(request: Request, project: str, part: str) -> Response:
        keys.require(request.headers, "read")
        query = request.query_params.multi_items()
        html = await lookup.run(partial(parts.part, project, part, query))
        return _page(html, cache="no-store")

    @routes.get("/favicon.ico")
    async def icon() -> Response:
        return FileResponse(STATIC / "favicon.svg", headers=HEADERS)

    routes.mount("/static", Files(directory=STATIC), name="dashboard")
    return routes


def _page(html: str | None, *, cache: str = "no-cache") -> Response:
    if html is None:
        raise HTTPException(404)
    return HTMLResponse(html, headers={**HEADERS, "cache-control": cache})
