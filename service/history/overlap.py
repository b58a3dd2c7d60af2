"""How many samples two sides share, from the smallest hashes of their names.

All hashes below a bound are a random part of the samples, the same part on both sides: what holds
of them holds of all, up to chance. A sketch that is full holds every hash up to its last; one that
is not holds all there are. So below theta = the smaller of the two lasts both are complete, and

    Jaccard index = both / either,        share of the smaller side = both / min(one, other)

counted below theta. Anirban Dasgupta, Kevin Lang, Lee Rhodes and Justin Thaler, "A framework for
estimating stream expression cardinalities", ICDT 2016 (theta sketches); Kevin Beyer, Peter Haas,
Berthold Reinwald, Yannis Sismanis and Rainer Gemulla, "On synopses for distinct-value estimation
under multiset operations", SIGMOD 2007.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.history.sums import SKETCH_SIZE, Records


@dataclass(frozen=True, slots=True)
class Overlap:
    """What two sides share.

    Attributes:
        estimate: share of the smaller side's samples that the other side holds too; ``None``: not
            known.
        jaccard: share of all samples that both hold.
        basis: ``exact`` where all names were counted, ``sketch`` where a part of them was, ``none``
            where a side has no names.
        samples: names that were counted.
    """

    estimate: float | None
    jaccard: float | None
    basis: Literal["exact", "sketch", "none"]
    samples: int


def overlap(one: Records, other: Records) -> Overlap:
    """Return what two sketches say of their samples."""
    full = [int(sketch[-1]) for sketch in (one, other) if len(sketch) >= SKETCH_SIZE]
    if full:
        theta = np.uint64(min(full))
        one, other = one[one <= theta], other[other <= theta]
    smaller = min(len(one), len(other))
    if smaller == 0:
        return Overlap(None, None, "none", 0)
    both = len(np.intersect1d(one, other, assume_unique=True))
    either = len(one) + len(other) - both
    return Overlap(both / smaller, both / either, "sketch" if full else "exact", either)
