"""``xent export-onnx``: a variant as an ONNX model."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from xent.command import given, show
from xent.command.losses import IsLocal, Url, asked
from xent.errors import InvalidBatch
from xent.graphs import NONE


def export_onnx(  # noqa: PLR0913  (the options of the command)
    variant: Annotated[str, typer.Argument(help="focal, say; `xent variants` lists them.")],
    words: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    *,
    classes: Annotated[int, typer.Option(help="Columns of the logits.")],
    label_kind: Annotated[
        str | None,
        typer.Option(help="integer, one_hot, probabilities, multi_hot or binary; else the usual."),
    ] = None,
    ignore_index: Annotated[
        str, typer.Option(help="The label of rows to leave out; none leaves none out.")
    ] = "-100",
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="A file, - for the standard output; else VARIANT.onnx"),
    ] = None,
    url: Url = None,
    local: IsLocal = False,
) -> None:
    """Write a variant as an ONNX model. Its settings are options: --gamma 2.

    It computes losses, their mean and its gradient where no service is.
    """
    files, settings = given.divide(words or (), variant)
    if files:
        raise InvalidBatch(f"{files[0]}: a graph is of a variant, and reads no file")
    with asked(url, "cpu" if local else None) as client:
        content: bytes = client.onnx(
            variant,
            classes=classes,
            label_kind=label_kind,
            ignore_index=_index(ignore_index),
            settings=settings,
        )
    path = output or f"{variant}.onnx"
    if path == "-":
        sys.stdout.buffer.write(content)
        return
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        raise InvalidBatch(f"{path}: {error.strerror or error}") from None
    show.console(stderr=True).print(Text(f"{path}: {len(content):,} bytes"))


def _index(text: str) -> Any:  # noqa: ANN401  (an integer, or none)
    if text == NONE:
        return None
    try:
        return int(text)
    except ValueError:
        raise InvalidBatch(f"--ignore-index {text}: a whole number, or {NONE}") from None
