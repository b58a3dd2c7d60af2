"""Models that the service runs: features in, logits out, and losses of those."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, Unpack
from urllib.parse import quote

from xent.answers import Answer, Comparison
from xent.api import comparing, divided, evaluation
from xent.batches import Features
from xent.bodies import Body
from xent.calls import Call, Reply
from xent.errors import InvalidBatch, Unreadable
from xent.operations import operation
from xent.specs import Spec
from xent.variants import Options

T = TypeVar("T")
Recognised = Literal["none", "stated", "softmax", "log_softmax", "sigmoid", "probabilities"]
FILE: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Port:
    """An input or an output of a model.

    Attributes:
        shape: a name or ``None`` is any size.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a model. Of one that is broken, nothing but why is known.

    Attributes:
        name: of the model.
        broken: why it cannot be used; ``None`` where it can.
        input: takes the features.
        logits: what is evaluated.
        classes: their names, where they are stated.
        recognised: what stands behind the logits and is left out.
        note: about that.
        size: bytes of the file.
    """

    name: str
    version: str
    broken: str | None = None
    input: Port | None = None
    logits: Port | None = None
    classes: tuple[str, ...] | None = None
    recognised: Recognised | None = None
    note: str | None = None
    opset: int | None = None
    size: int | None = None

    @classmethod
    def of(cls, name: str, document: Mapping[str, Any]) -> "ModelVersion":
        """Return one entry of ``versions``.

        Raises:
            Unreadable: what every version has is not there.
        """
        try:
            inputs, classes = document.get("inputs"), document.get("classes")
            return cls(
                name,
                document["version"],
                document.get("broken"),
                _port(inputs[0] if inputs else None),
                _port(document.get("logits")),
                None if classes is None else tuple(classes),
                *(document.get(each) for each in ("recognised", "note", "opset", "size")),
            )
        except (KeyError, TypeError) as error:
            raise Unreadable(f"this is no model of Xent: {error!r} is missing") from None

    def document(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return asdict(self)


def _port(document: Mapping[str, Any] | None) -> Port | None:
    if document is None:
        return None
    return Port(document["name"], document["dtype"], tuple(document["shape"]))


class Models:
    """The operation on all models."""

    @operation
    def models(self) -> Call[list[ModelVersion]]:
        """Return the versions of all models that the service runs, the newest of each first."""
        return Call("GET", "/models", _listed)


def _listed(reply: Reply) -> list[ModelVersion]:
    return [version for page in reply.json()["models"] for version in _versions(page)]


def _versions(page: Mapping[str, Any]) -> list[ModelVersion]:
    return [ModelVersion.of(page["name"], each) for each in page["versions"]]


class Asking:
    """The operations on one model.

    Args:
        name: of the model.
        version: of the model; ``None`` is the newest, whichever that is.
    """

    def __init__(self, name: str, version: str | None = None) -> None:
        self.name = name
        self.version = version

    def __repr__(self) -> str:
        version = "" if self.version is None else f", {self.version!r}"
        return f"{type(self).__name__}({self.name!r}{version})"

    @operation
    def versions(self) -> Call[list[ModelVersion]]:
        """Return its versions, the newest first. Raises ``NotFound`` where there is no such."""
        return Call("GET", self._path(), lambda reply: _versions(reply.json()))

    @operation
    def evaluate(
        self,
        variant: str,
        features: object,
        labels: object = None,
        *,
        settings: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> Call[Answer]:
        """Return the loss of a batch under a variant whose name is known only now.

        The same as ``loss``, but for the settings, which are a mapping.
        """
        return self._asked(variant, Features(features, labels), settings or {}, options)

    @operation
    def compare(
        self,
        features: object,
        labels: object = None,
        *,
        variants: Sequence[str | Spec | Mapping[str, Any]],
        **options: Unpack[Options],
    ) -> Call[Comparison]:
        """Return the losses of a batch under several variants; the model is run once.

        Args:
            features: as the model takes them.
            labels: of the logits.
            variants: names, or ``Spec("focal", name="soft", gamma=0.5)``.
            options: as for ``loss``.
        """
        path = self._path("compare")
        return self._of_version(comparing(path, Features(features, labels), variants, options))

    @operation
    def upload(self, version: str, file: str | Path | bytes) -> Call[ModelVersion]:
        """Add a version, where the service allows it.

        Args:
            version: its name.
            file: a path, or what an ONNX file holds.

        Raises:
            Refused: the service does not take it, and says why.
            Conflict: the version is there, with other bytes.
        """
        try:
            content = file if isinstance(file, bytes) else Path(file).read_bytes()
        except OSError as error:
            raise InvalidBatch(f"{file!s}: {error.strerror or error}") from None
        return Call(
            "PUT",
            self._path(version),
            lambda reply: ModelVersion.of(self.name, reply.json()["version"]),
            body=Body.of(FILE, [content]),
        )

    @operation
    def remove(self, version: str) -> Call[None]:
        """Remove a version, where the service allows it."""
        return Call("DELETE", self._path(version), lambda _: None, idempotent=False)

    def _given(
        self, variant: str, features: object, labels: object, given: Mapping[str, Any]
    ) -> Call[Answer]:
        """Return the call that ``loss`` makes."""
        return self._asked(variant, Features(features, labels), *divided(given))

    def _asked(
        self,
        variant: str,
        features: Features,
        settings: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> Call[Answer]:
        path = self._path("loss", variant)
        return self._of_version(evaluation(path, features, settings, options))

    def _of_version(self, call: Call[T]) -> Call[T]:
        return call if self.version is None else replace(call, query={"version": self.version})

    def _path(self, *parts: str) -> str:
        return "/".join(["/models", *(quote(part, safe="") for part in (self.name, *parts))])
