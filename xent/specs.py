"""What is asked of a batch: a variant with its settings, and how the batch is read."""

from collections.abc import Mapping
from typing import Any

from xent.arrays import plain
from xent.errors import InvalidBatch


class Spec:
    """One variant of a comparison: ``Spec("focal", name="soft", gamma=0.5)``.

    Args:
        variant: its name in routes.
        name: what the answer calls it; ``None`` for the variant's.
        settings: the variant's.
    """

    def __init__(self, variant: str, *, name: str | None = None, **settings: Any) -> None:  # noqa: ANN401
        self.variant = variant
        self.name = name
        self.settings = settings

    def __repr__(self) -> str:
        settings = "".join(f", {name}={value!r}" for name, value in self.settings.items())
        name = "" if self.name is None else f", name={self.name!r}"
        return f"Spec({self.variant!r}{name}{settings})"

    def document(self) -> dict[str, object]:
        """Return the entry of ``variants`` in a request."""
        found: dict[str, object] = {"variant": self.variant}
        if self.name is not None:
            found["name"] = self.name
        if self.settings:
            found["settings"] = plain(self.settings)
        return found

    @classmethod
    def read(cls, value: "str | Spec | Mapping[str, Any]") -> "Spec":
        """Return what a caller named: a variant, a spec, or ``{variant, name, settings}``.

        Raises:
            InvalidBatch: none of these.
        """
        if isinstance(value, Spec):
            return value
        if isinstance(value, str):
            return cls(value)
        known = {"variant", "name", "settings"}
        if "variant" in value and set(value) <= known:
            settings = value.get("settings") or {}
            return cls(value["variant"], name=value.get("name"), **settings)
        raise InvalidBatch("a variant is a name, Spec(name, ...), or {variant, name, settings}")
