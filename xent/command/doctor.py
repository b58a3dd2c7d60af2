"""``xent doctor``: what is installed, what serves, and what is wrong."""

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Final, Literal

import typer
from rich.text import Text

from xent.client import Client
from xent.command import exits, show
from xent.command.losses import Json, Url
from xent.configuration import KEY, URL, Retries
from xent.errors import Forbidden, Problem, Unauthenticated, XentError

OPTIONAL: Final = {
    "pyarrow": "chunks are streamed, Parquet and Arrow are read",
    "pandas": "to_pandas()",
    "polars": "to_polars()",
    "torch": "xent.torch, --local",
    "jax": "arrays of JAX",
    "lightning": "xent.lightning",
}
SERVER: Final = (
    *("fastapi", "uvicorn", "pydantic", "pydantic_settings", "sqlalchemy", "simdjson", "orjson"),
    *("onnx", "onnxruntime"),
)
UNINSTALLED: Final = "not installed, run from its source"
MARKS: Final = {"fine": ("ok", "green"), "absent": ("--", "dim"), "wrong": ("!!", "red")}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: Literal["fine", "absent", "wrong"]
    said: str


def doctor(
    *,
    url: Url = None,
    as_json: Json = False,
    local: Annotated[bool, typer.Option("--local", help="Do not ask a service.")] = False,
) -> None:
    """Say what is installed, what serves, and what is wrong. Exits with 1 if anything is."""
    found = [*_here(), *_core(), *([] if local else _service(url))]
    if as_json:
        show.as_json([asdict(each) for each in found])
    else:
        terminal = show.console()
        for each in found:
            mark, style = MARKS[each.state]
            terminal.print(Text(mark, style=style), Text(f"{each.what}: {each.said}"))
    if any(each.state == "wrong" for each in found):
        raise typer.Exit(exits.FAILED)


def _here() -> Iterator[Finding]:
    yield Finding("xent", "fine", f"{version_of('xent')}, Python {platform.python_version()}")
    for package in ("numpy", "httpx2"):
        yield Finding(package, "fine", version_of(package))
    for package, purpose in OPTIONAL.items():
        there = importlib.util.find_spec(package) is not None
        said = version_of(package) if there else f"not installed; it is for: {purpose}"
        yield Finding(package, "fine" if there else "absent", said)


def _core() -> Iterator[Finding]:
    """Look at what evaluates here: PyTorch, devices, compiled passes."""
    absent = [name for name in ("torch", *SERVER) if importlib.util.find_spec(name) is None]
    if absent:
        said = f"no --local, no xent serve: {', '.join(absent)} missing; pip install 'xent[server]'"
        yield Finding("server", "absent", said)
        return
    yield Finding("server", "fine", "xent serve can run here")
    from xent.local import Local, core  # noqa: PLC0415  (needs PyTorch)

    try:
        yield Finding("device", "fine", Local().description)
    except (XentError, OSError, core().XentError) as error:
        yield Finding("device", "wrong", exits.line_of(error))
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    said = compiler or "none: the eager passes serve, or those that are built already"
    yield Finding("compiler", "fine" if compiler else "absent", said)


def _service(url: str | None) -> Iterator[Finding]:
    where = URL if url is None and os.environ.get(URL) else "--url" if url else "the usual place"
    try:
        with Client(url, timeout_s=10, retries=Retries(attempts=1)) as client:
            yield Finding("url", "fine", f"{client.configuration.url} ({where})")
            yield from _answering(client)
    except XentError as error:
        yield Finding("service", "wrong", exits.line_of(error))


def _answering(client: Client) -> Iterator[Finding]:
    ready = client.ready()
    more = ", ".join(f"{name} {value}" for name, value in ready.items() if name != "ready")
    yield Finding("service", "fine", f"takes work: {more}")
    theirs, ours = client.openapi()["info"]["version"], version_of("xent")
    said = f"{theirs} there, {ours} here"
    yield Finding("versions", "fine" if ours in (theirs, UNINSTALLED) else "wrong", said)
    key = f"a key from {KEY}" if client.configuration.key else "no key"
    try:
        loss = client.evaluate("sparse", [[0.0, 0.0]], [0]).loss
    except (Unauthenticated, Forbidden) as error:
        yield Finding("key", "wrong", f"{key}: {exits.line_of(error)}")
    except Problem as error:
        yield Finding("evaluation", "wrong", exits.line_of(error))
    else:
        yield Finding("key", "fine", f"{key}; it evaluates")
        right = loss is not None and abs(loss - 0.6931471805599453) < 1e-12  # noqa: PLR2004
        yield Finding("evaluation", "fine" if right else "wrong", f"log 2 is {loss}")


def version_of(package: str) -> str:
    """Return the version of a package, or that it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return UNINSTALLED
