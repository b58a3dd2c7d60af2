"""``xent labels``: labels that come after their logits."""

from pathlib import Path
from typing import Annotated

import typer

from xent.client import Client
from xent.command import show
from xent.command.files import LABEL_SUFFIXES, open_labels
from xent.command.losses import Json, Label, Url


def labels(  # noqa: PLR0913  (the options of the command)
    file: Annotated[Path, typer.Argument(help=f"A file with the labels: {LABEL_SUFFIXES}")],
    *,
    project: Annotated[str, typer.Option(help="What the batch belongs to.")],
    model: Annotated[str, typer.Option(help="The model's name.")],
    model_version: Annotated[str, typer.Option(help="Its version.")],
    batch_id: Annotated[str, typer.Option(help="The batch's name.")],
    variant: Annotated[
        str | None, typer.Option(help="Where it was evaluated under several: this one only.")
    ] = None,
    label: Label = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Hand in labels of a batch that was tracked without, or better ones.

    They are of all rows in their order, or of those that the column sample_id names.
    """
    found, ids = open_labels(file, label)
    with Client(url) as client:
        done = client.labels(
            project, model, model_version, batch_id, found, variant=variant, sample_ids=ids
        )
    if as_json:
        show.as_json(done.rows())
    else:
        show.console().print(show.table(done.rows(), done, words=2))
