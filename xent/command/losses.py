"""``xent loss`` and ``xent compare``."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from rich.markup import escape

from xent.answers import Answer, Comparison
from xent.client import Client
from xent.command import exits, given, show
from xent.command.files import SUFFIXES, Source, open_batch, open_features
from xent.command.progress import following
from xent.errors import InvalidBatch
from xent.tracking import Track

FILES: Final = f"Files with the batch: {SUFFIXES}"
READING: Final = "Reading the batch"
SHOWING: Final = "Output"
TRACKING: Final = "Tracking"

Url = Annotated[str | None, typer.Option(help="Where the service is; else XENT_URL.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer document, for machines.")]
IsLocal = Annotated[
    bool,
    typer.Option(
        "--local", help=f"Evaluate here, without a service; needs {escape('xent[server]')}."
    ),
]
Device = Annotated[str, typer.Option(help="With --local: auto, cpu, cuda or cuda:N.")]
Label = Annotated[
    str | None, typer.Option(help="Column or array of the labels.", rich_help_panel=READING)
]
Reduction = Annotated[str | None, typer.Option(help="mean, sum or none.", rich_help_panel=READING)]
Normaliser = Annotated[
    str | None, typer.Option(help="weights, rows or elements.", rich_help_panel=READING)
]
LabelKind = Annotated[
    str | None,
    typer.Option(
        help="integer, one_hot, probabilities, multi_hot or binary; else decided by the labels.",
        rich_help_panel=READING,
    ),
]
ClassAxis = Annotated[
    int | None, typer.Option(help="The axis of the classes (1).", rich_help_panel=READING)
]
IgnoreIndex = Annotated[
    int | None, typer.Option(help="The label of rows to leave out.", rich_help_panel=READING)
]
Input = Annotated[
    str | None,
    typer.Option(
        "--input", help="logits, log_probabilities or probabilities.", rich_help_panel=READING
    ),
]
Nonfinite = Annotated[
    str | None, typer.Option(help="exclude, reject or propagate.", rich_help_panel=READING)
]
ClassNames = Annotated[
    str | None,
    typer.Option(help="Names with commas, or a file with one a line.", rich_help_panel=READING),
]
Through = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[/VERSION]",
        help="The files hold features: this model of the service makes the logits.",
        rich_help_panel=READING,
    ),
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", help="KEY=VALUE.", rich_help_panel=TRACKING)
]


def tracked(text: str) -> Any:  # noqa: ANN401  (Typer's)
    """Return an option of tracking."""
    return typer.Option(help=text, rich_help_panel=TRACKING)


def shown(text: str) -> Any:  # noqa: ANN401  (Typer's)
    """Return an option of the output."""
    return typer.Option(help=text, rich_help_panel=SHOWING)


def loss(  # noqa: PLR0913  (the options of the command)
    variant: Annotated[str, typer.Argument(help="focal, say; `xent variants` lists them.")],
    words: Annotated[list[str], typer.Argument(metavar="FILE...", help=FILES)],
    *,
    url: Url = None,
    local: IsLocal = False,
    device: Device = "auto",
    as_json: Json = False,
    label: Label = None,
    through: Through = None,
    reduction: Reduction = None,
    normaliser: Normaliser = None,
    label_kind: LabelKind = None,
    class_axis: ClassAxis = None,
    ignore_index: IgnoreIndex = None,
    input: Input = None,  # noqa: A002  (the option's name)
    nonfinite: Nonfinite = None,
    class_names: ClassNames = None,
    per_class: Annotated[bool, shown("What each class has to do with it.")] = False,
    calibration: Annotated[bool, shown("How far confidence is right.")] = False,
    distribution: Annotated[bool, shown("Quantiles of the losses per row.")] = False,
    hardest: Annotated[int, shown("List so many rows of largest loss.")] = 0,
    gradient: Annotated[Path | None, shown("Write the gradient to this .npy file.")] = None,
    per_sample: Annotated[Path | None, shown("Write the loss of each row to this .npy.")] = None,
    fail_above: Annotated[float | None, shown("Exit with 5 if the loss is above.")] = None,
    project: Annotated[str | None, tracked("Have the history remember the batch.")] = None,
    model: Annotated[str | None, tracked("The model's name.")] = None,
    model_version: Annotated[str | None, tracked("Its version.")] = None,
    label_schema: Annotated[str | None, tracked("The name of the set of classes.")] = None,
    batch_id: Annotated[str | None, tracked("Names the batch: sent again it counts once.")] = None,
    event_time: Annotated[str | None, tracked("When the rows happened; else now.")] = None,
    tag: Tags = None,
) -> None:
    """Evaluate a batch under one variant. Its settings are options: --gamma 2.

    A table without a column `logits` has one column of logits for each class.
    """
    files, settings = given.divide(words, variant)
    names = given.names(class_names)
    options = _said(
        reduction=reduction,
        normaliser=normaliser,
        label_kind=label_kind,
        class_axis=class_axis,
        ignore_index=ignore_index,
        input=input,
        nonfinite=nonfinite,
        class_names=names,
        k=hardest or None,
        track=_track(
            names,
            tag,
            known=through is not None,
            project=project,
            model=model,
            model_version=model_version,
            label_schema=label_schema,
            batch_id=batch_id,
            event_time=event_time,
        ),
    )
    outputs = {
        "per_class": per_class,
        "calibration": calibration,
        "distribution": distribution,
        "hardest": hardest,
        "gradient": gradient,
        "per_sample": per_sample,
    }
    options["outputs"] = [name for name, wanted in outputs.items() if wanted]
    source = _opened(files, label, through)
    with asked(url, device if local else None, through) as whom:
        answer: Answer = _sent(
            whom.evaluate, source, {"settings": settings, **options}, variant, quiet=as_json
        )
    _written(gradient, answer.gradient)
    _written(per_sample, answer.per_sample)
    _printed(answer, as_json=as_json, without={"gradient", "per_sample", "row_status"})
    if fail_above is not None and not float(answer) <= fail_above:
        raise typer.Exit(exits.ABOVE)


def compare(  # noqa: PLR0913  (the options of the command)
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help=FILES)],
    *,
    variant: Annotated[
        list[str],
        typer.Option("--variant", "-v", help="[NAME=]VARIANT[:SETTING=VALUE,...]; several."),
    ],
    url: Url = None,
    local: IsLocal = False,
    device: Device = "auto",
    as_json: Json = False,
    label: Label = None,
    through: Through = None,
    reduction: Reduction = None,
    normaliser: Normaliser = None,
    label_kind: LabelKind = None,
    class_axis: ClassAxis = None,
    ignore_index: IgnoreIndex = None,
    input: Input = None,  # noqa: A002  (the option's name)
    nonfinite: Nonfinite = None,
) -> None:
    """Evaluate a batch under several variants in one pass: -v sparse -v soft=focal:gamma=0.5."""
    specs = [given.spec(each) for each in variant]
    options = _said(
        reduction=reduction,
        normaliser=normaliser,
        label_kind=label_kind,
        class_axis=class_axis,
        ignore_index=ignore_index,
        input=input,
        nonfinite=nonfinite,
    )
    source = _opened(files, label, through)
    with asked(url, device if local else None, through) as whom:
        answer: Comparison = _sent(
            whom.compare, source, {"variants": specs, **options}, quiet=as_json
        )
    if as_json:
        show.as_json(answer.json())
    else:
        show.console().print(*show.comparison(answer), sep="\n")


@contextmanager
def asked(url: str | None, device: str | None, through: str | None = None) -> Iterator[Any]:
    """Yield whom to ask: a client, a model of its service, or with a device the core right here.

    Raises:
        InvalidBatch: a device and a model.
    """
    if device is None:
        with Client(url) as client:
            if through is None:
                yield client
            else:
                name, _, version = through.partition("/")
                yield client.model(name, version or None)
    elif through is not None:
        raise InvalidBatch("--through asks a model of the service, --local asks no service")
    else:
        from xent.local import Local  # noqa: PLC0415  (needs PyTorch)

        yield Local(device)


def _opened(files: list[Path], label: str | None, through: str | None) -> Source:
    return open_batch(files, label) if through is None else open_features(files, label)


def _said(**options: Any) -> dict[str, Any]:  # noqa: ANN401  (of options)
    return {name: value for name, value in options.items() if value is not None}


def _sent(
    ask: Any,  # noqa: ANN401  (a method of a client)
    source: Source,
    options: Mapping[str, Any],
    *variant: str,
    quiet: bool,
) -> Any:  # noqa: ANN401  (its answer)
    of_rows = _said(sample_weights=source.sample_weights, sample_ids=source.sample_ids)
    with following(source, quiet=quiet) as progress:
        return ask(*variant, source.logits, source.labels, **options, **of_rows, **progress)


def _track(
    names: list[str] | None, tags: list[str] | None, *, known: bool, **given: str | None
) -> Track | None:
    """Return what is tracked; ``known``: the service runs the model, and knows its name."""
    if given["project"] is None:
        extra = [name for name, value in given.items() if value is not None]
        if extra:
            raise InvalidBatch(f"--{extra[0].replace('_', '-')} is of no use without --project")
        return None
    needed = ("label_schema",) if known else ("model", "model_version", "label_schema")
    absent = [f"--{name.replace('_', '-')}" for name in needed if given[name] is None]
    if absent:
        raise InvalidBatch(f"tracking needs {', '.join(absent)}")
    pairs = dict(each.partition("=")[::2] for each in tags or ())
    said: dict[str, Any] = {"model": None, "model_version": None, **_said(**given)}
    return Track(**said, classes=names, tags=pairs)


def _written(path: Path | None, array: Any) -> None:  # noqa: ANN401  (of NumPy)
    if path is None:
        return
    try:
        with path.open("wb") as file:
            np.save(file, array)
    except OSError as error:
        raise InvalidBatch(f"{path}: {error.strerror or error}") from None


def _printed(answer: Answer, *, as_json: bool, without: set[str]) -> None:
    if as_json:
        kept = {name: each for name, each in answer.raw.items() if name not in without}
        show.as_json(replace(answer, raw=kept).json())
        return
    show.console().print(*show.answer(answer), sep="\n")
