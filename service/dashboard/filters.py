"""The form that says what a page shows."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from service.dashboard.state import REFERENCE, State
from service.dashboard.svg import ELLIPSIS
from service.dashboard.wording import moment
from service.history import times
from service.history.metrics import METRICS
from service.history.questions import TAG
from service.history.selection import matching

ALL: Final = "all"
BY: Final = (
    ("", "version"),
    ("model", "model"),
    ("label_schema", "label schema"),
    ("class", "class (the ten heaviest)"),
)
QUICK: Final = (("24 hours", times.DAY), ("7 days", 7 * times.DAY), ("30 days", 30 * times.DAY))
STEPS: Final = ("1m", "15m", "1h", "6h", "1d", "7d")
MOST_TAGS: Final = 6
SETTINGS_CHARACTERS: Final = 40


@dataclass(frozen=True, slots=True)
class Choice:
    """A list to choose from: pairs of value and text, and what is chosen."""

    name: str
    label: str
    options: Sequence[tuple[str, str]]
    chosen: Sequence[str]


@dataclass(frozen=True, slots=True)
class Moment:
    """A time to fill in, UTC, as browsers write it; ``hint`` says what holds without it."""

    name: str
    label: str
    value: str
    hint: str


def selection_form(state: State) -> dict[str, object]:
    """Return the context of the form of a page."""
    return _form(state, (), more=(*_tags(state), *_schemas(state), *_settings(state)))


def timeline_form(state: State) -> dict[str, object]:
    """Return the context of the form of the page that draws a metric over time as well."""
    tags = _tags(state)
    by = [*BY, *((each.name, each.name) for each in tags)]
    step = [("", "auto"), *((each, each) for each in STEPS)]
    drawn = (
        Choice(
            "metric",
            "Metric",
            [(name, f"{name} ({each.unit})") for name, each in METRICS.items()],
            [state.first("metric", "loss.mean")],
        ),
        Choice("by", "A line for each", by, [state.first("by")]),
    )
    steps = Choice("step", "Step", step, state.all("step"))
    return _form(state, drawn, more=(steps, *tags, *_schemas(state), *_settings(state)))


def moments(state: State, names: Sequence[tuple[str, str, str]]) -> list[Moment]:
    """Return fields of times: name, label and hint of each."""
    return [Moment(name, label, _local(state.first(name)), hint) for name, label, hint in names]


def versions(state: State) -> list[tuple[str, str]]:
    """Return the versions that there are, the one that came last first."""
    first: dict[str, int] = {}
    for each in state.every:
        first[each.model_version] = min(each.first, first.get(each.model_version, each.first))
    return [(name, name) for name in sorted(first, key=lambda name: (-first[name], name))]


def _form(state: State, drawn: Sequence[Choice], more: Sequence[Choice]) -> dict[str, object]:
    main = [*drawn, *_main(state)]
    start, end = state.span
    reference = state.reference_span()
    first, last = ("", "") if reference is None else map(moment, reference)
    fields = moments(
        state,
        (
            ("from", "From", moment(start)),
            ("to", "Until", moment(end)),
            (REFERENCE[0], "Reference from", first),
            (REFERENCE[1], "Reference until", last),
        ),
    )
    hidden = [*(each.name for each in more), *(each.name for each in fields)]
    names = [*(each.name for each in main), *hidden]
    given = {name for name, value in state.pairs if value}
    return {
        "main": main,
        "more": more,
        "times": fields,
        "rest": state.rest(names),
        "open": bool(given & ({*hidden} - {"from"})),
        "quick": _quick(state),
        "reset": bool(given - {"metric"}),
    }


def _main(state: State) -> list[Choice]:
    choices = []
    models = _values(each.model for each in state.every)
    if len(models) > 1 or state.all("model"):
        choices.append(_any(state, "model", "Model", models))
    choices.append(_any(state, "model_version", "Version", versions(state)))
    variants = _values(each.variant for each in state.every)
    shown = [] if state.unit is None else [state.unit[0]]
    choices.append(Choice("variant", "Variant", variants, shown))
    return choices


def _any(state: State, name: str, label: str, options: Sequence[tuple[str, str]]) -> Choice:
    return Choice(name, label, [("", ALL), *options], state.all(name))


def _tags(state: State) -> list[Choice]:
    keys = sorted({key for each in state.every for key in each.tags})
    return [
        _any(
            state,
            f"{TAG}{key}",
            key,
            _values(each.tags[key] for each in state.every if key in each.tags),
        )
        for key in keys[:MOST_TAGS]
    ]


def _schemas(state: State) -> list[Choice]:
    found = _values(str(each.schema) for each in state.every)
    return [_any(state, "label_schema", "Label schema", found)] if len(found) > 1 else []


def _settings(state: State) -> list[Choice]:
    """Return the choice of settings where the variant that is shown has several."""
    if state.unit is None:
        return []
    variant, shown = state.unit
    found = {
        each.settings_hash: _flat(json.loads(each.settings))
        for each in state.every
        if each.variant == variant
    }
    if len(found) < 2:  # noqa: PLR2004  (one is no choice)
        return []
    # Only what differs: that is what a person chooses by.
    named = {name for each in found.values() for name in each}
    telling = [
        name
        for name in sorted(named)
        if len({_text(each.get(name)) for each in found.values()}) > 1
    ]
    options = [
        (key, ", ".join(f"{name} {_text(each.get(name))}" for name in telling))
        for key, each in sorted(found.items())
    ]
    return [Choice("settings", "Settings", options, [shown])]


def _flat(settings: Mapping[str, Any]) -> dict[str, object]:
    """Return settings that may be grouped as one mapping."""
    flat: dict[str, object] = {}
    for name, value in settings.items():
        flat |= _flat(value) if isinstance(value, dict) else {name: value}
    return flat


def _text(value: object) -> str:
    text = json.dumps(value)
    cut = len(text) > SETTINGS_CHARACTERS
    return f"{text[:SETTINGS_CHARACTERS]}{ELLIPSIS}" if cut else text


def _quick(state: State) -> list[tuple[str, str, bool]]:
    """Return links to the last so and so long before the newest batch: text, query, whether now."""
    # The newest of what is selected whatever the time is: the links must not move it.
    open_ended = state.selection.model_copy(update={"from_": None, "to": None})
    newest = max((each.last for each in matching(state.view, open_ended)), default=0)
    given = (state.first("from"), state.first("to"))
    links = [("all", state.link(from_=None, to=None), given == ("", ""))]
    for text, length in QUICK:
        # Whole hours: the address stays the same while batches come in.
        start = times.text(times.floor(newest - length, times.HOUR) + times.HOUR)
        links.append((text, state.link(from_=start, to=None), given == (start, "")))
    return links


def _values(values: Iterable[str]) -> list[tuple[str, str]]:
    return [(value, value) for value in sorted(set(values))]


def _local(value: str) -> str:
    """Return a time of an address as a field of a form shows it: UTC, without an offset."""
    if not value:
        return ""
    try:
        return f"{times.from_us(times.parse(value.replace(' ', '+'))):%Y-%m-%dT%H:%M}"
    except (ValueError, OverflowError):
        return ""
