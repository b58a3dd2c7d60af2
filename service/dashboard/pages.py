"""The shells of the pages: open to everybody, for they hold no data.

A page names the parts that it consists of. The browser fetches them, with the key of its tab where
the service has keys, and the same selection that stands in the page's own address.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from service.dashboard.render import Templates
from service.version import VERSION

# Path below a project -> title. The first is the project's own.
PAGES: Final = {
    "": "Overview",
    "classes": "Classes",
    "calibration": "Calibration",
    "hardest": "Hardest rows",
    "compare": "Compare",
}


@dataclass(frozen=True, slots=True)
class Link:
    """An entry of the navigation."""

    name: str
    href: str
    current: bool


class Shells:
    """Pages without data."""

    def __init__(self) -> None:
        self._templates = Templates()

    def home(self) -> str:
        """Return the list of projects."""
        return self._shell("home", title="Xent", script="parts.js")

    def trial(self) -> str:
        """Return the page that evaluates what a person pastes."""
        return self._shell("try", title="Try it · Xent", script="try.js")

    def project(self, project: str, page: str, query: str) -> str | None:
        """Return a page of a project, its links keeping the query; ``None`` if there is none."""
        if page not in PAGES:
            return None
        root = "../../" if page else "../"
        links = [
            Link(title, _href(root, project, path, query), path == page)
            for path, title in PAGES.items()
        ]
        return self._shell(
            page or "overview",
            title=f"{PAGES[page]} · {project} · Xent",
            script="parts.js",
            root=root,
            project=project,
            pages=links,
        )

    def _shell(self, name: str, **context: object) -> str:
        defaults = {"root": "", "project": None, "pages": (), "version": VERSION}
        return self._templates.page(f"{name}.html", **{**defaults, "page_name": name, **context})


def _href(root: str, project: str, path: str, query: str) -> str:
    below = f"/{path}" if path else ""
    return f"{root}dashboard/{quote(project, safe='')}{below}" + (f"?{query}" if query else "")
