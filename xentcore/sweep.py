"""A block of logits gone over strip by strip, each while it is in the processor's cache.

What scoring needs is a few numbers per row. Measured strip by strip, a block may have as many rows
as those numbers fit into the cache, and what is around the passes is done once for all of them; and
a strip can be measured while the next one still arrives.
"""

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from xentcore.constants import Constants
from xentcore.device import block_rows
from xentcore.memory import Lease, lend
from xentcore.options import Source
from xentcore.row_statistics import Scope, Swept, anchored, keeping


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
    passes, places, ones = constants.passes, constants.places(classes), constants.ones(classes)
    step = block_rows(classes, logits.device, elements=passes.strip_elements)
    # One pass that tells all takes less than one for the usual and another one for the spread.
    told: Scope = "spread" if "spread" in sources and scope != "everything" else scope
    found: list[tuple[Tensor, ...]] = []
    totals: list[Tensor] = []
    sums = torch.zeros(classes, dtype=torch.float64) if scope != "rows" else None
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        await_rows(stop)
        pivot = labels[start:stop]
        lease = Lease()
        strip = passes.laid_out(lease, logits[start:stop])
        maximum = strip.amax(dim=1)
        anchor = anchored(maximum)
        columns = (strip, anchor, pivot, places)
        if "total" in sources:
            totals.append(passes.weighted_sum(strip, anchor, ones))
        if told == "rows":
            found.append((maximum, *passes.measure(*columns)))
            continue
        kept = lend(lease, strip)
        at_pivot, others, *rest = keeping(passes, told)(*columns, kept)
        if sums is not None:
            sums += passes.column_sums(kept, (at_pivot.exp() + others).reciprocal())
        found.append((maximum, at_pivot, others, *rest))
    maximum, *measured = (_joined(column) for column in zip(*found, strict=True))
    total = _joined(totals) if totals else None
    return Swept(maximum, tuple(measured), sums, total, told)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts))
