"""``GET /variants/{variant}/onnx``, and what its models compute beside what the service answers."""

import json
from collections.abc import Mapping
from typing import Any

import httpx2
import numpy as np
import onnxruntime
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from onnx import load_from_string

from xentcore import VARIANTS

EXAMPLES = sorted(VARIANTS)


def get(client: httpx2.Client, slug: str, query: str) -> httpx2.Response:
    return client.get(f"/variants/{slug}/onnx?{query}")


def settings_of(client: httpx2.Client, slug: str, query: str) -> dict[str, Any]:
    answer = get(client, slug, query)
    assert answer.status_code == 200, answer.text
    said = {each.key: each.value for each in load_from_string(answer.content).metadata_props}
    settings: dict[str, Any] = json.loads(said["settings"])
    return settings


def problem(answer: httpx2.Response, status: int) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return {each["pointer"]: each["message"] for each in answer.json()["errors"]}


def as_query(settings: Mapping[str, object]) -> dict[str, str]:
    return {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in settings.items()
    }


@pytest.mark.parametrize("slug", EXAMPLES)
def test_the_model_of_every_example_computes_what_the_service_answers(
    client: httpx2.Client, slug: str
) -> None:
    example: Any = VARIANTS[slug].example
    answer = client.post(f"/loss/{slug}", json={**example, "outputs": ["per_sample", "gradient"]})
    asked = answer.json()
    logits = np.array(example["logits"], dtype=np.float32)
    parameters = {**as_query(example["settings"]), "label_kind": asked["label_kind"]}
    query = str(httpx2.QueryParams({**parameters, "classes": str(logits.shape[1])}))
    model = get(client, slug, query)
    assert model.status_code == 200, model.text
    session = onnxruntime.InferenceSession(model.content, providers=["CPUExecutionProvider"])
    kind = np.int64 if asked["label_kind"] == "integer" else np.float32
    inputs = {"logits": logits, "labels": np.array(example["labels"], dtype=kind)}
    outputs = ["loss", "mean", "denominator", "gradient"]
    loss, mean, denominator, gradient = session.run(outputs, inputs)
    # The service reads JSON as float64 and computes in it; the model is given float32.
    np.testing.assert_allclose(mean, asked["loss"], rtol=1e-6)
    np.testing.assert_allclose(denominator, asked["reduction"]["denominator"], rtol=1e-12)
    np.testing.assert_allclose(loss, asked["per_sample"], rtol=1e-6)
    np.testing.assert_allclose(gradient, asked["gradient"], rtol=2e-6, atol=1e-8)


def test_a_model_is_a_file_that_says_when_it_has_changed(client: httpx2.Client) -> None:
    answer = get(client, "focal", "classes=10&gamma=1.5")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == 'attachment; filename="focal.onnx"'
    assert answer.headers["cache-control"] == "no-cache"
    tag = answer.headers["etag"]
    assert get(client, "focal", "gamma=1.5&classes=10").headers["etag"] == tag
    assert get(client, "focal", "classes=10&gamma=1.25").headers["etag"] != tag
    for known in (tag, f"W/{tag}", f'"another", {tag}', "*"):
        same = client.get(
            "/variants/focal/onnx?classes=10&gamma=1.5", headers={"if-none-match": known}
        )
        assert (same.status_code, same.content) == (304, b"")
        assert same.headers["etag"] == tag
    changed = client.get(
        "/variants/focal/onnx?classes=10&gamma=1.5", headers={"if-none-match": '"another"'}
    )
    assert changed.content == answer.content


@pytest.mark.parametrize(
    ("slug", "query", "expected"),
    [
        ("focal", "classes=2", {"gamma": 2.0, "alpha": None, "activation": "auto"}),
        ("focal", "classes=2&gamma=3", {"gamma": 3}),
        ("focal", "classes=2&gamma=1e-1&alpha=.25", {"gamma": 0.1, "alpha": 0.25}),
        ("focal", "classes=2&alpha=.25,1.5", {"alpha": [0.25, 1.5]}),
        ("focal", "classes=2&alpha=.25&alpha=1", {"alpha": [0.25, 1]}),
        ("focal", "classes=2&alpha=none", {"alpha": None}),
        ("sparse", "classes=3&class_weights=1,%202,3", {"class_weights": [1, 2, 3]}),
        ("sparse", "classes=3&class_weights=null", {"class_weights": None}),
        ("ordinal", "classes=1&class_weights=2", {"class_weights": [2]}),
        ("weighted", "classes=2&class_weights=3,4", {"class_weights": [3, 4]}),
        (
            "weighted",
            "classes=2&class_weights=balanced&class_counts=1&class_counts=9",
            {"class_weights": "balanced", "class_counts": [1, 9]},
        ),
        ("label-smoothing", "classes=2&spread=others", {"spread": "others", "smoothing": 0.1}),
    ],
)
def test_settings_are_parameters(
    client: httpx2.Client, slug: str, query: str, expected: dict[str, object]
) -> None:
    assert settings_of(client, slug, query).items() >= expected.items()


def test_nothing_may_be_left_out(client: httpx2.Client) -> None:
    for text in ("none", "null"):
        answer = get(client, "sparse", f"classes=3&ignore_index={text}")
        said = {each.key: each.value for each in load_from_string(answer.content).metadata_props}
        assert said["ignore_index"] == "null"


@pytest.mark.parametrize(
    ("slug", "query", "pointer", "words"),
    [
        ("focal", "", "/classes", "field required"),
        ("focal", "classes=ten", "/classes", "valid integer"),
        ("focal", "classes=2.5", "/classes", "valid integer"),
        ("focal", "classes=0", "/classes", "greater than or equal to 1"),
        ("focal", "classes=2&gamma=-1", "/gamma", "greater than or equal to 0"),
        ("focal", "classes=2&gamma=nan", "/gamma", "valid number"),
        ("focal", "classes=2&gamma=1e999", "/gamma", "finite number"),
        ("focal", "classes=2&gamma=", "/gamma", "valid number"),
        ("focal", "classes=2&gamma=1&gamma=2", "/gamma", "more than once"),
        ("focal", "classes=2&classes=3", "/classes", "more than once"),
        ("focal", "classes=2&gama=1", "/gama", "known are classes, label_kind, ignore_index, ga"),
        ("focal", "classes=2&activation=relu", "/activation", "'auto', 'softmax' or 'sigmoid'"),
        ("focal", "classes=2&label_kind=hot", "/label_kind", "'multi_hot'"),
        ("focal", "classes=2&ignore_index=99999999999999999999", "/ignore_index", "less than"),
        ("focal", "classes=2&alpha=1,2,3", "/alpha", "3 entries for 2 classes"),
        ("focal", "classes=1", "/classes", "use /variants/binary/onnx"),
        ("binary", "classes=3&label_kind=binary", "/label_kind", "use label_kind multi_hot"),
        ("sparse", "classes=2&class_weights=1,x", "/class_weights", "valid number"),
        ("weighted", "classes=2", "/class_weights", "field required"),
        ("ldam", "classes=2", "/class_counts", "give class_counts"),
        ("ldam", "classes=2&class_counts=1,2&scale=1000", "/max_margin", "at most 60"),
        ("ldam", "classes=2&class_counts=1,0", "/class_counts", "greater than or equal to 1"),
        ("sparse", "classes=2&ignore_index=1&label_kind=one_hot", "", "use /loss/categorical"),
        ("focal", "classes=2&ignore_index=1&label_kind=one_hot", "/ignore_index", "is a class"),
    ],
)
def test_what_is_not_meaningful_is_named(
    client: httpx2.Client, slug: str, query: str, pointer: str, words: str
) -> None:
    answer = get(client, slug, query)
    faults = problem(answer, 422)
    message = next((text for at, text in faults.items() if at.startswith(pointer)), "")
    assert words in (message if pointer else answer.json()["detail"]), answer.text


def test_more_classes_than_a_batch_may_have_are_too_many(client: httpx2.Client) -> None:
    answer = get(client, "focal", "classes=2001")
    problem(answer, 413)
    assert answer.json()["detail"] == "2001 classes: at most 2000 are allowed"
    assert get(client, "focal", "classes=2000").status_code == 200


def test_the_name_of_an_unknown_parameter_is_not_repeated_at_length(client: httpx2.Client) -> None:
    answer = get(client, "focal", f"classes=2&{'x' * 1000}=1")
    assert "x" * 65 not in answer.text


def test_an_unknown_variant_is_a_404_that_names_the_known(client: httpx2.Client) -> None:
    answer = get(client, "focl", "classes=2")
    problem(answer, 404)
    assert "did you mean 'focal'?" in answer.json()["detail"]


def test_the_answers_are_those_that_the_documentation_promises(client: httpx2.Client) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/variants/{variant}/onnx"]["get"]
    assert set(operation["responses"]) == {"200", "304", "404", "413", "422"}
    names = [(each["name"], each["in"], each["required"]) for each in operation["parameters"]]
    assert names == [
        ("variant", "path", True),
        ("classes", "query", True),
        ("label_kind", "query", False),
        ("ignore_index", "query", False),
        ("settings", "query", False),
    ]
    problem_schema = {"$ref": "#/components/schemas/Problem", "components": document["components"]}
    Draft202012Validator(problem_schema).validate(get(client, "focal", "").json())
