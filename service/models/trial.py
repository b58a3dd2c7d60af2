"""``python -m service.models.trial``: tries models, in a process that may die of them.

Reads models from its input, one after another: eight bytes of the length of model.onnx, eight of
that of model.json plus one (0: there is none), then both. Writes a line of JSON for each: what the
model is, or what is wrong with it.
"""

import json
import resource
import sys
from typing import BinaryIO, Final

from service.errors import BrokenModel
from service.models.examine import examine
from service.models.runtime import bound_memory

LENGTH_BYTES: Final = 8
ADDRESSES: Final = 4 << 30
"""What the interpreter, its libraries and the stacks of their threads take of addresses."""


def main(arguments: list[str], source: BinaryIO, target: BinaryIO) -> None:
    """Try what comes until nothing does; ``arguments``: memory in bytes, elements, classes."""
    memory, elements, classes = map(int, arguments)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES + memory, ADDRESSES + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    bound_memory(memory)
    while head := source.read(2 * LENGTH_BYTES):
        size, more = (
            int.from_bytes(head[at : at + LENGTH_BYTES], "little") for at in (0, LENGTH_BYTES)
        )
        data = source.read(size)
        card = source.read(more - 1) if more else None
        target.write(json.dumps(_verdict(data, card, elements, classes)).encode() + b"\n")
        target.flush()


def _verdict(data: bytes, card: bytes | None, elements: int, classes: int) -> dict[str, object]:
    try:
        return {"model": examine(data, card, elements=elements, classes=classes).plain()}
    except BrokenModel as error:
        return {"broken": str(error)}
    except MemoryError:
        return {"broken": "trying the model needs more memory than models may take"}
    except Exception as error:  # noqa: BLE001  (whatever the libraries make of a hostile file)
        return {"broken": f"the model cannot be read: {type(error).__name__}"}


if __name__ == "__main__":
    # What libraries print on the standard output must not come between the lines.
    lines = sys.stdout.buffer
    sys.stdout = sys.stderr
    main(sys.argv[1:], sys.stdin.buffer, lines)
