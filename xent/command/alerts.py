"""``xent alerts``: what is watched of a project, and how things stand."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from xent.alerts import Alert, Reference
from xent.client import Client
from xent.command import exits, show
from xent.command.history import Models, Project, Variants
from xent.command.losses import Json, Tags, Url
from xent.errors import InvalidBatch

RULE: Final = "With --add"


def said(text: str, *names: str) -> Any:  # noqa: ANN401  (Typer's)
    """Return an option of a rule."""
    return typer.Option(*names, help=text, rich_help_panel=RULE)


def alerts(  # noqa: PLR0913  (the options of the command)
    project: Project,
    *,
    add: Annotated[str | None, typer.Option(help="Watch a mean, under this name.")] = None,
    remove: Annotated[str | None, typer.Option(help="Forget the alert of this name.")] = None,
    fail_firing: Annotated[bool, typer.Option(help="Exit with 5 if one fires.")] = False,
    metric: Annotated[str, said("loss.mean, recall, brier, ...")] = "loss.mean",
    above: Annotated[float | None, said("Fire above this.")] = None,
    below: Annotated[float | None, said("Fire below this.")] = None,
    reference_since: Annotated[str | None, said("Hold against rows not before this.")] = None,
    reference_until: Annotated[str | None, said("Hold against rows before this.")] = None,
    reference_version: Annotated[
        list[str] | None, said("Hold against rows of this version; several.")
    ] = None,
    falls: Annotated[
        bool, said("Of what is held against others: fire where it is below.", "--falls")
    ] = False,
    shift: Annotated[float | None, said("Look for a change of this size.")] = None,
    alpha: Annotated[float | None, said("Probability of ever firing falsely.")] = None,
    min_rows: Annotated[int | None, said("Fewer rows raise no alarm.")] = None,
    step: Annotated[str | None, said("Width of the buckets: 15m, 6h, 1d.")] = None,
    since: Annotated[str | None, said("Watch rows from here on; else from now on.")] = None,
    webhook: Annotated[str | None, said("Where changes are posted to.")] = None,
    model: Models = None,
    model_version: Annotated[list[str] | None, said("Of this version; several.")] = None,
    variant: Variants = None,
    label: Annotated[str | None, said("Of one class: its name or index.", "--class")] = None,
    tag: Tags = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Tell how alerts stand; --add and --remove change what is watched."""
    given = (reference_since, reference_until, reference_version)
    reference = None
    if any(given):
        reference = Reference(reference_since, reference_until, reference_version or ())
    with Client(url) as client:
        history = client.project(project)
        if remove is not None:
            history.remove_alert(remove)
        if add is not None:
            history.add_alert(
                add,
                metric=metric,
                direction="below" if falls or below is not None else "above",
                threshold=_threshold(above, below),
                reference=reference,
                shift=shift,
                alpha=alpha,
                min_rows=min_rows,
                step=step,
                since=since,
                webhook=webhook,
                model=model or (),
                model_version=model_version or (),
                variant=variant or (),
                tags=dict(each.partition("=")[::2] for each in tag or ()),
                class_=label,
            )
        found = history.alerts()
    if as_json:
        show.as_json([each.document() for each in found])
    else:
        _show(found)
    if fail_firing and any(each.state == "firing" for each in found):
        raise typer.Exit(exits.ABOVE)


def _threshold(above: float | None, below: float | None) -> float | None:
    if above is not None and below is not None:
        raise InvalidBatch("--above and --below are two alerts")
    return below if above is None else above


def _show(found: Sequence[Alert]) -> None:
    rows = [
        {
            "alert": each.name,
            "state": each.state,
            "metric": each.rule["metric"],
            "since": each.since,
            "mean": each.detail.get("estimate"),
            "bound": each.detail.get("bound"),
            "target": each.detail.get("target"),
            "rows": each.detail.get("rows"),
        }
        for each in found
    ]
    if rows:
        show.console().print(show.table(rows, rows[0], words=4))
    else:
        show.console().print("nothing is watched: --add NAME --above 0.5, say")
