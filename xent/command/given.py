"""Settings of variants on the command line: ``--gamma 2``, and ``soft=focal:gamma=0.5``."""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from xent.errors import InvalidBatch
from xent.specs import Spec
from xent.variants import SETTINGS


def divide(words: Sequence[str], variant: str) -> tuple[list[Path], dict[str, Any]]:
    """Return the files and the settings among words like ``batch.npz --gamma 2``.

    Raises:
        InvalidBatch: a setting that the variant does not have, or without a value.
    """
    files: list[Path] = []
    settings: dict[str, Any] = {}
    waiting = iter(words)
    for word in waiting:
        if not word.startswith("--"):
            files.append(Path(word))
            continue
        name, equals, value = word.removeprefix("--").partition("=")
        name = known(name.replace("-", "_"), variant)
        if not equals:
            value = next(waiting, "")
        if not value:
            raise InvalidBatch(f"--{name} needs a value")
        settings[name] = parse(value)
    return files, settings


def spec(text: str) -> Spec:
    """Return the variant that ``[name=]variant[:setting=value,...]`` says.

    Raises:
        InvalidBatch: a setting that the variant does not have, or without a value.
    """
    head, _, tail = text.partition(":")
    name, named, variant = head.rpartition("=")
    settings: dict[str, Any] = {}
    for part in filter(None, tail.split(",")):
        setting, equals, value = part.partition("=")
        if not equals:
            raise InvalidBatch(f"{text}: write {variant}:setting=value,setting=value")
        settings[known(setting.strip().replace("-", "_"), variant)] = parse(value)
    return Spec(variant, name=name if named else None, **settings)


def known(name: str, variant: str) -> str:
    """Return the name of a setting. Variants that a newer service has may have any.

    Raises:
        InvalidBatch: the variant does not have it.
    """
    names = SETTINGS.get(variant)
    if names is None or name in names:
        return name
    near = get_close_matches(name, names, n=1)
    hint = f"; did you mean --{near[0]}?" if near else ""
    listed = ", ".join(f"--{each.replace('_', '-')}" for each in names)
    raise InvalidBatch(f"no such option: --{name}{hint} {variant} has {listed}")


def parse(value: str) -> Any:  # noqa: ANN401  (any JSON)
    """Return a value: JSON where it is such, numbers with commas as a list, else text."""
    try:
        return json.loads(value)
    except ValueError:
        pass
    if "," in value:
        return [parse(part.strip()) for part in value.split(",")]
    return value


def names(text: str | None) -> list[str] | None:
    """Return class names: a file with one a line, or names with commas.

    Raises:
        InvalidBatch: the file cannot be read.
    """
    if text is None:
        return None
    path = Path(text)
    if "," in text or not path.exists():
        return [name.strip() for name in text.split(",")]
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidBatch(f"{path}: {error}") from None
