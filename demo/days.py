"""Three weeks of a classifier in production: tracked batches, a new version, and digits that blur.

The logits are real, of :mod:`demo.digits`; which rows a day holds and what goes wrong is made up,
the same every time.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import httpx2
import torch
from safetensors.torch import save
from torch import Tensor

from demo.client import SAFETENSORS
from demo.digits import SEED, HeldOut

PROJECT: Final = "digits"
MODEL: Final = "scanner"
OLD, NEW = "1.4", "2.0"
DAYS: Final = 21
EVERY: Final = timedelta(hours=4)
ROWS: Final = 240
NAMES: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VARIANT: Final = "sparse"

SWITCH_DAY: Final = 10  # the neural classifier comes, beside the linear one at first
RETIRE_DAY: Final = 13
GAP: Final = (7.0, 8.2)  # days without any data
DRIFT_DAY: Final = 15
DRIFTING: Final = (3, 5, 8)
SHARPNESS: Final = 0.15  # of the clear logits, at the end of the drift
UNSURE: Final = 3.0  # logits are noisier by, at the end of the drift
NOISE: Final = 0.15
UNKNOWN: Final = 0.02  # share of labels that never come
BROKEN: Final = 0.0005  # share of rows that are not finite
IGNORED: Final = -100
NOON: Final = 12


@dataclass(frozen=True, slots=True)
class Batch:
    """What one classifier said at one time."""

    version: str
    time: datetime
    logits: Tensor
    labels: Tensor
    ids: list[str]

    def body(self) -> bytes:
        """Return the request as safetensors: JSON has no NaN."""
        track = {
            "project": PROJECT,
            "model": MODEL,
            "model_version": self.version,
            "batch_id": f"{self.version}-{self.time:%Y%m%d%H}",
            "event_time": self.time.isoformat(),
            "tags": {"site": "north" if self.time.hour < NOON else "south"},
            "label_schema": {"name": "digits", "classes": NAMES},
            "sample_ids": self.ids,
        }
        tensors = {"logits": self.logits.contiguous(), "labels": self.labels.contiguous()}
        return save(tensors, metadata={"request": json.dumps({"track": track})})


def batches(held_out: HeldOut, begin: datetime, days: int = DAYS) -> Iterator[Batch]:
    """Yield all batches in the order of time.

    Args:
        held_out: where the rows are drawn from.
        begin: time of the first batch.
        days: how many; the story needs :data:`DAYS`.
    """
    random = torch.Generator().manual_seed(SEED)
    for number in range(days * (timedelta(days=1) // EVERY)):
        day = number * EVERY / timedelta(days=1)
        rows = torch.randint(len(held_out.labels), (ROWS,), generator=random)
        if GAP[0] <= day < GAP[1]:
            continue
        for name, version in (("linear", OLD), ("neural", NEW)):
            runs = day < RETIRE_DAY if name == "linear" else day >= SWITCH_DAY
            if runs:
                labels = held_out.labels[rows]
                yield Batch(
                    version=version,
                    time=begin + number * EVERY,
                    logits=_blurred(held_out.logits[name][rows], labels, day, random),
                    labels=_known(labels, random),
                    ids=[f"image-{row}" for row in rows.tolist()],
                )


def post(
    client: httpx2.Client, held_out: HeldOut, begin: datetime, days: int = DAYS, key: str = ""
) -> int:
    """Post all batches, and return how many there were.

    Raises:
        httpx2.HTTPStatusError: the service refused one.
    """
    headers = {"content-type": SAFETENSORS}
    if key:
        headers["authorization"] = f"Bearer {key}"
    count = 0
    for batch in batches(held_out, begin, days):
        count += 1
        answer = client.post(f"/loss/{VARIANT}", content=batch.body(), headers=headers)
        answer.raise_for_status()
    return count


def watch(client: httpx2.Client, begin: datetime) -> None:
    """Have the new version watched since the old one retired, and note when the scanner changed.

    Raises:
        httpx2.HTTPStatusError: the service refused.
    """
    retired = (begin + timedelta(days=RETIRE_DAY)).isoformat()
    reference = {"from": (begin + timedelta(days=SWITCH_DAY)).isoformat(), "to": retired}
    for name, metric, direction in (
        ("loss-of-2.0", "loss.mean", "above"),
        ("non-finite", "nonfinite_rate", "above"),
    ):
        rule = {
            "name": name,
            "metric": metric,
            "kind": "reference",
            "direction": direction,
            "selection": {"model_version": NEW, "variant": VARIANT},
            "reference": reference,
            "from": retired,
            "step": "4h",
        }
        client.post(f"/projects/{PROJECT}/alerts", json=rule).raise_for_status()
    changed = (begin + timedelta(days=DRIFT_DAY)).isoformat()
    note = {"time": changed, "text": "a new scanner at the northern site"}
    client.post(f"/projects/{PROJECT}/annotations", json=note).raise_for_status()


def _blurred(logits: Tensor, labels: Tensor, day: float, random: torch.Generator) -> Tensor:
    """Return logits of images of which some digits get harder to read from one day on."""
    share = min(1.0, max(0.0, (day - DRIFT_DAY) / (DAYS - DRIFT_DAY)))
    noise = torch.randn(logits.shape, generator=random)
    drifting = torch.isin(labels, torch.tensor(DRIFTING))[:, None]
    blurred = logits * (1 - (1 - SHARPNESS) * share) + UNSURE * share * noise
    seen = torch.where(drifting, blurred, logits + NOISE * noise)
    broken = torch.rand(len(labels), 1, generator=random) < BROKEN
    return torch.where(broken, torch.nan, seen)


def _known(labels: Tensor, random: torch.Generator) -> Tensor:
    """Return the labels, of which a few never came."""
    missing = torch.rand(len(labels), generator=random) < UNKNOWN
    return torch.where(missing, IGNORED, labels)
