"""The answers as tables for a person."""

from collections.abc import Iterator
from typing import Final

from demo.client import Answer
from demo.digits import HeldOut
from demo.inquiry import Asked, Inquiry
from demo.tables import heading, number, paragraph, picture, side_by_side, table

PLAIN: Final = "sparse"
"""The variant that the details are shown of: cross-entropy of one index per row, nothing else."""


def report(held_out: HeldOut, inquiry: Inquiry) -> Iterator[str]:
    """Yield the sections."""
    names = list(held_out.logits)
    yield overall(inquiry, names)
    plain = next((each for each in inquiry.on("integer") if each.variant == PLAIN), None)
    if plain is not None:
        yield per_class(plain, names)
        yield calibration(plain, names)
        yield hardest(plain, names[-1], held_out)
    yield compared(inquiry)


def overall(inquiry: Inquiry, names: list[str]) -> str:
    """Return the loss of every variant on every form of labels."""
    rows = []
    for each in inquiry.asked:
        if not each.answers:
            rows.append([each.variant, each.form, each.refusal])
            continue
        first = each.answers[names[0]]
        reduction = first["reduction"]
        losses = [number(each.answers[name]["loss"]) for name in names]
        denominator = f"{reduction['denominator']:g} {reduction['normaliser']}"
        rows.append([each.variant, each.form, *losses, denominator, first["label_kind"]])
    columns = ["variant", "labels", *names, "divided by", "read as"]
    note = paragraph(
        "Mean loss in nats of both classifiers, and what the sum is divided by. Multi-hot labels "
        "say which digits a page of three images holds. Where a variant does not take labels of a "
        "form, it says what to do instead."
    )
    title = heading("Every variant, every form of labels")
    return f"{title}\n{note}\n\n{table(columns, rows, left=2)}"


def per_class(asked: Asked, names: list[str]) -> str:
    """Return the breakdown of one variant by class."""
    tables = [asked.answers[name]["per_class"] for name in names]
    first = tables[0]
    rows = []
    for place, name in enumerate(first["name"]):
        cells = [name, str(first["support"][place])]
        for column, digits in (("loss_mean", 4), ("loss_share", 3), ("recall", 3)):
            cells += [number(each[column][place], digits) for each in tables]
        rows.append(cells)
    columns = ["digit", "support"]
    columns += [f"{what} {name}" for what in ("loss", "share", "recall") for name in names]
    return f"{heading(f'Per class: {asked.variant}')}\n{table(columns, rows)}"


def calibration(asked: Asked, names: list[str]) -> str:
    """Return how far confidence and accuracy agree."""
    answers = {name: asked.answers[name]["calibration"] for name in names}
    scores = [
        [name, number(each["ece"]), number(each["brier"]), number(each["entropy_mean"])]
        for name, each in answers.items()
    ]
    text = f"{heading('Calibration')}\n"
    text += table(["classifier", "ECE", "Brier score", "mean entropy"], scores)
    return f"{text}\n\n{_bins(answers)}"


def _bins(answers: dict[str, Answer]) -> str:
    bins = {name: each["bins"] for name, each in answers.items()}
    first = next(iter(bins.values()))
    rows = []
    for place, (lower, upper) in enumerate(zip(first["lower"], first["upper"], strict=True)):
        if not any(each["count"][place] for each in bins.values()):
            continue
        cells = [f"{lower:.3f} - {upper:.3f}"]
        for each in bins.values():
            cells.append(str(each["count"][place]))
            cells += [number(each[column][place], 3) for column in ("confidence_mean", "accuracy")]
        rows.append(cells)
    columns = ["confidence"]
    for name in bins:
        columns += [f"{name} rows", "confidence", "accuracy"]
    return table(columns, rows)


def hardest(asked: Asked, name: str, held_out: HeldOut) -> str:
    """Return the images of largest loss, drawn."""
    answer = asked.answers[name]["hardest"]
    blocks = []
    for place, row in enumerate(answer["row"]):
        caption = [
            f"row {row}: a {answer['label'][place]}",
            f"read as {answer['prediction'][place]}, p {number(answer['probability'][place], 3)}",
            f"loss {number(answer['loss'][place], 3)}",
            "",
        ]
        blocks.append([*caption, *picture(held_out.images[row].tolist())])
    return f"{heading(f'Hardest images: {asked.variant}, {name}')}\n{side_by_side(blocks)}"


def compared(inquiry: Inquiry) -> str:
    """Return what ``/compare`` answers."""
    names = list(inquiry.compared)
    rows = []
    for results in zip(*(inquiry.compared[name]["results"] for name in names), strict=True):
        losses = [number(result["loss"]) for result in results]
        change = (results[-1]["loss"] - results[0]["loss"]) / results[0]["loss"]
        rows.append([results[0]["name"], *losses, f"{change:+.1%}"])
    columns = ["variant", *names, f"{names[-1]} against {names[0]}"]
    pairs = inquiry.compared[names[0]]["pairs"]
    apart = [pair["reason"] for pair in pairs if not pair["comparable"]]
    why = f" ({', '.join(sorted(set(apart)))})" if apart else ""
    note = paragraph(
        "All variants on the same integer labels, in one pass. Compare classifiers along a row; of "
        f"the {len(pairs)} pairs of variants the service calls {len(apart)} not comparable{why}."
    )
    return f"{heading('Compare')}\n{note}\n\n{table(columns, rows)}"
