"""``/docs``: the documentation, from files beside the code; no request leaves the machine."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

import service

DOCS: Final = Path(service.__path__[0]) / "docs"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; "
    # Swagger UI sets inline styles and draws its icons from data: URLs.
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def router() -> APIRouter:
    """Return the routes."""
    routes = APIRouter(include_in_schema=False)
    page = (DOCS / "index.html").read_text()

    @routes.get("/docs")
    async def docs() -> Response:
        return HTMLResponse(page, headers={"content-security-policy": POLICY})

    @routes.get("/docs/init.js")
    async def init() -> Response:
        return FileResponse(DOCS / "init.js")

    routes.mount("/docs/static", StaticFiles(directory=DOCS / "static"), name="static")
    return routes
