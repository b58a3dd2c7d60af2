"""The folder of models: ``NAME/VERSION/model.onnx``, and perhaps ``model.json`` beside it.

Names are checked before they become paths, and what a path leads to must lie in the folder: links
within it are followed, links out of it are not.
"""

import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from service.errors import BrokenModel, ModelConflict, UnknownModel
from service.models.card import CARD_BYTES
from service.models.names import NAME, check_name, order

MODEL: Final = "model.onnx"
CARD: Final = "model.json"
LISTED: Final = 10
PRIVATE: Final = 0o755

Signature = tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one version; ``card`` is ``None`` where there is none."""

    data: bytes
    card: bytes | None


class Folder:
    """A folder of models.

    Args:
        root: where it is.
        limit: most bytes of one model's file.
    """

    def __init__(self, root: Path, *, limit: int) -> None:
        self._root = root
        self._limit = limit

    def names(self) -> list[str]:
        """Return the models that there are, sorted."""
        return sorted(_folders(self._root))

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, oldest first.

        Raises:
            InvalidDocument: a name that is none.
            UnknownModel: there is no such model.
        """
        found = _folders(self._root / check_name(name, "model"))
        if not found:
            raise UnknownModel(f"there is no such model; {_known(name, self.names())}")
        return sorted(found, key=order)

    def chosen(self, name: str, version: str | None) -> str:
        """Return a version of a model; the newest one for ``None``.

        Raises:
            InvalidDocument: a name that is none.
            UnknownModel: there is no such model or version.
        """
        if version is not None:
            check_name(version, "version")
        versions = self.versions(name)
        if version is None:
            return versions[-1]
        if version not in versions:
            known = _known(version, versions[::-1])
            raise UnknownModel(f"{name} has no such version; {known}")
        return version

    def signature(self, name: str, version: str) -> Signature:
        """Return what changes when the files of a version do."""
        folder = self._root / name / version
        return tuple(_mark(folder / each) for each in (MODEL, CARD))

    def read(self, name: str, version: str) -> Files:
        """Return the files of a version.

        Raises:
            BrokenModel: they are not there, too large, no files, or elsewhere.
        """
        folder = self._root / name / version
        data = self._read(folder / MODEL, self._limit)
        if data is None:
            raise BrokenModel(f"there is no {MODEL}")
        return Files(data, self._read(folder / CARD, CARD_BYTES))

    def _read(self, path: Path, limit: int) -> bytes | None:
        root = self._root.resolve()
        try:
            real = path.resolve(strict=True)
            if not real.is_relative_to(root):
                raise BrokenModel(f"{path.name} is a link out of the folder of models")
            # Not blocking: opening a pipe that nobody writes to would wait for ever.
            descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError):  # the latter from links in a circle
            raise BrokenModel(f"{path.name} cannot be read") from None
        with os.fdopen(descriptor, "rb") as stream:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise BrokenModel(f"{path.name} is no file")
            if found.st_size > limit:
                raise BrokenModel(f"{path.name} has {found.st_size} bytes, the limit is {limit}")
            return stream.read(limit)

    def write(self, name: str, version: str, data: bytes) -> bool:
        """Add a version, whole or not at all; return whether it is new.

        Raises:
            InvalidDocument: a name that is none.
            ModelConflict: the version is there, with other bytes.
            OSError: it cannot be written.
        """
        check_name(name, "model")
        target = self._root / name / check_name(version, "version")
        self._check_inside(self._root / name)
        target.parent.mkdir(parents=True, exist_ok=True)
        # No name of a version begins with a dot: what is half written is not seen.
        made = Path(tempfile.mkdtemp(prefix=f".{version}-", dir=target.parent))
        try:
            made.chmod(PRIVATE)
            with (made / MODEL).open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            try:
                # Onto a folder that holds anything, the system refuses.
                made.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
                return self._same(name, version, data)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        _sync(target.parent)
        return True

    def remove(self, name: str, version: str) -> None:
        """Remove a version.

        Raises:
            InvalidDocument: a name that is none.
            UnknownModel: there is no such model or version.
            OSError: it cannot be removed.
        """
        target = self._root / name / self.chosen(name, check_name(version, "version"))
        self._check_inside(target.parent)
        grave = Path(tempfile.mkdtemp(prefix=f".{version}-", dir=target.parent))
        target.rename(grave / version)  # a link is moved, not what it leads to
        shutil.rmtree(grave, ignore_errors=True)
        if (grave / version).is_symlink():
            (grave / version).unlink()
        _sync(target.parent)

    def _same(self, name: str, version: str, data: bytes) -> bool:
        try:
            there: bytes | None = self.read(name, version).data
        except BrokenModel:
            there = None
        if there != data:
            raise ModelConflict(
                f"{name} has a version {version} with other bytes: a version does not change; "
                "upload another one, or delete this one"
            )
        return False

    def _check_inside(self, path: Path) -> None:
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise BrokenModel("the model is a link out of the folder of models")


def _folders(path: Path) -> list[str]:
    try:
        with os.scandir(path) as found:
            return [each.name for each in found if NAME.fullmatch(each.name) and _is_folder(each)]
    except OSError:
        return []


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def _mark(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _known(asked: str, there: list[str]) -> str:
    if not there:
        return "there is none"
    close = get_close_matches(asked, there, 1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    more = f" and {len(there) - LISTED} more" if len(there) > LISTED else ""
    return f"{hint}known: {', '.join(there[:LISTED])}{more}"


def _sync(path: Path) -> None:
    """Write a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
