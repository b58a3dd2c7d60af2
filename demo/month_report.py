"""The remembered month as tables, and what must hold of it."""

from collections.abc import Iterator, Sequence
from typing import Final

from demo import month
from demo.checks import Check
from demo.client import Answer
from demo.history import MODEL, PROJECT, Remembered
from demo.inquiry import CLASS_NAMES
from demo.tables import heading, number, paragraph, table

WORDS: Final = {"no_difference": "-", "insufficient": "too few", "not_comparable": "-"}


def month_report(remembered: Remembered) -> str:
    """Return what the service says of both halves."""
    start, middle = remembered.start, month.middle(remembered.start)
    last = month.end(start) - month.EVERY
    names = [CLASS_NAMES[digit] for digit in month.BLURRED]
    baseline, candidate = month.VERSIONS
    note = paragraph(
        f"Both classifiers as versions {baseline} ({month.VERSIONS[baseline]}) and {candidate} "
        f"({month.VERSIONS[candidate]}) of one model, on the same images every six hours from "
        f"{start:%d %B %Y} to {last:%d %B %Y}. From {middle:%d %B} on, version {candidate} is "
        f"given a blurred {' and a blurred '.join(names)}. Mean loss of both versions, and what "
        "the service calls their difference: worse or better, with all ten digits allowed for."
    )
    sentences = [
        f"{title}: {each['sentence']}"
        for title, each in (("Before", remembered.before), ("Since", remembered.since))
    ]
    text = "\n".join(paragraph(sentence) for sentence in sentences)
    where = f"The service's charts of it: project {PROJECT}, model {MODEL}."
    title = heading("A month of two versions")
    return f"{title}\n{note}\n\n{_classes(remembered)}\n\n{text}\n{where}"


def _classes(remembered: Remembered) -> str:
    halves = [remembered.before["per_class"], remembered.since["per_class"]]
    rows = []
    for place, name in enumerate(halves[0]["name"]):
        cells = [name]
        for half in halves:
            verdict = half["verdict"][place]
            means = [half[f"{side}_mean"][place] for side in ("baseline", "candidate")]
            cells += [*map(number, means), WORDS.get(verdict, verdict)]
        rows.append(cells)
    sides = [f"version {version}" for version in month.VERSIONS]
    columns = ["digit", *(f"{side} before" for side in sides), "verdict"]
    return table([*columns, *(f"{side} since" for side in sides), "verdict"], rows)


def month_checks(remembered: Remembered) -> Iterator[Check]:
    """Yield whether each check holds, and its sentence."""
    counted = {each["model_version"]: (each["batches"], each["rows"]) for each in remembered.series}
    batches, rows = month.SLOTS, month.SLOTS * month.ROWS
    yield (
        counted == dict.fromkeys(month.VERSIONS, (batches, rows)),
        f"the history holds {batches} batches of {month.ROWS} rows of each version, once each",
    )
    before, since = (_worse(half) for half in (remembered.before, remembered.since))
    yield not before, f"worse in the first half: {_listed(before)}"
    blurred = [CLASS_NAMES[digit] for digit in month.BLURRED]
    yield since == blurred, f"worse since the blur: {_listed(since)}, and no other digit"


def _worse(comparison: Answer) -> list[str]:
    classes = comparison["per_class"]
    pairs = zip(classes["name"], classes["verdict"], strict=True)
    return [name for name, verdict in pairs if verdict == "worse"]


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names) or "none"
