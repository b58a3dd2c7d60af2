"""Error class -> status and problem type (RFC 9457), in one table."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

import xentcore as core
from service import errors

MEDIA_TYPE: Final = "application/problem+json"
INFERENCE: Final = "/v2"
INFERENCE_MEDIA_TYPE: Final = "application/json"
CLIENT_CLOSED: Final = 499  # never sent: nobody is left; logged and counted


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: its stable type (a relative URI), status and title."""

    slug: str
    status: int
    title: str

    @property
    def type(self) -> str:
        """The problem type."""
        return f"/problems/{self.slug}"


INTERNAL: Final = Kind("internal", 500, "The service failed")

KINDS: Final[Mapping[type[BaseException], Kind]] = {
    errors.Malformed: Kind("malformed", 400, "The bytes are not what they claim to be"),
    errors.NotOffered: Kind("not-offered", 400, "Not offered here"),
    errors.Unauthenticated: Kind("unauthenticated", 401, "A valid key is needed"),
    errors.Forbidden: Kind("forbidden", 403, "The key does not open this"),
    core.UnknownVariant: Kind("variant-unknown", 404, "No such variant"),
    errors.UnknownProject: Kind("project-unknown", 404, "No such project"),
    errors.UnknownAlert: Kind("alert-unknown", 404, "No such alert"),
    errors.UnknownAnnotation: Kind("annotation-unknown", 404, "No such note"),
    errors.UnknownBatch: Kind("batch-unknown", 404, "No such batch"),
    errors.UnknownModel: Kind("model-unknown", 404, "No such model"),
    errors.BodyTimeout: Kind("body-timeout", 408, "The body came too slowly"),
    errors.AlertExists: Kind("alert-exists", 409, "There is an alert of that name"),
    errors.BatchConflict: Kind("batch-conflict", 409, "Recorded before, and not the same"),
    errors.ModelConflict: Kind("model-conflict", 409, "The version is there, with other bytes"),
    errors.Outdated: Kind("batch-outdated", 409, "Corrected meanwhile"),
    errors.LabelsTooLate: Kind("labels-late", 410, "The logits are not kept, or no longer"),
    errors.TooLarge: Kind("too-large", 413, "More than is allowed"),
    errors.UnsupportedMediaType: Kind("media-type", 415, "Not a supported media type or encoding"),
    errors.NoGraph: Kind("graph-unknown", 422, "No graph of this variant"),
    errors.InvalidDocument: Kind("document-invalid", 422, "The request is not meaningful"),
    errors.BrokenModel: Kind("model-invalid", 422, "The model cannot be used"),
    errors.ModelFailed: Kind("model-failed", 422, "The model does not run on these features"),
    errors.SumsOverflow: Kind("sums-overflow", 422, "The sums are no finite numbers"),
    core.ShapeMismatch: Kind("shapes-mismatch", 422, "Shapes do not fit each other"),
    core.UnsupportedDtype: Kind("dtype-unsupported", 422, "Tensors of this type are not taken"),
    core.InvalidLabel: Kind("label-invalid", 422, "A label is out of range"),
    core.InvalidWeight: Kind("weight-invalid", 422, "A weight is out of range"),
    core.InvalidProbability: Kind("probability-invalid", 422, "A probability is out of range"),
    core.NonFinite: Kind("nonfinite", 422, "A row is not finite"),
    core.InvalidTensor: Kind("tensor-invalid", 422, "A tensor cannot be evaluated"),
    core.LabelKindRefused: Kind("label-kind-refused", 422, "Not the labels of this variant"),
    core.InvalidSetting: Kind("setting-invalid", 422, "A setting is out of range"),
    errors.QueueFull: Kind("queue-full", 429, "No place is left in the queue"),
    errors.ClientDisconnected: Kind("client-closed", CLIENT_CLOSED, "The client went away"),
    errors.HistoryUnavailable: Kind("history-unavailable", 503, "The history cannot answer now"),
    errors.Unavailable: Kind("unavailable", 503, "The service cannot answer now"),
    core.DeviceUnavailable: Kind("device-memory", 503, "The device is out of memory"),
    core.Cancelled: Kind("unavailable", 503, "The service cannot answer now"),
    MemoryError: Kind("memory", 503, "The service is out of memory"),
}


def kind_of(error: BaseException) -> Kind:
    """Return the kind of problem that an error is: its own class's, or the nearest base's."""
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        return Kind(status.phrase.lower().replace(" ", "-"), status, status.phrase)
    return next((KINDS[base] for base in type(error).__mro__ if base in KINDS), INTERNAL)


def problem_response(error: BaseException, request_id: str, *, path: str = "") -> Response:
    """Return the answer to an error. It echoes no input and holds no traceback.

    Args:
        error: what was raised.
        request_id: of the request.
        path: of the request; under ``/v2`` the inference protocol has its own member and type.
    """
    kind = kind_of(error)
    document: dict[str, object] = {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": _detail(error, kind),
        "request_id": request_id,
        "errors": [
            {"pointer": fault.pointer, "message": fault.message} for fault in _faults(error)
        ],
    }
    inference = path == INFERENCE or path.startswith(f"{INFERENCE}/")
    if inference:
        document = {"error": document["detail"], **document}
    return Response(
        orjson.dumps(document),
        status_code=kind.status,
        media_type=INFERENCE_MEDIA_TYPE if inference else MEDIA_TYPE,
        headers=_headers(error),
    )


def new_request_id() -> str:
    """Return an id that no other request has."""
    return uuid.uuid4().hex


def _detail(error: BaseException, kind: Kind) -> str:
    if isinstance(error, HTTPException):
        return f"{error.detail}{_way_out(error)}"
    # Whatever is not ours may say things that are nobody's business.
    ours = isinstance(error, core.XentError | errors.ServiceError)
    return str(error) if ours else kind.title


def _way_out(error: HTTPException) -> str:
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return ": nothing is at this path; /docs shows what is there"
        case HTTPStatus.METHOD_NOT_ALLOWED:
            headers = {name.lower(): value for name, value in (error.headers or {}).items()}
            return f": this path takes {headers.get('allow', 'another method')}"
        case _:
            return ""


def _faults(error: BaseException) -> tuple[errors.Fault, ...]:
    if isinstance(error, errors.ServiceError):
        return error.faults
    if isinstance(error, core.XentError) and error.pointer:
        return (errors.Fault(error.pointer, str(error)),)
    return ()


def _headers(error: BaseException) -> dict[str, str]:
    match error:
        case HTTPException():
            return dict(error.headers or {})
        case errors.QueueFull() | errors.HistoryUnavailable():
            return {"retry-after": str(error.retry_after_s)}
        case errors.Unauthenticated():
            return {"www-authenticate": "Bearer"}
        case errors.BodyTimeout():
            return {"connection": "close"}  # the rest of the body may never come
        case errors.Unavailable():
            return {"retry-after": "1"}
        case _:
            return {}
