"""ONNX Runtime as models are run with it: bounded memory, no spinning threads, nothing folded."""

import re
from typing import Any, Final

import onnxruntime as ort

from service.errors import BrokenModel
from service.models.description import Port

SILENT: Final = 4
AS_REQUESTED: Final = 1
DTYPES: Final = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
}
_PREFIX: Final = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_SOURCE: Final = re.compile(r"/onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z])", re.DOTALL)
FLOATS: Final = ("float16", "float32", "float64")


def bound_memory(size: int) -> None:
    """Set how much memory the models of this process may take on the CPU, weights and runs.

    The runtime has one arena for the process: whoever says so last is right.
    """
    kind = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    where = ort.OrtMemoryInfo("Cpu", kind, 0, ort.OrtMemType.DEFAULT)
    arena = ort.OrtArenaCfg({"max_mem": size, "arena_extend_strategy": AS_REQUESTED})
    ort.create_and_register_allocator(where, arena)


def providers(device: str, memory_bytes: int) -> list[Any]:
    """Return where models run: on the CUDA device, where the runtime can and the service does."""
    cpu = "CPUExecutionProvider"
    kind, _, number = device.partition(":")
    if kind != "cuda" or "CUDAExecutionProvider" not in ort.get_available_providers():
        return [cpu]
    options = {"device_id": int(number or 0), "gpu_mem_limit": memory_bytes}
    return [("CUDAExecutionProvider", options), cpu]


def session_of(data: bytes, *, threads: int, wanted: list[Any]) -> ort.InferenceSession:
    """Return a session of a model.

    Raises:
        BrokenModel: the runtime does not take it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = SILENT
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(
            data,
            options,
            providers=wanted,
            # What is folded is made outside the bounded memory, whatever its size.
            disabled_optimizers=["ConstantFolding"],
        )
    except Exception as error:  # noqa: BLE001  (the runtime's errors share no other base)
        raise BrokenModel(f"ONNX Runtime does not take the model: {said(error)}") from None


def ports(session: ort.InferenceSession) -> tuple[list[Port], list[Port]]:
    """Return the inputs and the outputs of a session."""
    inputs, outputs = (
        [Port(each.name, DTYPES.get(each.type, each.type), _shape(each.shape)) for each in some]
        for some in (session.get_inputs(), session.get_outputs())
    )
    return inputs, outputs


def _shape(shape: Any) -> tuple[int | str | None, ...]:  # noqa: ANN401  (a list of sizes or names)
    # A sequence of maps, as some classifiers have it, has no shape.
    return tuple(shape or ())


def said(error: Exception) -> str:
    """Return what the runtime said, without places in its sources."""
    text = str(error)
    text = text.partition("Status Message: ")[2] or _PREFIX.sub("", text)
    text = _SOURCE.sub("", text)
    return " ".join(text.split())[:300]
