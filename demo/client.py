"""Asking the service, by JSON and by safetensors."""

import json
from collections.abc import Mapping
from typing import Any

import httpx2
from safetensors.torch import save

from demo.batches import Batch

SAFETENSORS = "application/x-safetensors"
CONFLICT = 409
UNPROCESSABLE = 422
Answer = dict[str, Any]


class Refused(Exception):
    """The service understood, and says why it does not answer, and what to do instead."""


class Client:
    """A connection to a service.

    Args:
        url: where it is.
    """

    def __init__(self, url: str) -> None:
        # trust_env: a proxy of the environment has nothing to do with loopback.
        self._http = httpx2.Client(base_url=url, timeout=60, trust_env=False)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def variants(self) -> list[Answer]:
        """Return what ``GET /variants`` lists."""
        answer = self._http.get("/variants")
        answer.raise_for_status()
        variants: list[Answer] = answer.json()["variants"]
        return variants

    def get(self, path: str, parameters: Mapping[str, str]) -> Answer:
        """Return what is answered to a question in an address.

        Raises:
            Refused: there is no such thing, or no such parameter.
        """
        return _answer(self._http.get(path, params=dict(parameters)))

    def by_json(self, path: str, batch: Batch, document: Mapping[str, object]) -> Answer:
        """Post a batch as nested lists.

        Raises:
            Refused: not the labels or settings of this variant.
        """
        tensors = {"logits": batch.logits.tolist(), "labels": batch.labels.tolist()}
        return _answer(self._http.post(path, json={**tensors, **document}))

    def by_safetensors(self, path: str, batch: Batch, document: Mapping[str, object]) -> Answer:
        """Post a batch as the bytes of its tensors.

        Raises:
            Refused: not the labels or settings of this variant.
        """
        tensors = {"logits": batch.logits.contiguous(), "labels": batch.labels.contiguous()}
        body = save(tensors, metadata={"request": json.dumps(document)})
        return _answer(self._http.post(path, content=body, headers={"content-type": SAFETENSORS}))


def _answer(response: httpx2.Response) -> Answer:
    if response.status_code in (CONFLICT, UNPROCESSABLE):
        raise Refused(response.json()["detail"])
    response.raise_for_status()
    answer: Answer = response.json()
    return answer


def difference(a: object, b: object) -> float:
    """Return the largest difference between the numbers of two answers; infinite where they differ.

    Relative to the larger of the two, or to 1 where both are smaller: a gradient's column sum may
    well be 0.
    """
    if isinstance(a, Mapping) and isinstance(b, Mapping) and a.keys() == b.keys():
        return max((difference(a[key], b[key]) for key in a), default=0.0)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return max((difference(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) / max(1.0, abs(a), abs(b))
    return 0.0 if a == b else float("inf")
