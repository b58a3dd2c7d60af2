"""What a model is made of, what it says of itself, and what there is none of."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, checker, helper, load_from_string

from service.errors import NoGraph
from service.graphs import model as made
from service.graphs.model import onnx_model
from service.graphs.registry import LOSSES, Loss
from service.version import VERSION
from tests.service.graphs.computed import compute, wanted
from tests.xentcore.conftest import name_of, spec
from tests.xentcore.oracle import CASES, CLASSES, Case
from xentcore import VARIANTS, InvalidSetting, LabelKindRefused, ShapeMismatch, Spec

ONE_KIND = pytest.mark.parametrize("case", CASES, ids=name_of)


def test_every_variant_has_a_graph_in_each_of_its_families() -> None:
    assert set(LOSSES) == set(VARIANTS)
    for slug, loss in LOSSES.items():
        has = {"softmax": loss.rows is not None, "sigmoid": loss.elements is not None}
        assert {family for family, is_there in has.items() if is_there} == set(
            VARIANTS[slug].families
        )


@ONE_KIND
def test_models_are_standard_and_whole(case: Case) -> None:
    kind = case.labels[0]
    classes = 1 if kind == "binary" else CLASSES
    asked = wanted(case.spec, classes, kind)
    content = onnx_model(asked)
    model = load_from_string(content)
    checker.check_model(model, full_check=True)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    assert not model.functions
    assert all(node.domain == "" for node in model.graph.node)
    assert all(tensor.data_location == TensorProto.DEFAULT for tensor in model.graph.initializer)
    assert [each.name for each in model.graph.input] == ["logits", "labels"]
    assert [each.name for each in model.graph.output] == [
        "loss",
        "gradient",
        "mean",
        "sum",
        "denominator",
    ]
    assert all(each.doc_string for each in [*model.graph.input, *model.graph.output])
    rows, columns = model.graph.input[0].type.tensor_type.shape.dim
    assert (rows.dim_param, columns.dim_value) == ("rows", classes)
    assert content == onnx_model(asked), "the same bytes, whenever it is asked for"
    assert len(content) < 30_000


@ONE_KIND
def test_models_say_what_they_are(case: Case) -> None:
    kind = case.labels[0]
    asked = wanted(case.spec, 1 if kind == "binary" else CLASSES, kind)
    model = load_from_string(onnx_model(asked))
    variant = VARIANTS[case.slug]
    said = {each.key: each.value for each in model.metadata_props}
    settings = json.loads(said.pop("settings"))
    given = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    assert variant.settings_type(**given) == asked.settings
    family = variant.family(asked.settings, kind)
    assert said == {
        "variant": case.slug,
        "family": family,
        "classes": str(asked.classes),
        "label_kind": kind,
        "ignore_index": "-100",
        "normaliser": {"softmax": "weights", "sigmoid": "elements"}[family],
        "formula": variant.formula,
        "gradient": variant.gradient,
        "source": variant.source,
    }
    assert (model.producer_name, model.producer_version) == ("xent", VERSION)
    assert model.graph.name == case.slug
    for words in (variant.summary, variant.formula, variant.source):
        assert words in model.doc_string


def test_a_model_does_not_grow_with_its_classes() -> None:
    small, large = (onnx_model(wanted(spec("focal"), classes)) for classes in (2, 1 << 20))
    assert len(large) - len(small) < 100


def test_labels_are_the_first_kind_that_the_variant_names_but_one_column() -> None:
    kinds = {slug: wanted(Spec(slug), 3).kind for slug in VARIANTS if slug != "weighted"}
    assert kinds["sparse"] == kinds["focal"] == kinds["ordinal"] == "integer"
    assert kinds["categorical"] == "one_hot"
    assert kinds["binary"] == kinds["asymmetric"] == "multi_hot"
    assert kinds["quality-focal"] == "probabilities"


WEIGHTS = (0.5, 1.0, 2.0, 0.0)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("ignore_index", [-100, 2, None])
def test_the_standards_own_operator_agrees(
    weights: tuple[float, ...] | None, ignore_index: int | None
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(64, 4, generator=generator)
    labels = torch.randint(4, (64,), generator=generator)
    if ignore_index == -100:
        labels[::5] = -100
    found = compute(
        wanted(spec("sparse", class_weights=weights), 4, ignore_index=ignore_index), logits, labels
    )
    loss, mean = (
        own_operator(reduction, weights, ignore_index, logits.numpy(), labels.numpy())
        for reduction in ("none", "mean")
    )
    np.testing.assert_allclose(found.loss, loss, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6)


def own_operator(
    reduction: str,
    weights: tuple[float, ...] | None,
    ignore_index: int | None,
    logits: np.ndarray,
    labels: np.ndarray,
) -> np.ndarray:
    inputs = ["logits", "labels"] if weights is None else ["logits", "labels", "weights"]
    ignoring: dict[str, Any] = {} if ignore_index is None else {"ignore_index": ignore_index}
    node = helper.make_node(
        "SoftmaxCrossEntropyLoss", inputs, ["loss"], reduction=reduction, **ignoring
    )
    graph = helper.make_graph(
        [node],
        "own",
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 4]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["rows"]),
        ],
        [helper.make_tensor_value_info("loss", TensorProto.FLOAT, None)],
        []
        if weights is None
        else [helper.make_tensor("weights", TensorProto.FLOAT, [4], list(weights))],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(
        content.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: np.ndarray = session.run(None, {"logits": logits, "labels": labels})[0]
    return found


def test_what_does_not_fit_is_refused_with_the_way_out() -> None:
    with pytest.raises(ShapeMismatch, match="use /variants/binary/onnx"):
        onnx_model(wanted(spec("sparse"), 1))
    with pytest.raises(ShapeMismatch, match="use label_kind multi_hot"):
        onnx_model(wanted(spec("binary"), 3, "binary"))
    with pytest.raises(LabelKindRefused, match="use /loss/sparse"):
        onnx_model(wanted(spec("categorical"), 3, "integer"))
    with pytest.raises(InvalidSetting, match="use activation 'sigmoid'"):
        onnx_model(wanted(spec("focal", activation="softmax"), 3, "multi_hot"))
    with pytest.raises(InvalidSetting, match="2 entries for 3 classes"):
        onnx_model(wanted(spec("sparse", class_weights=(1.0, 2.0)), 3))
    with pytest.raises(InvalidSetting, match="use a negative ignore_index"):
        onnx_model(wanted(spec("categorical"), 3, "one_hot", ignore_index=1))


@pytest.mark.parametrize(
    "asked",
    [
        spec("balanced-softmax"),
        spec("logit-adjusted"),
        spec("ldam"),
        spec("class-balanced"),
        spec("weighted", class_weights="balanced"),
    ],
    ids=name_of,
)
def test_counts_that_only_a_batch_has_must_be_given(asked: Spec) -> None:
    with pytest.raises(InvalidSetting, match="give class_counts"):
        onnx_model(wanted(asked, 3))


def test_a_variant_without_a_graph_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "LOSSES", {"focal": Loss()})
    with pytest.raises(NoGraph, match="sparse has no graph; with one: focal"):
        onnx_model(wanted(spec("sparse"), 3))
    with pytest.raises(NoGraph, match="no graph over softmax: use activation sigmoid"):
        onnx_model(wanted(spec("focal"), 3))
    with pytest.raises(NoGraph, match="no graph over sigmoid: use activation softmax"):
        onnx_model(replace(wanted(spec("focal"), 3), label_kind="multi_hot"))
