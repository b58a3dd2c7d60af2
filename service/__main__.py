"""``python -m service``: serve, or print the OpenAPI document."""

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError

import service.environment  # noqa: F401  (first: it must precede PyTorch)  # isort: split
from service import openapi
from service.app import create_app
from service.server import serve
from service.settings import Settings
from xentcore import DeviceUnavailable

EXIT_USAGE: Final = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the process's exit code."""
    given = vars(_parser().parse_args(arguments))
    command = given.pop("command")
    try:
        settings = Settings(**given)
    except ValidationError as error:
        return _fail("\n".join(map(_line, error.errors(include_input=False))))
    try:
        if command == "openapi":
            sys.stdout.write(openapi.text(create_app(settings)))
            return 0
        return serve(settings)
    except OSError as error:
        return _fail(f"XENT_DATA_DIR, --data-dir: {settings.data_dir} cannot be used: {error}")
    except DeviceUnavailable as error:
        return _fail(f"XENT_DEVICE, --device: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Xent, a loss-evaluation service. Flags win over environment variables.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=["serve", "openapi"],
        default="serve",
        help="serve (default), or print the OpenAPI document",
    )
    settings = parser.add_argument_group("settings")
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "none" if default in (None, ()) else default
        settings.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            metavar=name.upper(),
            default=argparse.SUPPRESS,
            help=f"{field.description} [XENT_{name.upper()}, default: {shown}]".replace("%", "%%"),
        )
    return parser


def _line(error: object) -> str:
    """Return one validation error as a line that names the setting both ways."""
    location, message = error["loc"], error["msg"]  # type: ignore[index]
    if not location:
        return str(message)
    name = str(location[0])
    return f"XENT_{name.upper()}, --{name.replace('_', '-')}: {message}"


def _fail(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
