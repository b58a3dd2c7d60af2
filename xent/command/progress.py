"""A bar for what takes long: how far, how fast, how much longer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from xent.bodies import Progress as Told
from xent.command import show
from xent.command.files import Source

LONG_BYTES: Final = 1 << 24
"""What is shorter is over before a bar is drawn."""


class RowsPerSecond(ProgressColumn):
    """How many rows are read in a second."""

    def render(self, task: Task) -> Text:
        """Return the column."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} rows/s", style="progress.data.speed")


@contextmanager
def following(source: Source, *, quiet: bool) -> Iterator[dict[str, Told]]:
    """Draw a bar while a batch is sent, and yield the option that a client tells it by.

    Args:
        source: the batch; of chunks rows are counted, of what lies in memory bytes.
        quiet: draw nothing.
    """
    terminal = show.console(stderr=True)
    size = getattr(getattr(source.logits, "values", source.logits), "nbytes", LONG_BYTES)
    if quiet or not terminal.is_terminal or size < LONG_BYTES:
        yield {}
        return
    chunked = source.labels is None
    counted: tuple[Any, ...] = (
        (MofNCompleteColumn(), RowsPerSecond())
        if chunked
        else (DownloadColumn(), TransferSpeedColumn())
    )
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *counted,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task("sending", total=source.rows if chunked else None)
        if chunked:
            source.advance = lambda rows: bar.advance(task, rows)
            yield {}
            return

        def told(sent: int, length: int | None) -> None:
            # Sent is not answered: the last bytes are followed by the evaluation.
            whole = sent == length
            bar.update(
                task, completed=sent, total=length, description="evaluating" if whole else "sending"
            )

        yield {"progress": told}
