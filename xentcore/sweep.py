"""A block of logits gone over strip by strip, each while it is in the processor's cache.

What scoring needs is a few numbers per row. Measured strip by strip, a block may have as many rows
as those numbers fit into the cache, and what is around the passes is done once for all of them; and
a strip can be measured while the next one still arrives.
"""

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from xentcore.constants import Constants
from xentcore.memory import Lease, lend
from xentcore.options import Source
from xentcore.row_statistics import Scope, Swept, anchored


def sweep(
    logits: Tensor,
    labels: Tensor,
    constants: Constants,
    *,
    scope: Scope,
    sources: Collection[Source],
    await_rows: Callable[[int], None],
) -> Swept:
    """Measure rows of logits, whatever they hold.

    Args:
        logits: (rows, classes), in the compute dtype.
        labels: the class of each row, (rows,), int64.
        constants: the passes, and per-class numbers as tensors.
        scope: what will be asked.
        sources: what losses are made of.
        await_rows: called with a row number before rows below it are read.
    """
    rows, classes = logits.shape
    passes, places = constants.passes, constants.places(classes)
    step = max(1, passes.strip_elements // classes)
    surveys = scope == "everything"
    spreads, totals = "spread" in sources and not surveys, "total" in sources
    found: list[tuple[Tensor, ...]] = []
    further: list[tuple[Tensor, ...]] = []
    sums = torch.zeros(classes, dtype=torch.float64) if scope != "rows" else None
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        await_rows(stop)
        pivot = labels[start:stop]
        lease = Lease()
        strip = passes.laid_out(lease, logits[start:stop])
        maximum = strip.amax(dim=1)
        columns = (strip, anchored(maximum), pivot, places)
        asked = [passes.spread(*columns)] if spreads else []
        if totals:
            asked.append(passes.weighted_sum(strip, columns[1], constants.ones(classes)))
        further.append(tuple(asked))
        if sums is None:
            found.append((maximum, *passes.measure(*columns)))
            continue
        kept = lend(lease, strip)
        measure = passes.survey if surveys else passes.measure_keeping
        at_pivot, others, *rest = measure(*columns, kept)
        sums += passes.column_sums(kept, (at_pivot.exp() + others).reciprocal())
        found.append((maximum, at_pivot, others, *rest))
    maximum, *measured = (_joined(column) for column in zip(*found, strict=True))
    more = [_joined(column) for column in zip(*further, strict=True)]
    spread, total = more[0] if spreads else None, more[-1] if totals else None
    return Swept(maximum, tuple(measured), sums, spread, total)


def _joined(parts: tuple[Tensor, ...]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
