"""Telling others that an alert changed: kept until it was delivered, sent again until it was taken.

A message is a row that is written with the change itself, so that neither is lost without the
other. Whoever sends it takes it for a while first; if the process ends meanwhile, somebody sends it
again. So it comes at least once, and its ``Idempotency-Key`` says which one it is.

Where to may be asked for by anyone who may write rules: only hosts that the operator named are
sent to, without redirects, without proxies, and of the answer nothing but the status is looked at.
"""

import json
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, Literal

import httpx2
from sqlalchemy import Connection, delete, insert, select, update

from service.history import tables, times
from service.history.database import Database
from service.history.turns import Turns
from service.version import VERSION

URL_LENGTH: Final = 2048
BATCH: Final = 8  # messages that are taken at a time
ATTEMPTS: Final = 14  # spread over five hours
LONGEST_WAIT_S: Final = 3600.0
POLL_S: Final = 5.0  # messages that other processes left are found within

Outcome = Literal["delivered", "failed", "given_up"]

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Message:
    """A message on its way: where to, what, and how often it was sent, this time included."""

    key: int
    url: str
    body: str
    attempts: int


def refusal(url: str, hosts: Collection[str]) -> str | None:
    """Return why nothing may be sent to an address, or ``None`` where it may.

    Args:
        url: the address.
        hosts: ``host`` (at the scheme's own port) or ``host:port``, in lower case.
    """
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError, ValueError):
        return "is no URL"
    if len(url) > URL_LENGTH or parsed.scheme not in _PORTS or not parsed.host:
        return f"write http:// or https:// and a host, at most {URL_LENGTH} characters"
    if parsed.userinfo or parsed.fragment:
        return "must hold no user, password or fragment"
    host = parsed.raw_host.decode("ascii").lower()
    host = f"[{host.strip('[]')}]" if ":" in host else host
    port = parsed.port or _PORTS[parsed.scheme]
    usual = {host} if port == _PORTS[parsed.scheme] else set()
    if not {f"{host}:{port}", *usual} & set(hosts):
        return "is no host that webhooks may be sent to: the operator allows it in webhook_hosts"
    return None


def post(connection: Connection, alert_id: int, body: dict[str, Any], now_us: int) -> None:
    """Leave a message, to be sent once the transaction is committed."""
    connection.execute(
        insert(tables.delivery).values(
            alert_id=alert_id, body=json.dumps(body, separators=(",", ":")), attempts=0, due=now_us
        )
    )


class Webhooks(Turns):
    """Sends what was left, in a thread of its own.

    Args:
        database: where messages are.
        hosts: to which may be sent.
        deadline_s: how long a host may take for each step of an answer.
        count: told of every attempt's outcome.
        report: told of what went wrong; the next turn tries again.
    """

    def __init__(
        self,
        database: Database,
        hosts: Collection[str],
        *,
        deadline_s: float,
        count: Callable[[Outcome], None],
        report: Callable[[Exception], None],
    ) -> None:
        super().__init__("webhooks", rest_s=POLL_S, report=report)
        self._database = database
        self._hosts = frozenset(hosts)
        self._deadline_s = deadline_s
        self._count = count
        self._client = httpx2.Client(
            timeout=deadline_s,
            follow_redirects=False,
            trust_env=False,  # no proxies, no credentials from files
            headers={"content-type": "application/json", "user-agent": f"xent/{VERSION}"},
        )

    def stop(self) -> None:
        """End after the message that is being sent."""
        super().stop()
        self._client.close()

    def _turn(self) -> float:
        """Send what is due; return how long there is nothing to do, seconds."""
        for message in self._take():
            if self._stopped.is_set():
                break
            self._settle(message, taken=self._send(message))
        with self._database.reading() as connection:
            due = connection.execute(select(tables.delivery.c.due).order_by("due").limit(1))
            next_us: int | None = due.scalar_one_or_none()
        if next_us is None:
            return POLL_S
        return min(POLL_S, max(0.0, (next_us - _now_us()) / times.SECOND))

    def _take(self) -> list[Message]:
        """Return messages that are due; for as long as sending them may last nobody else's."""
        delivery, alert = tables.delivery, tables.alert
        now_us = _now_us()
        with self._database.reading() as connection:
            if connection.execute(_due(now_us)).first() is None:
                return []
        lease_us = round((2 + 4 * self._deadline_s) * BATCH * times.SECOND)
        with self._database.writing() as connection:
            query = _due(now_us).join(alert, alert.c.id == delivery.c.alert_id)
            found = connection.execute(query.add_columns(alert.c.rule)).all()
            connection.execute(
                update(delivery)
                .where(delivery.c.id.in_([row.id for row in found]))
                .values(due=now_us + lease_us, attempts=delivery.c.attempts + 1)
            )
        return [
            Message(row.id, json.loads(row.rule).get("webhook") or "", row.body, row.attempts + 1)
            for row in found
        ]

    def _send(self, message: Message) -> bool:
        # What may be sent to was decided when the rule was made; the operator may have changed it.
        if refusal(message.url, self._hosts) is not None:
            return False
        headers = {"idempotency-key": json.loads(message.body)["id"]}
        try:
            # What a host answers beside its status is never read.
            with self._client.stream(
                "POST", message.url, content=message.body, headers=headers
            ) as response:
                return response.is_success
        except httpx2.HTTPError:
            return False

    def _settle(self, message: Message, *, taken: bool) -> None:
        outcome: Outcome = "delivered" if taken else "failed"
        if not taken and message.attempts >= ATTEMPTS:
            outcome = "given_up"
        delivery = tables.delivery
        with self._database.writing() as connection:
            if outcome == "failed":
                wait_us = round(backoff_s(message.attempts) * times.SECOND)
                connection.execute(
                    update(delivery)
                    .where(delivery.c.id == message.key)
                    .values(due=_now_us() + wait_us)
                )
            else:
                connection.execute(delete(delivery).where(delivery.c.id == message.key))
        self._count(outcome)


def backoff_s(attempts: int) -> float:
    """Return how long to wait after that many attempts: each time twice as long.

    By chance it is up to half less, so that not all who wait come back at once.
    """
    longest = min(LONGEST_WAIT_S, 2.0 ** (attempts - 1))
    return longest * random.uniform(0.5, 1)  # noqa: S311  (no secret)


def _due(now_us: int) -> Any:  # noqa: ANN401  (SQLAlchemy's)
    delivery = tables.delivery
    query = select(delivery.c.id, delivery.c.body, delivery.c.attempts)
    return (
        query.where(delivery.c.due <= now_us).order_by(delivery.c.due, delivery.c.id).limit(BATCH)
    )


def _now_us() -> int:
    return time.time_ns() // 1000
