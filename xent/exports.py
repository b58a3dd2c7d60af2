"""Files of the history: in memory, or written while they come."""

import io
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Literal

from xent.errors import Unreadable, missing
from xent.safetensors import Buffer

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["parquet", "csv", "jsonl"]
FORMATS: Final = ("parquet", "csv", "jsonl")


@dataclass(frozen=True, slots=True)
class Export:
    """All batches of a selection, a row each.

    Attributes:
        format: parquet, csv or jsonl.
        data: the file's bytes.
    """

    format: Format
    data: bytes = field(repr=False)

    def to_pandas(self) -> "pd.DataFrame":
        """Return a dataframe.

        Raises:
            Missing: pandas is not installed; for parquet, pyarrow.
        """
        try:
            import pandas as pd  # noqa: PLC0415  (optional)
        except ImportError:
            raise missing("pandas", "to_pandas()") from None
        source = io.BytesIO(self.data)
        if self.format == "csv":
            return pd.read_csv(source)
        if self.format == "jsonl":
            return pd.read_json(source, lines=True)
        try:
            return pd.read_parquet(source)
        except ImportError:
            raise missing("pyarrow", "reading parquet") from None

    def save(self, path: str | Path) -> None:
        """Write the file."""
        Path(path).write_bytes(self.data)


class Sink:
    """Writes what comes; a file of ours has its name only when it is complete."""

    def __init__(self, file: "Path | IO[bytes]") -> None:
        self._path = file if isinstance(file, Path) else None
        self._file = None if isinstance(file, Path) else file
        self._begin: int | None = None
        self._bytes = 0
        self._ours: list[IO[bytes]] = []
        if self._path is not None:
            # Not __del__: a sink that an exception still refers to is collected together with its
            # file, which would complain first.
            weakref.finalize(self, _discard, _partial(self._path), self._ours)

    def open(self) -> Callable[[Buffer], None]:
        """Begin, or begin again after what came was cut off.

        Raises:
            Unreadable: what was cut off cannot be taken back.
        """
        if self._path is not None:
            self._close()
            self._file = _partial(self._path).open("wb")
            self._ours.append(self._file)
        elif self._file is not None and self._file.seekable():
            self._begin = self._file.tell() if self._begin is None else self._begin
            self._file.seek(self._begin)
            self._file.truncate()
        elif self._bytes:
            raise Unreadable("the file was cut off, and what was written cannot be taken back")
        self._bytes = 0
        return self._write

    def done(self) -> int:
        """Give the file its name; return its bytes."""
        if self._path is not None:
            self._close()
            _partial(self._path).replace(self._path)
        return self._bytes

    def _write(self, part: Buffer) -> None:
        if self._file is None:
            raise AssertionError("a sink is opened first")
        self._file.write(part)
        self._bytes += len(part)

    def _close(self) -> None:
        while self._ours:
            self._ours.pop().close()


def _discard(partial: Path, opened: Sequence[IO[bytes]]) -> None:
    """Remove what was not completed."""
    for file in opened:
        file.close()
    with suppress(OSError):
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def writing(file: "str | Path | IO[bytes]") -> Sink:
    """Return what writes into a file, or to a path."""
    return Sink(Path(file) if isinstance(file, str | Path) else file)
