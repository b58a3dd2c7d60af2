"""The first evaluation, before the first request: loads what PyTorch loads on first use."""

from typing import Final

import torch

from xentcore import OUTPUTS, VARIANTS, Passes, Spec, evaluate

# As much as several blocks of the core: what it allocates for them is then at hand.
ROWS: Final = 1024
CLASSES: Final = 1000


def warm_up(passes: Passes, *, threads: int, device: torch.device) -> None:
    """Set PyTorch's threads and evaluate every worked example and one batch of some size."""
    torch.set_num_threads(threads)
    # Sigmoid variants have no row statistics.
    outputs = [output for output in OUTPUTS if output != "row_statistics"]
    for variant in VARIANTS.values():
        logits = torch.tensor(variant.example["logits"])
        labels = torch.tensor(variant.example["labels"])
        settings = variant.settings_type(**_settings(variant.example["settings"]))
        evaluate(
            logits,
            labels,
            [Spec(variant.slug, settings)],
            outputs=outputs,
            device=device,
            passes=passes,
        )
    evaluate(
        torch.zeros(ROWS, CLASSES),
        torch.zeros(ROWS, dtype=torch.int64),
        [Spec("sparse")],
        outputs=["per_class"],
        device=device,
        passes=passes,
    )


def _settings(example: object) -> dict[str, object]:
    """Return settings as the dataclass takes them: tuples where the example has lists."""
    entries = dict(example) if isinstance(example, dict) else {}
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in entries.items()
    }
