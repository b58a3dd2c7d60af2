"""Groups of series, by what they are asked to be told apart by; and classes by their names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.errors import invalid
from service.history import stack
from service.history.metrics import Metric
from service.history.questions import TAG, Selection
from service.history.rollups import View
from service.history.selection import Series, class_names, cover, gather, matching
from service.history.stack import Integers, Pile, Stack

CLASS: Final = "class"
TOP: Final = "top:"
TOP_OF_ALL: Final = "top:10"
DIMENSIONS: Final = ("model", "model_version", "variant", "settings", "label_schema")
_LISTED: Final = 20

Key = tuple[str | None, ...]


def key_of(series: Series, by: Sequence[str]) -> Key:
    """Return a series' part in each dimension but the class; ``None`` for a tag it has not."""
    return tuple(_part(series, name) for name in by if name != CLASS)


def known_dimension(name: str) -> str:
    """Return a dimension that groups can be made by. Raises ValueError for none."""
    if name in (*DIMENSIONS, CLASS) or (name.startswith(TAG) and len(name) > len(TAG)):
        return name
    raise ValueError(f"group by {', '.join((*DIMENSIONS, CLASS))} or {TAG}KEY")


def selected(view: View, selection: Selection) -> list[Series]:
    """Return the series of a selection that may hold something in its time."""
    return [
        each
        for each in matching(view, selection)
        if (selection.to is None or each.first < selection.to)
        and (selection.from_ is None or each.last >= selection.from_)
    ]


def refuse_mixed(series: Sequence[Series], by: Sequence[str], metric: Metric) -> None:
    """Refuse groups of evaluations that do not add up: of several variants, or settings.

    Losses have units of their own then; and a batch that was evaluated under two variants would
    count twice.

    Raises:
        InvalidDocument: says what to add.
    """
    if metric.mixes:
        return
    units: dict[Key, set[tuple[str, str]]] = {}
    for each in series:
        units.setdefault(key_of(each, by), set()).add(each.unit)
    mixed = next((each for each in units.values() if len(each) > 1), None)
    if mixed is None:
        return
    which = "variant" if len({variant for variant, _ in mixed}) > 1 else "settings"
    found = {unit[0 if which == "variant" else 1] for unit in mixed}
    listed = ", ".join(sorted(found)[:_LISTED])
    raise invalid(
        f"/{which}",
        f"{metric.name} of different {which} cannot be put together: add {which}=... or "
        f"by={which}; there are {listed}",
    )


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of several series, under one number for each name.

    Attributes:
        names: by number.
        begins: where each series' classes begin in ``numbers``.
        numbers: of each series' classes, one series after the other.
    """

    names: list[str]
    begins: Integers
    numbers: Integers

    @classmethod
    def of(cls, view: View, series: Sequence[Series]) -> "Classes":
        """Return the classes of series: a name means the same under all label schemas."""
        schemas = class_names(view.connection, (each.schema.id for each in series))
        numbers: dict[str, int] = {}
        own: dict[int, list[int]] = {
            schema: [numbers.setdefault(name, len(numbers)) for name in schemas[schema]]
            for schema in dict.fromkeys(each.schema.id for each in series)
        }
        begins = np.cumsum([0, *(len(own[each.schema.id]) for each in series)])[:-1]
        flat = [number for each in series for number in own[each.schema.id]]
        return cls(list(numbers), begins.astype(np.int64), np.array(flat, np.int64))

    def named(self, part: Stack, position: Integers, wanted: NDArray[np.bool_] | None) -> None:
        """Put the number of its name in place of each class, and drop what is not wanted.

        Args:
            part: sums whose classes are those of their series.
            position: which series, for each of them.
            wanted: by number; ``None`` for all.
        """
        pile = part.piles["classes"]
        number = self.numbers[self.begins[position[pile.owner]] + pile.key]
        named = Pile(pile.owner, number, pile.records)
        part.piles["classes"] = named if wanted is None else named.where(wanted[number])

    def wanted(self, view: View, question: Selection, series: Sequence[Series],
               asked: Sequence[str]) -> NDArray[np.bool_]:
        """Return which classes are asked for, by number: names, indexes, top:N by sum of the loss.

        Raises:
            InvalidDocument: there is no such class.
        """
        wanted = np.zeros(len(self.names), np.bool_)
        place = {name: number for number, name in enumerate(self.names)}
        for each in asked:
            if each in place:
                wanted[place[each]] = True
            elif each.startswith(TOP) and each.removeprefix(TOP).isdecimal():
                top = self._heaviest(view, question, series)
                wanted[top[: int(each.removeprefix(TOP))]] = True
            elif each.isdecimal() and int(each) < len(self.names):
                wanted[self._indexed(int(each))] = True
            elif self.names:
                listed = ", ".join(self.names[:_LISTED])
                raise invalid("/class", f"no such class; there are {listed}; or top:N")
        return wanted

    def _indexed(self, index: int) -> Integers:
        """Return what the class of an index is called under each schema."""
        ends = np.append(self.begins[1:], len(self.numbers))
        at = self.begins + index
        return self.numbers[at[at < ends]]

    def _heaviest(self, view: View, question: Selection, series: Sequence[Series]) -> Integers:
        """Return classes with rows by their share of the loss, the largest first."""
        found = gather(
            view,
            series,
            cover(question, series),
            ["classes"],
            lambda part, position: self.named(part, position, None),
        )
        whole = stack.fold(found.sums, np.zeros(found.sums.count, np.int64), 1).piles["classes"]
        order = np.lexsort((whole.key, -whole.records["loss_sum"]))
        return whole.key[order]


def _part(series: Series, name: str) -> str | None:
    if name.startswith(TAG):
        return series.tags.get(name.removeprefix(TAG))
    return _PARTS[name](series)


_PARTS: Final[Mapping[str, Callable[[Series], str]]] = {
    "model_version": lambda each: each.model_version,
    "model": lambda each: each.model,
    "variant": lambda each: each.variant,
    "settings": lambda each: each.settings_hash,
    "label_schema": lambda each: str(each.schema),
}
