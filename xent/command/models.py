"""``xent models``: what the service runs."""

from typing import Annotated

import typer

from xent.client import Client
from xent.command import show
from xent.command.losses import Json, Url
from xent.models import ModelVersion, Port


def models(
    name: Annotated[str | None, typer.Argument(help="This one only.")] = None,
    *,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List the models that the service runs on features, and what is wrong with them."""
    with Client(url) as client:
        found = client.models() if name is None else client.model(name).versions()
    if as_json:
        show.as_json([each.document() for each in found])
    elif found:
        rows = [_row(each) for each in found]
        show.console().print(show.table(rows, rows[0], words=6))
    else:
        show.console().print("no models: the service has them in the folder XENT_MODELS_DIR")


def _row(found: ModelVersion) -> dict[str, str]:
    return {
        "model": found.name,
        "version": found.version,
        "features": _said(found.input),
        "logits": _said(found.logits),
        "left out": found.recognised or "",
        "note": found.broken or found.note or "",
    }


def _said(port: Port | None) -> str:
    if port is None:
        return ""
    return f"{port.dtype}[{', '.join('any' if each is None else str(each) for each in port.shape)}]"
