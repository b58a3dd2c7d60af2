"""Models tried in another process, before this one touches them.

A file that makes a parser crash, a graph that needs more memory than there is, a loop without end:
they end that process, and the model is broken.
"""

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import service
from service.errors import BrokenModel
from service.models.description import Description

LENGTH_BYTES: Final = 8
LAST_S: Final = 1.0
ROOT: Final = Path(service.__path__[0]).parent


class Trials:
    """A process that tries models, started when the first one comes, ended with the block.

    Args:
        memory_bytes: that it may take.
        elements: most numbers of a row.
        classes: most classes.
        deadline_s: for each model.
    """

    def __init__(
        self, *, memory_bytes: int, elements: int, classes: int, deadline_s: float
    ) -> None:
        self._arguments = [str(each) for each in (memory_bytes, elements, classes)]
        self._deadline_s = deadline_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def examine(self, data: bytes, card: bytes | None) -> Description:
        """Return what a model is.

        Raises:
            BrokenModel: it is none, or not taken, or ended the process.
        """
        process = self._started()
        lengths = (len(data), 0 if card is None else len(card) + 1)
        head = b"".join(length.to_bytes(LENGTH_BYTES, "little") for length in lengths)
        try:
            for part in (head, data, card or b""):
                process.stdin.write(part)  # type: ignore[union-attr]  # a pipe
            process.stdin.flush()  # type: ignore[union-attr]
        except BrokenPipeError:
            raise self._died() from None
        return self._answer(process)

    def _answer(self, process: "subprocess.Popen[bytes]") -> Description:
        lines: Any = process.stdout
        ready, _, _ = select.select([lines], [], [], self._deadline_s)
        if not ready:
            self._end()
            raise BrokenModel(
                f"the model was tried for {self._deadline_s:g} s and did not come to an end"
            )
        line = lines.readline()
        if not line.endswith(b"\n"):
            raise self._died()
        found: Mapping[str, Any] = json.loads(line)
        if "broken" in found:
            raise BrokenModel(found["broken"])
        return Description.of(found["model"])

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            self._process = subprocess.Popen(  # noqa: S603  (this interpreter, and numbers)
                [sys.executable, "-m", "service.models.trial", *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=ROOT,
                env=_without_settings(),
                start_new_session=True,  # a stop signal to the service's group is not for it
            )
        return self._process

    def _died(self) -> BrokenModel:
        process: Any = self._process
        self._end()
        code = process.returncode
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        return BrokenModel(f"the process that tried the model ended with {how}")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(BrokenPipeError):
            process.stdin.close()  # type: ignore[union-attr]  # a pipe: its end is the process's
        try:
            process.wait(LAST_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def _without_settings() -> dict[str, str]:
    """Return the environment without the service's settings: a model's process needs no secret."""
    return {key: value for key, value in os.environ.items() if not key.startswith("XENT_")}
