"""Alerts: rules that are kept, how things stand with them, and who is told of a change."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from service.errors import AlertExists, Fault, InvalidDocument, UnknownAlert
from service.history import tables, times, webhooks
from service.history.changes import revise
from service.history.database import Database
from service.history.rollups import project_of, view
from service.history.rules import Rule
from service.history.standing import Standing, State, standing
from service.history.watchable import QUANTILES, WATCHABLE, refusal

KIND: Final = "alert"  # of annotations
MOST_ALERTS: Final = 200  # of a project


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule as it is kept, and how it last stood."""

    key: int
    rule: Rule
    created: int
    state: State
    since: int
    detail: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """Return it as it is answered."""
        return {
            "rule": self.rule.stored(),
            "created": times.text(self.created),
            "state": self.state,
            "since": times.text(self.since),
            "detail": self.detail,
        }


def check(rule: Rule, hosts: Collection[str], *, now_us: int) -> None:
    """Check what a rule says against what there is.

    Args:
        rule: as it was asked for.
        hosts: that webhooks may be sent to.
        now_us: the time at which it is made.

    Raises:
        InvalidDocument: naming every offending part.
    """
    faults = []
    unwatchable = refusal(rule.metric)
    of_classes = [name for name, each in WATCHABLE.items() if each.of_classes is not None]
    if unwatchable is not None:
        faults.append(Fault("/metric", unwatchable))
    elif rule.selection.class_ is not None and rule.metric not in of_classes:
        listed = ", ".join(of_classes)
        faults.append(Fault("/metric", f"is none of a class; those that are: {listed}"))
    if rule.metric in QUANTILES and rule.kind == "cusum":
        message = (
            "cusum looks for the shift of a mean, and a quantile is watched by the share of rows "
            "beyond it: ask for kind threshold or reference"
        )
        faults.append(Fault("/kind", message))
    start = now_us if rule.from_ is None else rule.from_
    reference = rule.reference
    if reference is not None and reference.to is not None and reference.to > start:
        faults.append(Fault("/reference/to", "must not lie behind the time that is watched"))
    if reference is not None and reference.from_ is not None and reference.from_ >= start:
        faults.append(Fault("/reference/from", "must lie before the time that is watched"))
    refused = None if rule.webhook is None else webhooks.refusal(rule.webhook, hosts)
    if refused is not None:
        faults.append(Fault("/webhook", refused))
    if faults:
        raise InvalidDocument(faults)


class Alerts:
    """The alerts of all projects.

    Args:
        database: where they are.
        hosts: that webhooks may be sent to.
        wake: called when there is a message to be sent.
    """

    def __init__(
        self, database: Database, hosts: Collection[str], *, wake: Callable[[], None]
    ) -> None:
        self._database = database
        self._hosts = frozenset(hosts)
        self._wake = wake
        self._evaluating = threading.Lock()
        self._seen: dict[str, int] = {}  # the revision that each project was last evaluated at
        self._states: dict[tuple[str, str], State] = {}

    def states(self) -> dict[tuple[str, str], State]:
        """Return how things last stood, by project and alert."""
        return dict(self._states)

    def create(self, project: str, rule: Rule) -> dict[str, Any]:
        """Keep a rule, and return how things stand with it.

        Raises:
            UnknownProject: nothing was recorded under that name.
            AlertExists: the project has an alert of that name.
            InvalidDocument: the rule cannot be watched, or its webhook is not allowed.
        """
        now_us = time.time_ns() // 1000
        check(rule, self._hosts, now_us=now_us)
        start = now_us if rule.from_ is None else rule.from_
        try:
            with self._database.writing() as connection:
                found = project_of(connection, project)
                _refuse_many(connection, found.id)
                connection.execute(
                    insert(tables.alert).values(
                        project_id=found.id,
                        name=rule.name,
                        rule=json.dumps(rule.stored()),
                        created=now_us,
                        state="no_data",
                        since=start,
                        detail="{}",
                    )
                )
                revise(connection, [found.id])
        except IntegrityError:
            raise AlertExists("the project has an alert of that name: DELETE it first") from None
        self.evaluate(project)
        return next(
            each for each in self.listing(project)["alerts"] if each["rule"]["name"] == rule.name
        )

    def listing(self, project: str) -> dict[str, Any]:
        """Return a project's alerts as they stand now. Raises UnknownProject."""
        self.evaluate(project)
        with self._database.reading() as connection:
            found = project_of(connection, project)
            alerts = _alerts(connection, found.id)
        return {
            "project": project,
            "revision": found.revision,
            "alerts": [each.document() for each in alerts],
        }

    def remove(self, project: str, name: str) -> None:
        """Forget an alert, and what of it is still to be sent.

        Raises:
            UnknownProject: nothing was recorded under that name.
            UnknownAlert: the project has no alert of that name.
        """
        alert, delivery = tables.alert, tables.delivery
        with self._database.writing() as connection:
            found = project_of(connection, project)
            of_name = (alert.c.project_id == found.id) & (alert.c.name == name)
            key = connection.execute(select(alert.c.id).where(of_name)).scalar_one_or_none()
            if key is None:
                raise UnknownAlert("the project has no alert of that name")
            connection.execute(delete(delivery).where(delivery.c.alert_id == key))
            connection.execute(delete(alert).where(alert.c.id == key))
            revise(connection, [found.id])
        with self._evaluating:
            self._states.pop((project, name), None)

    def evaluate(self, project: str) -> None:
        """Look at a project's alerts, if it changed since they were last looked at.

        Raises:
            UnknownProject: nothing was recorded under that name.
        """
        with self._evaluating:
            with self._database.reading() as connection:
                found = project_of(connection, project)
                alerts = _alerts(connection, found.id)
            if self._seen.get(project) == found.revision:
                return
            if alerts:
                with view(self._database, project) as seen:
                    stands = [standing(seen, each.rule, each.created) for each in alerts]
                changes = list(zip(alerts, stands, strict=True))
                if self._store(project, found.id, changes):
                    self._wake()
                self._show(project, changes)
            self._seen[project] = found.revision

    def _store(
        self, project: str, project_id: int, changes: Sequence[tuple[Alert, Standing]]
    ) -> bool:
        """Store how things stand where they changed; return whether a message was left."""
        new = [
            (alert, stands)
            for alert, stands in changes
            if (stands.state, stands.detail) != (alert.state, alert.detail)
        ]
        if not new:
            return False
        table, left = tables.alert, False
        with self._database.writing() as connection:
            turned = False
            for alert, stands in new:
                values: dict[str, object] = {"detail": json.dumps(stands.detail)}
                if stands.state != alert.state:
                    values |= {"state": stands.state, "since": stands.since}
                # Another process may have seen the same: who comes second changes nothing.
                same = (table.c.id == alert.key) & (table.c.state == alert.state)
                stored = connection.execute(update(table).where(same).values(**values))
                if stored.rowcount and stands.state != alert.state:
                    left |= _tell(connection, project, project_id, alert, stands)
                    turned = True
            if turned:
                revise(connection, [project_id])
        return left

    def _show(self, project: str, changes: Iterable[tuple[Alert, Standing]]) -> None:
        others = {key: state for key, state in self._states.items() if key[0] != project}
        own = {(project, alert.rule.name): stands.state for alert, stands in changes}
        self._states = others | own


def _alerts(connection: Connection, project_id: int) -> list[Alert]:
    table = tables.alert
    query = select(table).where(table.c.project_id == project_id).order_by(table.c.name)
    return [
        Alert(
            key=row.id,
            rule=Rule.model_validate(json.loads(row.rule)),
            created=row.created,
            state=row.state,
            since=row.since,
            detail=json.loads(row.detail),
        )
        for row in connection.execute(query)
    ]


def _tell(
    connection: Connection, project: str, project_id: int, alert: Alert, stands: Standing
) -> bool:
    """Note a change, and leave a message where one is wanted; return whether there is one."""
    rule = alert.rule
    connection.execute(
        insert(tables.annotation).values(
            project_id=project_id, time=stands.since, kind=KIND, text=sentence(rule, stands)
        )
    )
    if rule.webhook is None:
        return False
    now_us = time.time_ns() // 1000
    body = {
        "id": uuid.uuid4().hex,
        "project": project,
        "alert": rule.name,
        "state": stands.state,
        "previous": alert.state,
        "since": times.text(stands.since),
        "noticed": times.text(now_us),
        "text": sentence(rule, stands),
        "detail": stands.detail,
        "rule": rule.stored(),
    }
    webhooks.post(connection, alert.key, body, now_us)
    return True


def sentence(rule: Rule, stands: Standing) -> str:
    """Return how things stand in words."""
    if stands.state == "no_data":
        return f"{rule.name}: cannot be told: {stands.detail['reason']}"
    detail = stands.detail
    word = "fires" if stands.state == "firing" else "is over"
    compared = f"{rule.direction} {detail['target']:.6g}"
    return (
        f"{rule.name} {word}: {rule.metric} {detail['estimate']:.6g} {detail['unit']} over "
        f"{detail['rows']} rows since {detail['from']}; it fires {compared}"
    )


def _refuse_many(connection: Connection, project_id: int) -> None:
    alert = tables.alert
    query = select(alert.c.id).where(alert.c.project_id == project_id)
    if len(connection.execute(query).all()) >= MOST_ALERTS:
        raise InvalidDocument([Fault("", f"a project has at most {MOST_ALERTS} alerts")])
