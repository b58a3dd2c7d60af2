"""The models that are served: listed, tried, loaded, added, removed."""

import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from service.errors import BrokenModel, Unavailable, UnknownModel
from service.models.description import Description
from service.models.examine import digest_of, feeds, prepared
from service.models.folder import Folder, Signature
from service.models.names import check_name
from service.models.running import Cancel, Loaded, Running, fitted
from service.models.runtime import bound_memory, ports, providers, session_of
from service.models.sessions import Sessions
from service.models.trials import Trials
from service.settings import Settings
from service.wire.payload import Limits


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of trying a version: what it is, or what is wrong with it."""

    signature: Signature
    model: Description | None
    broken: str | None


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a model, as it is listed."""

    version: str
    tried: Tried


class Library:
    """The models in a folder. From any thread.

    Args:
        settings: where they are, and how much they may take.
        device: where the service evaluates.
    """

    def __init__(self, settings: Settings, *, root: Path, device: str) -> None:
        self._settings = settings
        self._device = device
        self._folder = Folder(root, limit=settings.model_bytes)
        self._loaded: Sessions[Loaded] = Sessions(settings.model_sessions)
        self._tried: dict[tuple[str, str], Tried] = {}
        self._trying = threading.Lock()
        bound_memory(settings.model_memory_bytes)

    @property
    def loaded(self) -> int:
        """How many models are loaded."""
        return self._loaded.size

    def versions(self, name: str) -> list[Version]:
        """Return the versions of a model, newest first; those that are new are tried.

        Raises:
            InvalidDocument, UnknownModel: a name that is none, or no model's.
        """
        with self._trials() as trials:
            return self._listed(trials, name)

    def all(self) -> dict[str, list[Version]]:
        """Return the versions of all models, as :meth:`versions` does of one."""
        listed = {}
        with self._trials() as trials:
            for name in self._folder.names():
                with suppress(UnknownModel):  # without a version, or gone meanwhile
                    listed[name] = self._listed(trials, name)
        return listed

    def _listed(self, trials: Trials, name: str) -> list[Version]:
        found = self._folder.versions(name)[::-1]
        listed = [Version(each, self._try(trials, name, each)) for each in found]
        there = set(found)
        for known in [key for key in self._tried if key[0] == name and key[1] not in there]:
            self._tried.pop(known, None)
        return listed

    def chosen(self, name: str, version: str | None) -> tuple[str, Description]:
        """Return a version of a model, the newest for ``None``, and what it is.

        Raises:
            InvalidDocument, UnknownModel: names that are none, or that nothing has.
            BrokenModel: it cannot be used.
        """
        version = self._folder.chosen(name, version)
        with self._trials() as trials:
            tried = self._try(trials, name, version)
        if tried.model is None:
            raise BrokenModel(f"{name}, version {version}: {tried.broken}")
        return version, tried.model

    def run(
        self,
        chosen: tuple[str, str, Description],
        features: Tensor,
        *,
        limits: Limits,
        class_axis: object,
        cancelled: Cancel,
    ) -> Running:
        """Return the logits of features, made as they are read.

        Args:
            chosen: a model's name and version, and what it is.
            features: (rows, ...).
            limits: of the logits.
            class_axis: that the request names.
            cancelled: asked now and then, also while the model runs.

        Raises:
            InvalidDocument: features of another shape, or that the model's type cannot hold.
            BrokenModel: the files changed, and are broken now.
            ModelFailed, TooLarge, Cancelled: as :class:`Running` does.
        """
        name, version, model = chosen
        numbers = fitted(features, model)
        loaded = self._loaded.get(model.digest, lambda: self._load(name, version, model))
        return Running(
            loaded,
            model,
            numbers,
            most_rows=self._settings.model_rows,
            limits=limits,
            class_axis=class_axis,
            cancelled=cancelled,
        )

    def put(self, name: str, version: str, data: bytes) -> tuple[bool, Version]:
        """Add a version; return whether it is new, and what it is.

        Raises:
            InvalidDocument: names that are none.
            BrokenModel: no model, or none that is taken: nothing is written.
            ModelConflict: the version is there, with other bytes.
            Unavailable: it cannot be written.
        """
        check_name(name, "model")
        check_name(version, "version")
        with self._trying, self._trials() as trials:
            trials.examine(data, None)
        try:
            new = self._folder.write(name, version, data)
        except OSError as error:
            raise Unavailable(f"the model cannot be written: {error.strerror}") from None
        with self._trials() as trials:
            return new, Version(version, self._try(trials, name, version))

    def remove(self, name: str, version: str) -> None:
        """Remove a version.

        Raises:
            InvalidDocument, UnknownModel: names that are none, or that nothing has.
            Unavailable: it cannot be removed.
        """
        try:
            self._folder.remove(name, version)
        except OSError as error:
            raise Unavailable(f"the model cannot be removed: {error.strerror}") from None

    def _load(self, name: str, version: str, model: Description) -> Loaded:
        files = self._folder.read(name, version)
        if digest_of(files.data, files.card) != model.digest:
            raise BrokenModel(f"{name}, version {version} is being changed: try again")
        edited = prepared(files.data, files.card)[0]
        wanted = providers(self._device, self._settings.model_memory_bytes)
        session = session_of(edited, threads=self._settings.threads, wanted=wanted)
        return Loaded(session, feeds(ports(session)[0], model.constants))

    def _try(self, trials: Trials, name: str, version: str) -> Tried:
        """Return what a version is, tried if it is new or changed."""
        signature = self._folder.signature(name, version)
        known = self._tried.get((name, version))
        if known is not None and known.signature == signature:
            return known
        with self._trying:
            known = self._tried.get((name, version))
            if known is not None and known.signature == signature:
                return known
            tried = self._examined(trials, name, version, signature)
            self._tried[name, version] = tried
            return tried

    def _examined(self, trials: Trials, name: str, version: str, signature: Signature) -> Tried:
        try:
            files = self._folder.read(name, version)
            return Tried(signature, trials.examine(files.data, files.card), None)
        except BrokenModel as error:
            return Tried(signature, None, str(error))

    def _trials(self) -> Trials:
        """Return a process that tries models, not started before there is one to try."""
        settings = self._settings
        return Trials(
            memory_bytes=settings.model_memory_bytes,
            elements=settings.elements,
            classes=settings.classes,
            deadline_s=settings.model_trial_s,
        )
