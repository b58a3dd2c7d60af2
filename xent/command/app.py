"""``xent``: the command, its help, its errors and its exit codes."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from xent.client import Client
from xent.command import alerts, doctor, exits, graphs, history, labels, losses, models, show
from xent.command.losses import Json, Url
from xent.errors import XentError, missing

SETTINGS_PASS = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    name="xent",
    epilog=exits.EPILOG,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
app.command(context_settings=SETTINGS_PASS, epilog=exits.EPILOG)(losses.loss)
app.command(epilog=exits.EPILOG)(losses.compare)
app.command()(history.watch)
app.command()(history.export)
app.command()(labels.labels)
app.command(epilog=exits.EPILOG)(alerts.alerts)
app.command()(models.models)
app.command(context_settings=SETTINGS_PASS)(graphs.export_onnx)
app.command()(doctor.doctor)


def _versions(wanted: bool) -> None:
    if wanted:
        show.console().print(f"xent {doctor.version_of('xent')}")
        raise typer.Exit


@app.callback()
def common(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_versions, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Cross-entropy losses over HTTP. XENT_URL names the service, XENT_API_KEY opens it."""


@app.command()
def variants(
    name: Annotated[str | None, typer.Argument(help="All about this one.")] = None,
    *,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List the variants that the service knows, or tell all about one."""
    with Client(url) as client:
        found = client.variants() if name is None else [client.variant(name)]
    if as_json:
        documents = [dict(each.document()) for each in found]
        show.as_json(documents if name is None else documents[0])
    elif name is None:
        show.console().print(show.variants(found))
    else:
        show.console().print(*show.variant(found[0]), sep="\n")


@app.command(context_settings={**SETTINGS_PASS, "help_option_names": []}, add_help_option=False)
def serve(context: typer.Context) -> None:
    """Run the service; its flags are those of `python -m service`: --port 8001."""
    try:
        from service.__main__ import main as run  # noqa: PLC0415  (optional)
    except ImportError as error:
        reason = missing("xent[server]", f"xent serve ({error})")
        raise reason from None
    raise typer.Exit(run(context.args))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and end the process."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code. Errors are one line on the standard error."""
    try:
        given = None if arguments is None else list(arguments)
        code: Any = app(given, prog_name="xent", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        return _fail(error.format_message() or "", exits.USAGE)
    except XentError as error:
        return _fail(exits.line_of(error), exits.code_of(error))
    except (KeyboardInterrupt, typer.Abort):
        return exits.INTERRUPTED
    except BrokenPipeError:  # `xent ... | head`: nobody reads on, and that is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    return code if isinstance(code, int) else exits.OK


def _fail(message: str, code: int) -> int:
    if message:
        sys.stderr.write(f"xent: {message}\n")
    return code
