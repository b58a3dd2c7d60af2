"""Where the models are asked for: the runtime that they need is not loaded before they are."""

import threading
from typing import TYPE_CHECKING

from service.errors import UnknownModel
from service.settings import Settings

if TYPE_CHECKING:
    from service.models.library import Library


class Shelf:
    """The library of models, opened when it is first asked for.

    Args:
        settings: of the service.
        device: where it evaluates.
    """

    def __init__(self, settings: Settings, *, device: str) -> None:
        self._settings = settings
        self._device = device
        self._opening = threading.Lock()
        self._library: Library | None = None

    def library(self) -> "Library":
        """Return the library; from a thread that may take its time.

        Raises:
            UnknownModel: no models are served.
        """
        root = self._settings.models_dir
        if root is None:
            raise UnknownModel("no models are served: set XENT_MODELS_DIR to a folder of them")
        with self._opening:
            if self._library is None:
                # Loading the runtime takes longer than starting the service.
                from service.models.library import Library  # noqa: PLC0415

                self._library = Library(self._settings, root=root, device=self._device)
            return self._library

    @property
    def loaded(self) -> int:
        """How many models are loaded."""
        return 0 if self._library is None else self._library.loaded
