"""Batches so small that a worker takes longer to come than to evaluate them.

They are evaluated where they were received, on the event loop, when no worker has anything to do.
What is small is decided twice: by the body, before it is decoded there, and by the batch.
"""

from typing import Final

import torch

from service.engine import Permit
from service.questions import Question
from service.wire.arrival import Arrival
from service.wire.encodings import identity
from service.wire.formats import Spoken
from service.wire.payload import Payload, extent

BODY_BYTES: Final = 1 << 14
LOGITS: Final = 1 << 12
TRACKED_ROWS: Final = 1 << 8  # each is drawn many times


class TooLong(Exception):
    """A batch of a small body that would keep the event loop."""


def may_be_brief(question: Question, terms: Spoken, device: torch.device) -> bool:
    """Tell whether a small body is a small batch: it holds all of it, and asks for one variant."""
    contained = terms.source.contained and terms.decoder is identity
    return contained and not question.compares and device.type == "cpu"


def is_at_hand(arrival: Arrival, permit: Permit) -> bool:
    """Tell whether a body is there, is small, and nobody else waits or computes."""
    return arrival.is_complete and arrival.size <= BODY_BYTES and permit.is_alone


def check_brief(payload: Payload) -> None:
    """Check that a decoded batch is small.

    Raises:
        TooLong: it is not.
    """
    shape = payload.logits.shape
    # Every axis: of no rows there may be a million classes.
    if max(payload.logits.numel(), *shape) > LOGITS:
        raise TooLong
    rows, _ = extent(shape, payload.document.get("class_axis", 1))
    if rows > TRACKED_ROWS and "track" in payload.document:
        raise TooLong
