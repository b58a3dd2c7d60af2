"""Two versions, or two times, side by side."""

from collections.abc import Mapping
from typing import Any, Final

from service.dashboard.filters import Choice, moments, versions
from service.dashboard.forest import Effect, forest
from service.dashboard.state import Pairs, State
from service.history import comparing, times
from service.history.questions import read

VERSION: Final = "model_version:"
WINDOWS: Final = ("baseline_from", "baseline_to", "candidate_from", "candidate_to")
FIELDS: Final = ("baseline", "candidate", *WINDOWS)
MOST_SHOWN: Final = 30
LEAST_VERSIONS: Final = 2


def sides(state: State) -> dict[str, object]:
    """Return the form that says what is compared."""
    chosen = dict(_asked(state))
    options = [("", "all versions"), *((f"{VERSION}{name}", name) for name, _ in versions(state))]
    forms = [
        {
            "title": side.capitalize(),
            "choice": Choice(side, "Version", options, [chosen.get(side, "")]),
            "times": moments(
                state,
                ((f"{side}_from", "From", "the beginning"), (f"{side}_to", "Until", "the end")),
            ),
        }
        for side in ("baseline", "candidate")
    ]
    variants = sorted({each.variant for each in state.every})
    shown = [] if state.unit is None else [state.unit[0]]
    variant = Choice("variant", "Variant", [(each, each) for each in variants], shown)
    return {
        "sides": forms,
        "variant": variant,
        "rest": state.rest((*FIELDS, "variant")),
        "is_given": bool(_given(state)),
    }


def verdict(state: State, width: int) -> dict[str, object]:
    """Return how the candidate compares with the baseline."""
    asked = _asked(state)
    answer = comparing.answer(state.view, read(comparing.Question, (*state.selected, *asked)))
    columns = answer["per_class"]
    found = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    found.sort(key=_size, reverse=True)
    effects = [_effect(each) for each in found[:MOST_SHOWN]]
    return {
        "answer": answer,
        "classes": found,
        "chart": forest(effects, width=width) if effects else None,
        "most": MOST_SHOWN,
        "api": state.api("compare", *asked),
    }


def _given(state: State) -> Pairs:
    return tuple(pair for pair in state.pairs if pair[0] in FIELDS and pair[1])


def _asked(state: State) -> Pairs:
    """Return what is compared: as the address says, else the last two versions, else halves."""
    given = _given(state)
    if given:
        return given
    known = {each.model_version for each in state.series}
    named = [name for name, _ in versions(state) if name in known]
    if len(named) >= LEAST_VERSIONS:
        return (("baseline", f"{VERSION}{named[1]}"), ("candidate", f"{VERSION}{named[0]}"))
    start, end = state.span
    middle = start + (end - start) // 2
    whole = times.floor(middle, times.auto_step(end - start, 16))
    text = times.text(whole if whole > start else middle)
    return (("baseline_to", text), ("candidate_from", text))


def _size(row: Mapping[str, Any]) -> tuple[bool, float]:
    """Return what orders classes: those that clearly differ first, then the largest change."""
    difference = row["difference"]
    return (
        row["verdict"] in ("worse", "better"),
        abs(difference) if difference is not None else -1,
    )


def _effect(row: Mapping[str, Any]) -> Effect:
    told = row["verdict"] != "insufficient"
    return Effect(
        name=row["name"],
        difference=row["difference"] if told else None,
        low=row["low"],
        high=row["high"],
        verdict=row["verdict"],
        rows=row["support_candidate"],
    )
