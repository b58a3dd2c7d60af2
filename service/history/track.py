"""What a batch is of: its series, and the identity by which it is counted once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final

IDENTITY_BYTES: Final = 16
HASH_BYTES: Final = 8
EXACT: Final = 1 << 53  # below, a float that is whole is one integer
# Made once: json.dumps makes one for every text that it is to write in a form of its own.
_written: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode


@dataclass(frozen=True, slots=True)
class SchemaRef:
    """The classes that labels mean.

    Attributes:
        name: of the label schema, within its project.
        classes: their names, in the order of the logits; ``None``: as declared before.
    """

    name: str
    classes: tuple[str, ...] | None


@dataclass(frozen=True)
class SeriesKey:
    """Which series a batch belongs to.

    Attributes:
        project, model, model_version: names.
        variant, family: of the loss.
        settings: of the variant, and the conventions that alter sums; what JSON can hold.
        label_schema: what the labels mean.
        tags: what else tells series apart.
    """

    project: str
    model: str
    model_version: str
    variant: str
    family: str
    settings: Mapping[str, Any]
    label_schema: SchemaRef
    tags: Mapping[str, str]

    @cached_property
    def settings_json(self) -> str:
        """The settings as they are stored and hashed."""
        return canonical(self.settings)

    @cached_property
    def settings_hash(self) -> str:
        """The settings, in 16 hexadecimal digits. Equal settings have equal hashes."""
        return blake2b(self.settings_json.encode(), digest_size=HASH_BYTES).hexdigest()

    @cached_property
    def tags_json(self) -> str:
        """The tags as they are stored."""
        return canonical(self.tags)


def identity(key: SeriesKey, batch_id: str) -> bytes:
    """Return what is the same for a batch that is sent again: 16 bytes.

    Tags and label schema are not in it: the same batch with others is a contradiction.
    """
    parts = [key.project, key.model, key.model_version, key.variant, key.settings_hash, batch_id]
    return blake2b(canonical(parts).encode(), digest_size=IDENTITY_BYTES).digest()


def series_name(*parts: str) -> str:
    """Return what a series is called, in 16 hexadecimal digits.

    It follows from what the series is, not from when its first batch came: in whatever order the
    same batches come, they make series of the same names.

    Args:
        parts: project, model, model version, variant, hash of the settings, label schema, digest of
            its classes, tags as they are stored.
    """
    return blake2b(canonical(parts).encode(), digest_size=HASH_BYTES).hexdigest()


def classes_digest(classes: tuple[str, ...]) -> str:
    """Return the names of classes, in their order, in 32 hexadecimal digits."""
    return blake2b(canonical(classes).encode(), digest_size=IDENTITY_BYTES).hexdigest()


def canonical(value: object) -> str:
    """Return the one JSON text of a value: keys ascending, no spaces, 2.0 written as 2.

    Raises:
        ValueError: a number is not finite.
    """
    return _written(_plain(value))


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | int):  # as most are
        return value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return int(value)
    return value
