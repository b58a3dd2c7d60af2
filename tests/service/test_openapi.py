"""The OpenAPI document: committed, valid, complete, and no promise that is not kept."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import validate

from service import openapi
from service.app import create_app
from service.history import times
from service.schema.variants import settings_model
from service.settings import Settings
from service.version import VERSION
from tests.service.harness import BATCH
from xentcore import OUTPUTS, VARIANTS

Document = dict[str, Any]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def document() -> Document:
    parsed: Document = json.loads(openapi.text(create_app(Settings())))
    return parsed


def schema(document: Document, name: str) -> Draft202012Validator:
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    )


def test_the_committed_document_is_current() -> None:
    committed = (ROOT / "openapi" / "openapi.json").read_text()
    assert committed == openapi.text(create_app(Settings())), "run: make openapi"


def test_the_document_is_made_once() -> None:
    app = create_app(Settings())
    assert app.openapi() is app.openapi()


def test_a_setting_of_a_type_without_a_schema_is_a_mistake_of_its_author() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Odd(type(VARIANTS["focal"]).settings_type):  # type: ignore[misc]
        odd: bytes = b""

    variant = type("OddVariant", (type(VARIANTS["focal"]),), {"settings_type": Odd})()
    with pytest.raises(TypeError, match="no schema for a setting of type"):
        settings_model(variant)


def test_the_document_is_valid(document: Document) -> None:
    validate(document)


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION


def test_there_is_one_operation_per_variant(document: Document) -> None:
    ids = {
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    }
    losses = {f"loss_{slug.replace('-', '_')}" for slug in VARIANTS}
    models = {"v2_model", "v2_model_ready", "v2_model_config", "v2_model_stats", "v2_infer"}
    protocol = {"v2", "v2_live", "v2_ready", "v2_index", "v2_stats"}
    regions = {"v2_region_register", "v2_region_unregister", "v2_region_status"}
    regions |= {"v2_regions_unregister", "v2_regions_status"}
    others = {
        "compare",
        "labels",
        "variants",
        "variant",
        "variant_onnx",
        "live",
        "ready",
        "metrics",
    }
    served = {"models", "model", "model_upload", "model_delete", "model_loss", "model_compare"}
    asking = {"projects", "series", "timeseries", "options"}
    asking |= {"classes", "hardest", "calibration", "histogram"}
    asking |= {"annotations", "note_create", "note_delete", "export"}
    watching = {"compare_history", "alerts", "alert_create", "alert_delete"}
    known = losses | models | protocol | regions | others | served | asking | watching
    assert ids == known


@pytest.mark.parametrize("slug", sorted(VARIANTS))
def test_examples_fit_their_schema_and_work(
    document: Document, client: httpx2.Client, slug: str
) -> None:
    operation = document["paths"][f"/loss/{slug}"]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    name = content["schema"]["$ref"].rpartition("/")[2]
    example = content["examples"]["evaluate"]["value"]
    schema(document, name).validate(example)
    outputs = [output for output in OUTPUTS if output != "row_statistics"]
    answer = client.post(f"/loss/{slug}", json={**example, "outputs": outputs})
    schema(document, "LossAnswer").validate(answer.json())


@pytest.mark.parametrize("path", ["/compare", "/loss/sparse", "/loss/binary", "/loss/ordinal"])
def test_tracked_examples_fit_their_schema_and_work(
    document: Document, client: httpx2.Client, path: str
) -> None:
    operation = document["paths"][path]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    name = content["schema"]["$ref"].rpartition("/")[2]
    example = content["examples"]["track"]["value"]
    schema(document, name).validate(example)
    # As written it is too old some day, and a comparison has the batches of its variants.
    example["track"] |= {"event_time": times.text(times.now()), "batch_id": path}
    answer = client.post(path, json=example)
    assert answer.status_code == 200, answer.text
    kind = "CompareAnswer" if path == "/compare" else "LossAnswer"
    schema(document, kind).validate(answer.json())


def test_the_example_of_late_labels_fits_and_works(
    document: Document, client: httpx2.Client
) -> None:
    content = document["paths"]["/labels"]["post"]["requestBody"]["content"]["application/json"]
    example = content["example"]
    schema(document, "LabelsRequest").validate(example)
    names = ("project", "model", "model_version", "batch_id")
    tracked = {
        **{name: example[name] for name in names},
        "project": "late",
        "event_time": times.text(times.now()),
        "label_schema": {"name": "classes", "classes": ["a", "b", "c", "d"]},
        "pending": True,
    }
    pending = {"logits": BATCH["logits"], "track": tracked}
    schema(document, "SparseRequest").validate(pending)
    assert client.post("/loss/sparse", json=pending).status_code == 200
    answer = client.post("/labels", json={**example, "project": "late"})
    assert answer.status_code == 200, answer.text
    schema(document, "LabelsAnswer").validate(answer.json())


def test_the_comparison_and_problems_fit_their_schema(
    document: Document, client: httpx2.Client
) -> None:
    content = document["paths"]["/compare"]["post"]["requestBody"]["content"]["application/json"]
    example = content["examples"]["evaluate"]["value"]
    schema(document, "CompareRequest").validate(example)
    answer = client.post("/compare", json=example)
    schema(document, "CompareAnswer").validate(answer.json())
    schema(document, "Problem").validate(client.post("/compare", json=BATCH).json())


def test_inference_requests_fit_their_schema(document: Document, client: httpx2.Client) -> None:
    operation = document["paths"]["/v2/models/{model}/infer"]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    schema(document, "InferenceRequest").validate(content["example"])
    answer = client.post("/v2/models/sparse/infer", json=content["example"])
    assert answer.status_code == 200
    schema(document, "InferenceAnswer").validate(answer.json())
    problem = client.post("/v2/models/sparse/infer", json={})
    schema(document, "InferenceProblem").validate(problem.json())


def test_settings_are_described_with_their_ranges(document: Document) -> None:
    focal = document["components"]["schemas"]["FocalSettings"]
    assert focal["properties"]["gamma"]["minimum"] == 0
    assert focal["properties"]["gamma"]["default"] == 2.0
    assert focal["additionalProperties"] is False
    for slug, variant in VARIANTS.items():
        name = "".join(part.capitalize() for part in slug.split("-"))
        properties = document["components"]["schemas"][f"{name}Settings"]["properties"]
        assert set(properties) == set(variant.settings_type.__dataclass_fields__)
        assert all(each["description"] for each in properties.values())


def test_variants_are_listed(client: httpx2.Client) -> None:
    pages = client.get("/variants").json()["variants"]
    assert [page["variant"] for page in pages] == list(VARIANTS)
    page = client.get("/variants/focal").json()
    assert page in pages
    assert page["settings"]["properties"]["gamma"]["default"] == 2.0
    assert page["families"] == ["softmax", "sigmoid"]
