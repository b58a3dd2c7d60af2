"""What is asked: every variant, every form of labels, both classifiers, both wire formats."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from demo.batches import Batch, batches
from demo.client import Answer, Client, Refused, difference
from demo.digits import HeldOut

CLASS_NAMES: Final = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
]
DOCUMENT: Final = {
    "outputs": ["per_class", "calibration", "hardest"],
    "class_names": CLASS_NAMES,
    "k": 4,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One variant on one form of labels.

    Attributes:
        variant: its slug.
        form: of the labels.
        answers: by classifier; empty where the variant refused.
        refusal: its sentence, or "".
    """

    variant: str
    form: str
    answers: Mapping[str, Answer]
    refusal: str


@dataclass(slots=True)
class Inquiry:
    """Everything that was answered.

    Attributes:
        asked: variant by variant, form by form.
        compared: the answer of ``/compare`` on integer labels, by classifier.
        exchanges: answers that came in both wire formats.
        difference: the largest one between the two.
    """

    asked: list[Asked] = field(default_factory=list)
    compared: dict[str, Answer] = field(default_factory=dict)
    exchanges: int = 0
    difference: float = 0.0

    def on(self, form: str) -> list[Asked]:
        """Return what was answered, not refused, on one form of labels."""
        return [each for each in self.asked if each.form == form and each.answers]


def inquire(client: Client, held_out: HeldOut) -> Inquiry:
    """Ask everything."""
    inquiry = Inquiry()
    forms = {name: batches(logits, held_out.labels) for name, logits in held_out.logits.items()}
    variants = client.variants()
    for variant in variants:
        inquiry.asked += _each_form(client, inquiry, variant, forms)
    taking = {each.variant for each in inquiry.on("integer")}
    items = [_item(variant) for variant in variants if variant["variant"] in taking]
    for name, (integer, *_) in forms.items():
        document = {**DOCUMENT, "variants": items}
        inquiry.compared[name] = _both_ways(client, inquiry, "/compare", integer, document)
    return inquiry


def _each_form(
    client: Client, inquiry: Inquiry, variant: Answer, forms: Mapping[str, Sequence[Batch]]
) -> Iterator[Asked]:
    item = _item(variant)
    path, document = f"/loss/{item['variant']}", {**DOCUMENT, "settings": item["settings"]}
    for same_form in zip(*forms.values(), strict=True):
        answers, refusal = {}, ""
        for name, batch in zip(forms, same_form, strict=True):
            try:
                answers[name] = _both_ways(client, inquiry, path, batch, document)
            except Refused as error:
                refusal = str(error)
        yield Asked(item["variant"], same_form[0].form, answers, refusal)


def _both_ways(
    client: Client, inquiry: Inquiry, path: str, batch: Batch, document: Mapping[str, object]
) -> Answer:
    by_json = client.by_json(path, batch, document)
    by_safetensors = client.by_safetensors(path, batch, document)
    inquiry.exchanges += 1
    found = difference(_whatever_the_arithmetic(by_json), _whatever_the_arithmetic(by_safetensors))
    inquiry.difference = max(inquiry.difference, found)
    return by_json


def _whatever_the_arithmetic(answer: Answer) -> Answer:
    """Return an answer without what depends on losses that vanish: in float32 they do so sooner."""
    if "results" in answer:
        results = [_whatever_the_arithmetic(each) for each in answer["results"]]
        # Rows whose losses vanish are tied; those that do not yet have ranks of their own.
        pairs = [{key: pair[key] for key in pair if key != "spearman"} for pair in answer["pairs"]]
        return {**answer, "results": results, "pairs": pairs}
    kept = [each for each in answer["diagnostics"] if each["code"] != "saturated"]
    return {**answer, "diagnostics": kept}


def _item(variant: Answer) -> dict[str, Any]:
    """Return a variant with settings: the defaults, and a choice where there is none."""
    schema = variant["settings"]
    settings = {}
    for name in schema.get("required", ()):
        field = schema["properties"][name]
        listed = [option["enum"][0] for option in field.get("anyOf", [field]) if "enum" in option]
        # A setting that lists no values is left out; the service then says what it wants.
        if listed:
            settings[name] = listed[0]
    return {"variant": variant["variant"], "settings": settings}
