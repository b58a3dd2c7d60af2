"""Groups of series, by what they are asked to be told apart by; and classes by their names."""

import re
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
from service.history.selection import Narrow, Series, class_names, cover, gather, matching
from service.history.stack import Integers, Pile, Stack

CLASS: Final = "class"
TOP: Final = "top:"
TOP_OF_ALL: Final = "top:10"
_TOP: Final = re.compile(r"top:\d{1,6}")
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
    """The classes of several label schemas, under one number for each name.

    Attributes:
        names: by number.
        numbers: of the classes of each schema, by its id.
    """

    names: list[str]
    numbers: Mapping[int, Integers]

    @classmethod
    def of(cls, view: View, series: Sequence[Series]) -> "Classes":
        """Return the classes of series: a name means the same under all label schemas."""
        schemas = class_names(view.connection, (each.schema.id for each in series))
        place: dict[str, int] = {}
        numbers = {
            schema: np.array(
                [place.setdefault(name, len(place)) for name in schemas[schema]], np.int64
            )
            for schema in dict.fromkeys(each.schema.id for each in series)
        }
        return cls(list(place), numbers)

    def naming(self, series: Sequence[Series], wanted: NDArray[np.bool_] | None) -> Narrow:
        """Return what puts the number of its name in place of each class of sums that are read.

        Args:
            series: those that are read.
            wanted: which classes are kept, by number; ``None`` for all.
        """
        schemas = list(self.numbers)
        flat = np.concatenate([np.zeros(0, np.int64), *self.numbers.values()])
        begins = np.cumsum([0, *map(len, self.numbers.values())])
        begin = begins[[schemas.index(each.schema.id) for each in series]]

        def narrow(part: Stack, position: Integers) -> None:
            pile = part.piles["classes"]
            number = flat[begin[position[pile.owner]] + pile.key]
            named = Pile(pile.owner, number, pile.records)
            part.piles["classes"] = named if wanted is None else named.where(wanted[number])

        return narrow

    def wanted(self, asked: Sequence[str], sums: Callable[[], Pile]) -> NDArray[np.bool_]:
        """Return which classes are asked for, by number.

        Args:
            asked: names, indexes, or ``top:N`` by sum of the loss.
            sums: makes the sums of each class, see :meth:`sums`.

        Raises:
            InvalidDocument: there is no such class.
        """
        wanted = np.zeros(len(self.names), np.bool_)
        place = {name: number for number, name in enumerate(self.names)}
        longest = max(map(len, self.numbers.values()), default=0)
        for each in asked:
            if each in place:
                wanted[place[each]] = True
            elif _TOP.fullmatch(each):
                wanted[heaviest(sums())[: int(each.removeprefix(TOP))]] = True
            elif each.isdecimal() and int(each) < longest:
                index = int(each)
                wanted[[own[index] for own in self.numbers.values() if index < len(own)]] = True
            elif self.names:
                listed = ", ".join(self.names[:_LISTED])
                raise invalid("/class", f"no such class; there are {listed}; or ask for {TOP}N")
        return wanted

    def sums(self, view: View, selection: Selection, series: Sequence[Series]) -> Pile:
        """Return the sums of each class over a selection; its keys are the classes' numbers."""
        pieces = cover(selection, series)
        found = gather(view, series, pieces, ["classes"], self.naming(series, None))
        return stack.fold(found.sums, np.zeros(found.sums.count, np.int64), 1).piles["classes"]


def heaviest(sums: Pile) -> Integers:
    """Return the keys of classes by their sum of the loss, the largest first."""
    return sums.key[np.argsort(-sums.records["loss_sum"], kind="stable")]


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
