"""What a page shows: all of it stands in its address, and from there goes to the API as it is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import quote, urlencode

from service.history import times
from service.history.questions import TAG, Referring, Selection, read
from service.history.rollups import View
from service.history.selection import Series, matching, series_of, span

Pairs = tuple[tuple[str, str], ...]

SELECTION: Final = frozenset(
    field.alias or name for name, field in Selection.model_fields.items() if name != "tags"
)
REFERENCE: Final = ("reference_from", "reference_to")
MOST_PAIRS: Final = 200
REFERENCE_PART: Final = 4  # without a reference, the first such part of what is shown
STEPS: Final = 16  # of which the default reference has whole ones


@dataclass(frozen=True)
class State:
    """A page's address, read.

    Attributes:
        view: the project as it is now.
        pairs: query parameters of the page, known to it or not.
        unit: the variant and the settings that are shown: losses of others have other units.
        every: all series of the project.
    """

    view: View
    pairs: Pairs
    unit: tuple[str, str] | None
    every: Sequence[Series]

    def first(self, name: str, default: str = "") -> str:
        """Return the first value of a parameter that is not empty."""
        return next((value for key, value in self.pairs if key == name and value), default)

    def all(self, name: str) -> list[str]:
        """Return the values of a parameter."""
        return [value for key, value in self.pairs if key == name and value]

    @cached_property
    def selected(self) -> Pairs:
        """The selection as the API takes it, of one unit."""
        chosen = tuple(pair for pair in self.pairs if pair[1] and _selects(pair[0]))
        if self.unit is None:
            return chosen
        kept = tuple(pair for pair in chosen if pair[0] not in ("variant", "settings"))
        variant, settings = self.unit
        alone = len({unit for each in self.every if (unit := each.unit)[0] == variant}) == 1
        return (*kept, ("variant", variant), *(() if alone else (("settings", settings),)))

    @cached_property
    def selection(self) -> Selection:
        """The selection. Raises InvalidDocument for an address that says nothing meaningful."""
        return read(Selection, self.selected)

    @cached_property
    def series(self) -> Sequence[Series]:
        """The series of the selection."""
        return matching(self.view, self.selection)

    @cached_property
    def span(self) -> tuple[int, int]:
        """From and to of the selection, microseconds."""
        return span(self.selection, self.series)

    @cached_property
    def reference(self) -> Pairs:
        """The reference: of the address, or the first quarter of what is shown; may be empty."""
        given = tuple(pair for pair in self.pairs if pair[0] in REFERENCE and pair[1])
        if given:
            return given
        start, end = self.span
        step = times.auto_step(end - start, STEPS * REFERENCE_PART)
        until = times.floor(start + (end - start) // REFERENCE_PART, step)
        if until <= start:
            return ()
        return (REFERENCE[0], times.text(start)), (REFERENCE[1], times.text(until))

    @cached_property
    def is_reference_given(self) -> bool:
        """Whether the address says what the reference is."""
        return any(key in REFERENCE and value for key, value in self.pairs)

    @cached_property
    def referring(self) -> Referring:
        """The selection and its reference; raises as :attr:`selection`."""
        return read(Referring, (*self.selected, *self.reference))

    def reference_span(self) -> tuple[int, int] | None:
        """Return from and to of the reference, microseconds."""
        reference = self.referring.reference()
        return None if reference is None else span(reference, self.series)

    def api(self, name: str, *extra: tuple[str, str], reference: bool = False) -> str:
        """Return the address in the API of what a part shows, relative to the service's."""
        pairs = (*self.selected, *(self.reference if reference else ()), *extra)
        project = quote(self.view.project, safe="")
        return f"projects/{project}/{name}" + (f"?{urlencode(pairs)}" if pairs else "")

    def link(self, **changes: str | None) -> str:
        """Return the page's query with some parameters changed; ``None`` takes one away."""
        named = {name.rstrip("_"): value for name, value in changes.items()}
        kept = [pair for pair in self.pairs if pair[1] and pair[0] not in named]
        added = [(name, value) for name, value in named.items() if value is not None]
        return "?" + urlencode([*kept, *added])

    def rest(self, names: Iterable[str]) -> Pairs:
        """Return the parameters that a form of these fields has to keep."""
        known = set(names)
        return tuple(pair for pair in self.pairs if pair[1] and pair[0] not in known)


def state_of(view: View, pairs: Iterable[tuple[str, str]]) -> State:
    """Return what an address means; where it names no unit, the newest one with most series."""
    kept = tuple(pairs)[:MOST_PAIRS]
    every = series_of(view)
    chosen = [pair for pair in kept if pair[1] and _selects(pair[0])]
    found = matching(view, read(Selection, chosen))
    units = {each.unit for each in found}
    newest = {
        unit: (
            max(each.last for each in found if each.unit == unit),
            sum(each.unit == unit for each in found),
        )
        for unit in units
    }
    unit = max(sorted(units, reverse=True), key=lambda each: newest[each], default=None)
    return State(view, kept, unit, every)


def _selects(name: str) -> bool:
    return name in SELECTION or (name.startswith(TAG) and len(name) > len(TAG))
