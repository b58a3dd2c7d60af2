"""What must hold of the answers, whatever the numbers are."""

from collections.abc import Iterator
from typing import Final

from sklearn.metrics import log_loss  # type: ignore[import-untyped]

from demo.client import difference
from demo.digits import HeldOut
from demo.inquiry import Inquiry
from demo.report import PLAIN

TOLERANCE: Final = 1e-5
"""JSON numbers are evaluated in float64, float32 tensors in float32."""

Check = tuple[bool, str]


def checks(held_out: HeldOut, inquiry: Inquiry) -> Iterator[Check]:
    """Yield whether each check holds, and its sentence."""
    found = inquiry.difference
    yield (
        found < TOLERANCE,
        f"JSON and safetensors agree in {inquiry.exchanges} answers: "
        f"largest difference {found:.1e}",
    )
    found = max(_apart(inquiry, name) for name in inquiry.compared)
    yield found < TOLERANCE, f"/compare and /loss agree: largest difference {found:.1e}"
    for each in inquiry.on("integer"):
        if each.variant == PLAIN:
            for name, answer in each.answers.items():
                theirs = log_loss(held_out.labels, held_out.logits[name].double().softmax(dim=1))
                yield (
                    difference(answer["loss"], float(theirs)) < TOLERANCE,
                    f"{PLAIN}, {name}: {answer['loss']:.9f}; "
                    f"scikit-learn's log_loss of the probabilities: {theirs:.9f}",
                )


def _apart(inquiry: Inquiry, name: str) -> float:
    """Return the largest difference between a comparison and the same questions asked alone."""
    alone = {each.variant: each.answers[name] for each in inquiry.on("integer")}
    largest = 0.0
    for result in inquiry.compared[name]["results"]:
        single = alone[result["variant"]]
        shared = single.keys() & result.keys()
        mine, theirs = ({key: answer[key] for key in shared} for answer in (single, result))
        largest = max(largest, difference(mine, theirs))
    return largest
