"""The models that are served, and what their routes share."""

from collections.abc import Mapping

from fastapi import Request

from service.engine import Engine
from service.errors import NotOffered, Unavailable
from service.questions import LossQuestion
from service.routes.kserve.conversation import Conversation
from service.routes.kserve.statistics import Statistics
from service.wire.kserve.answer import VERSION
from service.wire.kserve.model import Model
from service.wire.kserve.regions import Regions
from xentcore import UnknownVariant


class Served:
    """Every variant as a model.

    Args:
        models: by name.
        questions: what each is asked, by the same names.
        regions: of shared memory.
        engine: says whether work is taken.

    Attributes:
        models: by name.
        regions: of shared memory.
        statistics: of their requests.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        *,
        questions: Mapping[str, LossQuestion],
        regions: Regions,
        engine: Engine,
    ) -> None:
        self.models = models
        self.regions = regions
        self.statistics = Statistics(models)
        self._questions = questions
        self._engine = engine

    def model(self, model: str, request: Request) -> Model:
        """Return the model that a path names, a dependency of its route.

        Raises:
            UnknownVariant: there is none of this name.
            NotOffered: there is none of this version.
        """
        if model not in self.models:
            raise UnknownVariant(model, self.models)
        if request.path_params.get("version", VERSION) != VERSION:
            raise NotOffered(f"{model} has no such version; it has {VERSION}")
        return self.models[model]

    def converse(self, model: Model) -> Conversation:
        """Return a conversation about one request."""
        return Conversation(model, self._questions[model.name], self.regions)

    def refusal(self) -> str | None:
        """Return why no work is taken, if none is."""
        return self._engine.refusal()

    def require_ready(self) -> None:
        """Check that work is taken.

        Raises:
            Unavailable: it is not.
        """
        refusal = self.refusal()
        if refusal is not None:
            raise Unavailable(refusal)
