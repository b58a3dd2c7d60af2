"""Templates to pages. Everything that is written into them is escaped."""

from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from service.dashboard import wording
from service.history import times

FOLDER: Final = Path(__file__).parent


class Templates:
    """The templates beside this file."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        for name in ("number", "signed", "count", "percent", "change", "moment"):
            self._environment.filters[name] = getattr(wording, name)
        self._environment.filters["parsed"] = times.parse

    def page(self, template: str, **context: object) -> str:
        """Return a template filled with the context."""
        return self._environment.get_template(template).render(context)
