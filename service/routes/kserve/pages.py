"""What the protocol tells about the service and its models."""

import json
from collections.abc import Iterable
from typing import Final

from service.version import VERSION
from service.wire.kserve.answer import VERSION as MODEL_VERSION
from service.wire.kserve.model import Input, Model, Output

PLATFORM: Final = "xent"
EXTENSIONS: Final = ("binary_tensor_data", "model_configuration", "parameters", "statistics")
SHARED_MEMORY: Final = "system_shared_memory"


def service_page(*, shared_memory: bool) -> dict[str, object]:
    """Return the metadata of the service; of the extensions, those that work."""
    extensions = [*EXTENSIONS, *([SHARED_MEMORY] if shared_memory else [])]
    return {"name": PLATFORM, "version": VERSION, "extensions": extensions}


def model_page(model: Model) -> dict[str, object]:
    """Return the metadata of a model."""
    return {
        "name": model.name,
        "versions": [MODEL_VERSION],
        "platform": PLATFORM,
        "inputs": [
            {**_tensor(each), "parameters": {"datatypes": ",".join(each.taken)}}
            for each in model.inputs.values()
        ],
        "outputs": [_tensor(each) for each in model.outputs.values()],
    }


def config_page(model: Model) -> dict[str, object]:
    """Return the configuration of a model; its parameters are those of requests, as JSON."""
    defaults = {**model.options, **model.settings}
    return {
        "name": model.name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        "input": [
            {**_configured(each), "optional": each.optional} for each in model.inputs.values()
        ],
        "output": [_configured(each) for each in model.outputs.values()],
        "parameters": {
            name: {"string_value": json.dumps(default)} for name, default in defaults.items()
        },
    }


def index_page(models: Iterable[str], refusal: str | None) -> list[dict[str, object]]:
    """Return the index of the repository: all are ready, or none, and why not."""
    state = "READY" if refusal is None else "UNAVAILABLE"
    return [
        {"name": name, "version": MODEL_VERSION, "state": state, "reason": refusal or ""}
        for name in models
    ]


def _tensor(tensor: Input | Output) -> dict[str, object]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _configured(tensor: Input | Output) -> dict[str, object]:
    return {
        "name": tensor.name,
        "data_type": f"TYPE_{tensor.datatype}",
        "dims": list(tensor.shape),
    }
