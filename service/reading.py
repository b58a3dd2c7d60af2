"""One evaluation of a body that comes in pieces, from its first bytes to the answer's."""

import time
from collections.abc import Callable

import torch

from service.asking import Asking
from service.evaluated import Evaluated, Unrecorded
from service.keeping import Keeping
from service.questions import Answer, Question
from service.threads import for_room
from service.wire.formats import Format
from service.wire.payload import Body
from service.wire.piece import Piece
from service.wire.stream import OpenStream, Stream, Terms
from xentcore import Passes


class Reading:
    """Reads one body on a worker; a :class:`service.flow.Reader`.

    Args:
        open_stream: of the request's media type.
        terms: under which the body is read.
        question: what is asked.
        target: what the answer shall be in.
        device: where to compute.
        passes: which implementation goes over matrices.
        threads: how many compute where there is room.
        has_room: whether all of the body is there, and nobody else needs the cores.
        pending_bytes: most bytes of a body that waits for labels.
    """

    def __init__(  # noqa: PLR0913  (one body, one question, and what answers it)
        self,
        open_stream: OpenStream,
        terms: Terms,
        *,
        question: Question,
        target: Format,
        device: torch.device,
        passes: Passes,
        threads: int,
        has_room: Callable[[], bool],
        pending_bytes: int,
    ) -> None:
        self._threads = threads
        self._has_room = has_room
        self._cancelled: Callable[[], bool] = lambda: False
        self._asking: Asking | None = Asking(
            question,
            per_class_limit=target.per_class_limit,
            device=device,
            passes=passes,
            cancelled=lambda: self._cancelled(),
        )
        self._stream: Stream | None = open_stream(self._asking, terms)
        self._keeping = Keeping(limit=pending_bytes)
        self._encode = target.encode
        self._spent_s = 0.0

    def push(self, piece: Piece, cancelled: Callable[[], bool]) -> None:
        """Read the next piece.

        Raises:
            ServiceError, XentError: as soon as the bytes show that there will be no answer.
            Cancelled: ``cancelled`` returned true.
        """
        since_s = time.perf_counter()
        self._cancelled = cancelled
        torch.set_num_threads(for_room(self._threads, has_room=self._has_room))
        stream: Stream = self._stream  # type: ignore[assignment]  # nothing is read once it is closed
        stream.push(piece)
        self._keeping.add(stream.document, Body(piece.memory[piece.begin : piece.end]))
        self._spent_s += time.perf_counter() - since_s

    def finish(self, cancelled: Callable[[], bool]) -> Evaluated:
        """Return the answer, all pieces having been read.

        Raises:
            ServiceError, XentError: the body is not complete, or there is no answer to it.
            Cancelled: ``cancelled`` returned true.
        """
        since_s = time.perf_counter()
        self._cancelled = cancelled
        torch.set_num_threads(for_room(self._threads, has_room=self._has_room))
        self._stream.finish()  # type: ignore[union-attr]
        answer = self._asking.answer()  # type: ignore[union-attr]
        self._spent_s += time.perf_counter() - since_s
        since_s = time.perf_counter()
        chunks = () if answer.recording else self._encode(answer.document)
        timings_ms = {
            "decode": 1000 * (self._spent_s - self._asking.compute_s),  # type: ignore[union-attr]
            "compute": 1000 * self._asking.compute_s,  # type: ignore[union-attr]
            "encode": 1000 * (time.perf_counter() - since_s),
        }
        return Evaluated(chunks, answer.results, timings_ms, self._unrecorded(answer))

    def _unrecorded(self, answer: Answer) -> Unrecorded | None:
        if answer.recording is None:
            return None
        keeping = self._keeping
        return Unrecorded(answer.recording, keeping.digest, keeping.body, answer, self._encode)

    def close(self) -> None:
        """Give back what is held: the temporary file, and the tensors that lie in it."""
        self._stream.close()  # type: ignore[union-attr]  # once
        self._stream = self._asking = None
