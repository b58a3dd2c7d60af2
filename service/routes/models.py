"""``/models``: ONNX models that hold features -> logits, and losses of what they make."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Query, Request, status
from fastapi.responses import JSONResponse, Response

from service.errors import NotOffered, UnsupportedMediaType
from service.exchange import Exchange
from service.keys import Keys
from service.models.conversation import Conversation
from service.models.shelf import Shelf
from service.openapi import (
    KEYS,
    model_compare_operation,
    model_operation,
    problem_responses,
    upload_operation,
)
from service.posted import received
from service.questions import CompareQuestion, LossQuestion
from service.schema.answer import (
    ModelList,
    ModelPage,
    ModelPort,
    ModelUploaded,
    ModelVersion,
)
from service.settings import Settings
from service.telemetry import notes_of
from xentcore import UnknownVariant

if TYPE_CHECKING:
    from service.models.description import Port
    from service.models.library import Version

DESCRIPTION: Final = (
    "The model is an ONNX file of the service's folder of models. It is run on the features, and "
    "the logits are evaluated as `POST /loss/{variant}` does, with the same settings and outputs; "
    "the gradient is by the logits. A Softmax, LogSoftmax or Sigmoid at the model's end is left "
    "out, and a diagnostic says so: a loss applies its own. safetensors bodies hold the tensor "
    "`features` in the place of `logits`, Arrow streams a column of that name. The newest version "
    "is asked, or that of `version`, or of `/versions/{version}` behind the name."
)
COMPARED: Final = (
    "As `POST /models/{name}/loss/{variant}`, with the `variants` of `POST /compare`: the model is "
    "run once."
)
NEWEST: Final = "None: the newest."
STATUSES: Final = (401, 403, 404)


class Served:
    """What the routes share.

    Args:
        settings: of the service.
        keys: who may ask, and who may upload.
        shelf: where the models are.
        questions: of every variant, as ``/loss`` asks them.
        comparing: of several, as ``/compare`` asks it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        keys: Keys,
        shelf: Shelf,
        questions: Mapping[str, LossQuestion],
        comparing: CompareQuestion,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._shelf = shelf
        self._questions = questions
        self._comparing = comparing
        # A file is held in memory whole until it is written.
        self._uploading = asyncio.Semaphore(1)

    def compare(self, name: str, version: str | None) -> Conversation:
        """Return a conversation about one request for several variants."""
        return Conversation(self._shelf, name, version, self._comparing)

    def converse(self, name: str, version: str | None, variant: str) -> Conversation:
        """Return a conversation about one request.

        Raises:
            UnknownVariant: there is none of this name.
        """
        if variant not in self._questions:
            raise UnknownVariant(variant, self._questions)
        return Conversation(self._shelf, name, version, self._questions[variant])

    async def listing(self, request: Request) -> ModelList:
        """Return all models."""
        self._keys.require(request.headers, "evaluate")
        if self._settings.models_dir is None:
            return ModelList(models=[])
        return ModelList(models=await asyncio.to_thread(self._pages))

    async def page(self, request: Request, name: str) -> ModelPage:
        """Return one model. Raises UnknownModel, InvalidDocument."""
        self._keys.require(request.headers, "evaluate")
        return await asyncio.to_thread(self._page, name)

    def _pages(self) -> list[ModelPage]:
        return [_listed(name, found) for name, found in self._shelf.library().all().items()]

    def _page(self, name: str) -> ModelPage:
        return _listed(name, self._shelf.library().versions(name))

    async def upload(self, request: Request, name: str, version: str) -> Response:
        """Add a version. Raises what the library does, and what receiving a body does."""
        self._require_manage(request)
        if request.headers.get("content-encoding", "identity") != "identity":
            raise UnsupportedMediaType("a model is sent as it is, without a content encoding")
        async with self._uploading:
            data = await received(
                request,
                limit=self._settings.model_bytes,
                deadline_s=self._settings.body_deadline_s,
            )
            library = await asyncio.to_thread(self._shelf.library)
            new, listed = await asyncio.to_thread(library.put, name, version, data)
        done = ModelUploaded(
            status="created" if new else "unchanged", name=name, version=_version(listed)
        )
        code = status.HTTP_201_CREATED if new else status.HTTP_200_OK
        return JSONResponse(done.model_dump(exclude_none=True), code)

    async def remove(self, request: Request, name: str, version: str) -> Response:
        """Remove a version. Raises what the library does."""
        self._require_manage(request)
        library = await asyncio.to_thread(self._shelf.library)
        await asyncio.to_thread(library.remove, name, version)
        return Response(status_code=status.HTTP_204_NO_CONTENT)

    def _require_manage(self, request: Request) -> None:
        self._keys.require(request.headers, "manage")
        if not self._settings.model_uploads:
            raise NotOffered("models are not changed over HTTP here: set XENT_MODEL_UPLOADS")


def router(served: Served, exchange: Exchange) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/models", tags=["models"])

    @routes.get(
        "",
        operation_id="models",
        summary="All models",
        description="Versions that are new or changed are tried first, in a process of their own.",
        response_model_exclude_none=True,
        responses=problem_responses(401, 403),
        openapi_extra={"security": KEYS},
    )
    async def index(request: Request) -> ModelList:
        return await served.listing(request)

    @routes.get(
        "/{name}",
        operation_id="model",
        summary="One model",
        response_model_exclude_none=True,
        responses=problem_responses(*STATUSES),
        openapi_extra={"security": KEYS},
    )
    async def page(request: Request, name: str) -> ModelPage:
        return await served.page(request, name)

    @routes.put(
        "/{name}/{version}",
        operation_id="model_upload",
        summary="Add a version of a model",
        description="Needs XENT_MODEL_UPLOADS and, where there are keys, the scope manage. The "
        "file is checked and tried first, and is there whole or not at all. What model.json would "
        "hold can stand in the file's own metadata under the key `xent`.",
        status_code=status.HTTP_201_CREATED,
        response_model=ModelUploaded,
        responses={
            200: {"model": ModelUploaded, "description": "It is there already."},
            **problem_responses(400, *STATUSES, 408, 409, 413, 415, 422, 503),
        },
        openapi_extra=upload_operation(),
    )
    async def upload(request: Request, name: str, version: str) -> Response:
        return await served.upload(request, name, version)

    @routes.delete(
        "/{name}/{version}",
        operation_id="model_delete",
        summary="Remove a version of a model",
        status_code=status.HTTP_204_NO_CONTENT,
        response_class=Response,
        responses=problem_responses(400, *STATUSES, 422, 503),
        openapi_extra={"security": KEYS},
    )
    async def remove(request: Request, name: str, version: str) -> Response:
        return await served.remove(request, name, version)

    _add_evaluations(routes, served, exchange)
    return routes


def _add_evaluations(routes: APIRouter, served: Served, exchange: Exchange) -> None:
    """Add what runs a model."""

    async def answered(request: Request, conversation: Conversation) -> Response:
        response = await exchange.answer(request, conversation, conversation.speak)
        notes = notes_of(request.scope)
        notes.timings_ms = conversation.timings_ms(notes.timings_ms)
        return response

    @routes.post(
        "/{name}/loss/{variant}",
        operation_id="model_loss",
        summary="Evaluate one variant on what a model makes of features",
        description=DESCRIPTION,
        response_class=Response,
        openapi_extra=model_operation(),
    )
    async def loss(
        request: Request,
        name: str,
        variant: str,
        version: Annotated[str | None, Query(description=NEWEST)] = None,
    ) -> Response:
        return await answered(request, served.converse(name, version, variant))

    @routes.post("/{name}/versions/{version}/loss/{variant}", include_in_schema=False)
    async def loss_of_version(request: Request, name: str, version: str, variant: str) -> Response:
        return await answered(request, served.converse(name, version, variant))

    @routes.post(
        "/{name}/compare",
        operation_id="model_compare",
        summary="Evaluate several variants on what a model makes of features",
        description=COMPARED,
        response_class=Response,
        openapi_extra=model_compare_operation(),
    )
    async def compare(
        request: Request,
        name: str,
        version: Annotated[str | None, Query(description=NEWEST)] = None,
    ) -> Response:
        return await answered(request, served.compare(name, version))

    @routes.post("/{name}/versions/{version}/compare", include_in_schema=False)
    async def compare_of_version(request: Request, name: str, version: str) -> Response:
        return await answered(request, served.compare(name, version))


def _listed(name: str, versions: "list[Version]") -> ModelPage:
    return ModelPage(name=name, versions=list(map(_version, versions)))


def _version(listed: "Version") -> ModelVersion:
    model = listed.tried.model
    if model is None:
        return ModelVersion(version=listed.version, broken=listed.tried.broken)
    return ModelVersion(
        version=listed.version,
        inputs=[_port(model.input)],
        outputs=list(map(_port, model.outputs)),
        logits=_port(model.output),
        classes=None if model.classes is None else list(model.classes),
        recognised=model.recognised,
        note=model.note or None,
        opset=model.opset,
        size=model.size,
    )


def _port(port: "Port") -> ModelPort:
    return ModelPort(name=port.name, dtype=port.dtype, shape=list(port.shape))
