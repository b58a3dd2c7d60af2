"""``onnx_model(wanted)``: a variant under settings as an ONNX model."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Final

from onnx import ModelProto, checker, helper

from service.errors import NoGraph
from service.graphs.expression import DOUBLE, FLOAT, OPSET, Graph, Value, where
from service.graphs.labels import Labels, read_labels
from service.graphs.registry import LOSSES, Loss
from service.graphs.sigmoid import Elements
from service.graphs.softmax import Rows
from service.graphs.wanted import Wanted
from service.version import VERSION
from xentcore import InvalidSetting, Settings, ShapeMismatch

# The version of the file format that came with the operators' version.
_IR_VERSION: Final = 8


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """What a family's pass makes of a batch.

    Attributes:
        loss: (rows, 1).
        gradient: of each row's loss, (rows, classes).
        share: what rows add to the denominator of the mean; broadcasts to (rows, 1).
    """

    loss: Value
    gradient: Value
    share: Value


def onnx_model(wanted: Wanted) -> bytes:
    """Return the model, as it is written to a file.

    Raises:
        NoGraph: there is none for this variant.
        InvalidSetting, LabelKindRefused, ShapeMismatch: the settings do not fit the classes, or
            each other, or the labels.
    """
    variant, kind = wanted.variant, wanted.kind
    if variant.slug not in LOSSES:
        raise NoGraph(f"{variant.slug} has no graph; with one: {', '.join(LOSSES)}")
    _check(wanted)
    resolved = variant.resolve(wanted.settings, None)
    graph = Graph()
    logits = graph.input("logits", FLOAT, ["rows", wanted.classes], "logits of every row")
    reading = variant.reading(wanted.settings, kind)
    labels = read_labels(
        graph, kind, reading, classes=wanted.classes, ignore_index=wanted.ignore_index
    )
    evaluate = _softmax if reading == "classes" else _sigmoid
    found = evaluate(wanted, resolved, LOSSES[variant.slug], logits.cast(DOUBLE), labels)
    _reduce(graph, labels, found, wanted.classes)
    model = _described(graph, wanted)
    checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _check(wanted: Wanted) -> None:
    """Check that settings, classes and labels fit each other."""
    variant, settings, kind = wanted.variant, wanted.settings, wanted.kind
    settings.check_classes(wanted.classes)
    variant.check_labels(settings, kind)
    if variant.family(settings, kind) == "softmax" and wanted.classes == 1:
        raise ShapeMismatch(
            "softmax over one class is constant: use /variants/binary/onnx", pointer="/classes"
        )
    if kind == "binary" and wanted.classes != 1:
        raise ShapeMismatch(
            f"binary labels have one column, and classes is {wanted.classes}: "
            "use label_kind multi_hot",
            pointer="/label_kind",
        )
    if kind != "integer" and wanted.ignore_index is not None and wanted.ignore_index >= 0:
        raise InvalidSetting(
            f"ignore_index {wanted.ignore_index} is a class, and labels are {kind}: "
            "use a negative ignore_index",
            pointer="/ignore_index",
        )
    if variant.needs_class_counts(settings):
        raise InvalidSetting(
            "a graph does not know how many rows each class has: give class_counts",
            pointer="/class_counts",
        )


def _softmax(
    wanted: Wanted, resolved: Settings, loss: Loss, logits: Value, labels: Labels
) -> _Evaluated:
    if loss.rows is None:
        raise NoGraph(f"{wanted.variant.slug} has no graph over softmax: use activation sigmoid")
    changed = wanted.variant.transformation(resolved, None)
    rows = Rows(
        graph=logits.graph,
        logits=logits,
        classes=wanted.classes,
        label=labels.index,
        targets=labels.targets,
        weights=wanted.variant.class_weights(resolved),
        scale=1.0 if changed is None else changed.scale,
        offsets=None if changed is None else changed.offsets,
    )
    terms = loss.rows(rows, resolved)
    whole = (logits < math.inf).row_all()  # neither NaN nor +inf
    found = where(whole, where(rows.blank, math.inf, terms.loss), math.nan)
    return _Evaluated(found, rows.gradient(terms), rows.denominator())


def _sigmoid(
    wanted: Wanted, resolved: Settings, loss: Loss, logits: Value, labels: Labels
) -> _Evaluated:
    if loss.elements is None or labels.targets is None:
        raise NoGraph(f"{wanted.variant.slug} has no graph over sigmoid: use activation softmax")
    block = Elements(logits.graph, logits, wanted.classes, labels.targets)
    terms = loss.elements(block, resolved)
    whole = (logits <= math.inf).row_all()  # not NaN
    found = where(whole, block.losses(terms).row_sum(), math.nan)
    return _Evaluated(found, terms.gradient, logits.graph.number(wanted.classes))


def _reduce(graph: Graph, labels: Labels, found: _Evaluated, classes: int) -> None:
    """Write the outputs: as the service's, under ``nonfinite: exclude``."""
    loss = where(labels.ignored, 0.0, where(labels.valid, found.loss, math.nan))
    # Rows without a finite loss show it in theirs, and are no part of the mean. Of a label that is
    # none the mean must not be silent, and a graph has no other way to say so.
    finite = (loss.abs() < math.inf) & ~labels.ignored
    summed = finite | ~(labels.valid | labels.ignored)
    total = where(summed, loss, 0.0).total()
    denominator = where(finite, found.share, 0.0).total()
    factor = where(denominator.equals(0.0), 0.0, 1.0 / denominator)
    gradient = where(finite, found.gradient * factor, where(summed, math.nan, 0.0))
    graph.output("loss", loss.as_vector(), ["rows"], "of each row, nats; 0 where it is left out")
    graph.output("gradient", gradient, ["rows", classes], "of the mean by the logits")
    graph.output("mean", total / denominator, [], "sum / denominator; NaN where that is 0 / 0")
    graph.output("sum", total, [], "of the losses that are finite, nats")
    graph.output("denominator", denominator, [], "what the mean divides by; adds up over batches")


def _described(graph: Graph, wanted: Wanted) -> ModelProto:
    variant, kind = wanted.variant, wanted.kind
    family = variant.family(wanted.settings, kind)
    words = f"{variant.summary}. Loss: {variant.formula}. Source: {variant.source}."
    model = helper.make_model(
        graph.proto(variant.slug, words),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="xent",
        producer_version=VERSION,
        doc_string=words,
    )
    helper.set_model_props(
        model,
        {
            "variant": variant.slug,
            "family": family,
            "settings": json.dumps(asdict(wanted.settings)),
            "classes": str(wanted.classes),
            "label_kind": kind,
            "ignore_index": json.dumps(wanted.ignore_index),
            "normaliser": "weights" if family == "softmax" else "elements",
            "formula": variant.formula,
            "gradient": variant.gradient,
            "source": variant.source,
        },
    )
    return model
