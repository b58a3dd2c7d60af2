"""The OpenAPI document: operations from the registry, components from the schema models."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service import problems
from service.history.annotations import Note
from service.history.rules import Rule
from service.schema.alerts import WebhookMessage
from service.schema.answer import CompareAnswer, LossAnswer, Problem
from service.schema.document import Document
from service.schema.kserve import (
    InferenceAnswer,
    InferenceProblem,
    InferenceRequest,
    RegionRequest,
    example_of,
)
from service.schema.models import Base64Tensor, features_models, labels_model, with_tensors
from service.schema.variants import camel
from service.wire import arrow, json, safetensors
from xentcore import LABEL_KINDS, VARIANTS, Variant

COMPONENTS: Final = "#/components/schemas/"
EVALUATION_STATUSES: Final = (400, 401, 403, 408, 409, 413, 415, 422, 429, 503)
LABELS_STATUSES: Final = (400, 401, 403, 404, 408, 409, 410, 413, 415, 422, 429, 503)
TITLES: Final[Mapping[int, str]] = {
    400: "The bytes are not what they claim to be",
    401: "Missing or wrong key",
    403: "Key without the scope",
    404: "Unknown variant, model, batch, project, annotation or alert",
    408: "Body not complete within the deadline",
    409: "There already, and not the same",
    410: "The logits are not kept, or no longer",
    413: "More bytes, rows, classes or elements than allowed",
    415: "Media type or encoding not supported",
    422: "Understood, but not meaningful",
    429: "Queue full",
    503: "Starting, draining, out of time, or out of device memory",
}
KEYS: Final[list[dict[str, list[str]]]] = [{}, {"key": []}]
LENGTH: Final = "Inference-Header-Content-Length"
BINARY: Final = {"type": "string", "format": "binary"}
DESCRIPTION: Final = (
    "Cross-entropy losses with stated conventions: POST a batch of logits and labels, get the "
    "loss, its gradient and the per-class breakdown. Losses are in nats. "
    "JSON, safetensors for tensors that are read in place, or Arrow streams of record batches; "
    "gzip, deflate and zstd bodies."
)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the responses of these statuses."""
    return {
        status: {
            "description": TITLES[status],
            "content": {problems.MEDIA_TYPE: {"schema": _ref("Problem")}},
        }
        for status in statuses
    }


def inference_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the responses of these statuses, as the inference protocol has them."""
    content = {json.MEDIA_TYPE: {"schema": _ref("InferenceProblem")}}
    return {status: {"description": TITLES[status], "content": content} for status in statuses}


def json_body(model: str) -> dict[str, Any]:
    """Return a body that is JSON."""
    return {"required": True, "content": {json.MEDIA_TYPE: {"schema": _ref(model)}}}


def inference_operation() -> dict[str, Any]:
    """Return the body and answers of an inference request."""
    binary = {"application/octet-stream": {"schema": BINARY}}
    body = json_body("InferenceRequest")
    body["content"][json.MEDIA_TYPE]["example"] = example_of(VARIANTS["sparse"])
    length = {
        "description": "Bytes of the JSON where binary data follows it; else absent.",
        "schema": {"type": "integer"},
    }
    problems_here = inference_problems(404, *EVALUATION_STATUSES)
    return {
        "parameters": [{"name": LENGTH, "in": "header", "required": False, **length}],
        "requestBody": {**body, "content": {**body["content"], **binary}},
        "responses": {
            "200": {
                "description": "The outputs that were asked for.",
                "headers": {LENGTH: length},
                "content": {json.MEDIA_TYPE: {"schema": _ref("InferenceAnswer")}, **binary},
            },
            **{str(status): each for status, each in problems_here.items()},
        },
        "security": [{}, {"key": []}],
    }


def loss_operation(variant: Variant[Any]) -> dict[str, Any]:
    """Return what the framework cannot know of an operation that reads its body itself."""
    example = dict(variant.example)
    return _operation(f"{camel(variant.slug)}Request", "LossAnswer", example)


def compare_operation() -> dict[str, Any]:
    """Return the body and answers of ``POST /compare``."""
    example = {
        "logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]],
        "labels": [0, 3],
        "variants": [{"variant": "sparse"}, {"name": "hard", "variant": "focal"}],
    }
    return _operation("CompareRequest", "CompareAnswer", example)


def history_operation(
    parameters: Sequence[Mapping[str, Any]], model: type[BaseModel]
) -> dict[str, Any]:
    """Return how the framework is told of a question about a project's history."""
    tag = {"ETag": {"description": "Of the answer.", "schema": {"type": "string"}}}
    return {
        "responses": {
            200: {"model": model, "description": "The answer.", "headers": tag},
            304: {"description": "The copy that If-None-Match names is still right."},
            **problem_responses(401, 403, 404, 422, 503),
        },
        "openapi_extra": {"parameters": list(parameters), "security": [{}, {"key": []}]},
    }


def export_operation(
    parameters: Sequence[Mapping[str, Any]], media_types: Iterable[str]
) -> dict[str, Any]:
    """Return how the framework is told of a file that is sent."""
    content = {each: {"schema": BINARY} for each in media_types}
    return {
        "responses": {
            200: {"description": "The file, sent as it is read.", "content": content},
            **problem_responses(401, 403, 404, 422, 429, 503),
        },
        "openapi_extra": {"parameters": list(parameters), "security": [{}, {"key": []}]},
    }


def change_operation(request: type[BaseModel], example: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of an operation that reads a small document itself, and who may ask."""
    schema = {"schema": _ref(request.__name__), "example": dict(example)}
    return {
        "requestBody": {"required": True, "content": {json.MEDIA_TYPE: schema}},
        "security": KEYS,
    }


def graph_operation() -> dict[str, Any]:
    """Return the parameters of ``GET /variants/{variant}/onnx``, and the answers but problems."""
    settings = {"type": "object", "additionalProperties": True}
    tag = {"description": "Of the content.", "schema": {"type": "string"}}
    return {
        "parameters": [
            _parameter("classes", {"type": "integer", "minimum": 1}, "Columns of the logits."),
            _parameter(
                "label_kind",
                {"type": "string", "enum": list(LABEL_KINDS)},
                "What labels the model takes; by default the first kind that the variant names, "
                "`binary` aside.",
            ),
            _parameter(
                "ignore_index",
                {"type": ["integer", "null"], "default": -100},
                "Label of rows to leave out; `none` for no label.",
            ),
            {
                **_parameter(
                    "settings",
                    settings,
                    "The variant's settings, each a parameter; "
                    "lists are repeated or separated by commas.",
                ),
                "style": "form",
                "explode": True,
            },
        ],
        "responses": {
            "200": {
                "description": "The model.",
                "headers": {"ETag": tag},
                "content": {"application/octet-stream": {"schema": BINARY}},
            },
            "304": {"description": "The model is still the one of `If-None-Match`."},
        },
    }


def labels_operation() -> dict[str, Any]:
    """Return the body and problems of ``POST /labels``."""
    example = {
        "project": "shop",
        "model": "ranker",
        "model_version": "2026-01",
        "batch_id": "2026-01-31T12",
        "labels": [0, 3],
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                json.MEDIA_TYPE: {"schema": _ref("LabelsRequest"), "example": example},
                safetensors.MEDIA_TYPE: {"schema": BINARY},
            },
        },
        "responses": _problems(*LABELS_STATUSES),
        "security": KEYS,
    }


def model_operation() -> dict[str, Any]:
    """Return the body and answers of ``POST /models/{name}/loss/{variant}``."""
    return _of_features("ModelRequest", "LossAnswer", {})


def model_compare_operation() -> dict[str, Any]:
    """Return the body and answers of ``POST /models/{name}/compare``."""
    variants = [{"variant": "sparse"}, {"name": "hard", "variant": "focal"}]
    return _of_features("ModelCompareRequest", "CompareAnswer", {"variants": variants})


def _of_features(request: str, response: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    example = {"features": [[0.5, -1.0, 2.0], [0.0, 0.25, 1.0]], "labels": [0, 3], **asked}
    operation = _operation(request, response, example, tracked=False)
    operation["responses"] = {**operation["responses"], **_problems(404)}
    return operation


def upload_operation() -> dict[str, Any]:
    """Return the body of ``PUT /models/{name}/{version}``."""
    content = {"application/octet-stream": {"schema": BINARY}}
    return {"requestBody": {"required": True, "content": content}, "security": KEYS}


def document(app: FastAPI, models: Iterable[type[Document]]) -> dict[str, Any]:
    """Return the OpenAPI document of the application."""
    whole = get_openapi(
        title="Xent",
        version=app.version,
        summary="Loss evaluation: cross-entropy and its variants",
        description=DESCRIPTION,
        routes=app.routes,
    )
    _without_framework_errors(whole)
    components = whole.setdefault("components", {})
    described: list[type[BaseModel]] = [
        Base64Tensor,
        labels_model(),
        *features_models(),
        LossAnswer,
        CompareAnswer,
        Problem,
        InferenceRequest,
        InferenceAnswer,
        InferenceProblem,
        RegionRequest,
        Rule,
        WebhookMessage,
        Note,
        *map(with_tensors, models),
    ]
    schemas = models_json_schema(
        [(model, "validation") for model in described], ref_template=COMPONENTS + "{model}"
    )[1]["$defs"]
    components.setdefault("schemas", {}).update(schemas)
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "Where keys are configured."}
    }
    return whole


def _without_framework_errors(whole: dict[str, Any]) -> None:
    """Drop the 422 that the framework adds to operations with parameters: it is never answered."""
    for operations in whole["paths"].values():
        for operation in operations.values():
            answer = operation["responses"].get("422", {}).get("content", {})
            if json.MEDIA_TYPE in answer:
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        whole["components"]["schemas"].pop(name, None)


def text(app: FastAPI) -> str:
    """Return the document as it is kept beside the code: sorted, indented, with a last newline."""
    options = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(app.openapi(), option=options).decode()


def _parameter(name: str, schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    required = name == "classes"
    return {
        "name": name,
        "in": "query",
        "required": required,
        "schema": dict(schema),
        "description": description,
    }


def _tracked(example: Mapping[str, Any]) -> dict[str, Any]:
    """Return a worked example with what is tracked beside it."""
    classes = len(example["logits"][0]) if isinstance(example["logits"][0], list) else 1
    track = {
        "project": "shop",
        "model": "ranker",
        "model_version": "2026-01",
        "batch_id": "2026-01-31T12",
        "event_time": "2026-01-31T12:00:00Z",
        "tags": {"region": "eu"},
        "label_schema": {"name": "classes", "classes": [f"class {n}" for n in range(classes)]},
        "sample_ids": [f"row-{row}" for row in range(len(example["logits"]))],
    }
    return {**example, "track": track}


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): each for status, each in problem_responses(*statuses).items()}


def _operation(
    request: str, response: str, example: Mapping[str, Any], *, tracked: bool = True
) -> dict[str, Any]:
    examples = {"evaluate": {"summary": "Evaluate", "value": example}}
    if tracked:
        track = {"summary": "Evaluate, and keep the sums", "value": _tracked(example)}
        examples["track"] = track
    return {
        "requestBody": {
            "required": True,
            "content": {
                json.MEDIA_TYPE: {"schema": _ref(request), "examples": examples},
                safetensors.MEDIA_TYPE: {"schema": BINARY},
                arrow.MEDIA_TYPE: {"schema": BINARY},
            },
        },
        "responses": {
            "200": {
                "description": "The answer. `Accept: application/x-safetensors` returns tensors.",
                "headers": {
                    "Server-Timing": {
                        "description": "receive, decode, compute, record (where the batch is "
                        "tracked) and encode, in ms.",
                        "schema": {"type": "string"},
                    }
                },
                "content": {
                    json.MEDIA_TYPE: {"schema": _ref(response)},
                    safetensors.MEDIA_TYPE: {"schema": BINARY},
                },
            },
            **_problems(*EVALUATION_STATUSES),
        },
        "security": KEYS,
    }


def _ref(model: str) -> dict[str, str]:
    return {"$ref": COMPONENTS + model}
