"""Alerts of a project: rules that watch a mean, and how things stand with them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypedDict, Unpack
from urllib.parse import quote

from xent.bodies import Body
from xent.calls import JSON, Call
from xent.errors import Unreadable
from xent.operations import operation
from xent.tracking import Time, rfc3339

Names = str | Sequence[str]
State = Literal["ok", "firing", "no_data"]


class Watched(TypedDict, total=False):
    """Which rows a rule watches, together. Several values are alternatives."""

    model: Names
    model_version: Names
    variant: Names
    settings: Names
    """Hashes of settings, as ``series()`` lists them."""

    label_schema: Names
    """``name`` or ``name@version``."""

    tags: Mapping[str, Names]
    class_: str | int | None
    """One class only: its name or index."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Rows that say what is usual: those of [since, until).

    Attributes:
        since: ``None`` is the beginning.
        until: ``None`` is where the watched time begins.
        model_version: of these versions; none: those that are watched.
    """

    since: Time | None = None
    until: Time | None = None
    model_version: Names = ()

    def document(self) -> dict[str, object]:
        """Return the ``reference`` member of a rule."""
        found: dict[str, object] = {
            "from": _moment(self.since),
            "to": _moment(self.until),
            "model_version": _listed(self.model_version),
        }
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule, and how things stand with it.

    Attributes:
        name: of the rule, in its project.
        state: ``firing`` where the mean lies beyond its target, surely; ``no_data`` before there
            are enough rows.
        since: when it came into that state, by the time of the rows.
        created: when the rule was made.
        rule: as the service keeps it.
        detail: what it last saw: ``estimate``, ``bound``, ``target``, ``rows``, ``reason``, ...
    """

    name: str
    state: State
    since: str
    created: str
    rule: Mapping[str, Any] = field(repr=False)
    detail: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Alert":
        """Return one entry of ``GET /projects/{project}/alerts``.

        Raises:
            Unreadable: what every alert has is not there.
        """
        try:
            found = {name: document[name] for name in _MEMBERS}
            return cls(name=document["rule"]["name"], **found)
        except (KeyError, TypeError) as error:
            raise Unreadable(f"this is no alert of Xent: {error!r} is missing") from None

    def document(self) -> dict[str, Any]:
        """Return it as the service says it."""
        return {name: getattr(self, name) for name in _MEMBERS}


_MEMBERS: Final = ("rule", "created", "state", "since", "detail")


class Alerts:
    """The operations on the alerts of one project."""

    name: str

    @operation
    def alerts(self) -> Call[list[Alert]]:
        """Return the alerts and how things stand with them, which is looked at now."""
        return Call(
            "GET",
            project_path(self.name, "alerts"),
            lambda reply: [Alert.of(each) for each in reply.json()["alerts"]],
            remembered=True,
        )

    @operation
    def add_alert(  # noqa: PLR0913  (what a rule says)
        self,
        name: str,
        *,
        metric: str = "loss.mean",
        direction: Literal["above", "below"] = "above",
        threshold: float | None = None,
        reference: Reference | None = None,
        shift: float | None = None,
        alpha: float | None = None,
        min_rows: int | None = None,
        step: str | None = None,
        since: Time | None = None,
        webhook: str | None = None,
        **selection: Unpack[Watched],
    ) -> Call[Alert]:
        """Watch a mean, and return how things stand with it.

        Args:
            name: of the rule, in its project.
            metric: a mean: ``loss.mean``, ``recall``, ``brier``, ...
            direction: which side of the target is wrong.
            threshold: the target, in the metric's unit; else ``reference``.
            reference: the mean of these rows is the target, as surely as they tell it.
            shift: look for a change of this size, in the metric's unit, as soon as it shows.
            alpha: probability of ever firing falsely; the service's is 0.05.
            min_rows: fewer rows raise no alarm; the service's are 500.
            step: width of the buckets: ``15m``, ``6h``, ``1d``; the service's is an hour.
            since: watch rows from here on; ``None``: from now on.
            webhook: where changes are posted to; a host that the service allows.
            selection: which rows are watched.

        Raises:
            Conflict: the project has an alert of that name.
        """
        kind = "threshold" if reference is None else "reference"
        given: dict[str, object] = {
            "kind": kind if shift is None else "cusum",
            "threshold": threshold,
            "reference": None if reference is None else reference.document(),
            "shift": shift,
            "alpha": alpha,
            "min_rows": min_rows,
            "step": step,
            "from": _moment(since),
            "webhook": webhook,
        }
        rule = {
            "name": name,
            "metric": metric,
            "selection": _selected(selection),
            "direction": direction,
            **{member: value for member, value in given.items() if value is not None},
        }
        return Call(
            "POST",
            project_path(self.name, "alerts"),
            lambda reply: Alert.of(reply.json()),
            body=Body.of(JSON, [json.dumps(rule).encode()]),
            idempotent=False,
        )

    @operation
    def remove_alert(self, name: str) -> Call[None]:
        """Forget an alert. Raises ``NotFound`` where there is none of that name."""
        path = project_path(self.name, f"alerts/{quote(name, safe='')}")
        return Call("DELETE", path, lambda _: None, idempotent=False)


def project_path(project: str, route: str) -> str:
    """Return where something of a project is."""
    return f"/projects/{quote(project, safe='')}/{route}"


def _selected(selection: Watched) -> dict[str, object]:
    given = {name.rstrip("_"): value for name, value in selection.items()}
    tags = selection.get("tags")
    if tags is not None:
        given["tags"] = {key: _listed(value) for key, value in tags.items()}
    return {
        name: _listed(value) if isinstance(value, tuple) else value
        for name, value in given.items()
        if value is not None
    }


def _listed(names: Names) -> Names:
    return names if isinstance(names, str) else list(names)


def _moment(time: Time | None) -> str | None:
    return None if time is None else rfc3339(time, "a time")
