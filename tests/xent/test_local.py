"""Evaluated here or by the service: the same answers, and the same refusals."""

import sys

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.service.harness import alike
from tests.xent.rows import LABELS, LOGITS, chunks
from xent import Client, InvalidBatch, Missing, NotFound, Refused, Spec, Track
from xent.local import Local
from xent.variants import Options

OUTPUTS = ["per_sample", "gradient", "per_class", "distribution", "calibration", "hardest"]
IDS = list(range(100, 160))


@pytest.fixture(scope="module")
def local() -> Local:
    return Local("cpu")


def test_one_variant_is_answered_as_by_the_service(client: Client, local: Local) -> None:
    options: Options = {
        "outputs": OUTPUTS,  # type: ignore[typeddict-item]
        "class_names": list("abcd"),
        "sample_ids": IDS,
        "k": 3,
        "gradient_dtype": "float64",
        "sample_weights": np.arange(60.0),
    }
    logits = LOGITS.astype(np.float64)
    here = local.loss("focal", logits, LABELS, gamma=1.5, alpha=[1, 2, 3, 4.0], **options)
    there = client.loss("focal", logits, LABELS, gamma=1.5, alpha=[1, 2, 3, 4.0], **options)
    found, expected = here.json(), there.json()
    expected.pop("nulls")
    assert alike(found, expected, 1e-9)
    assert here.hardest is not None
    assert here.hardest["id"].tolist() == [100 + row for row in here.hardest["row"]]


def test_a_comparison_is_answered_as_by_the_service(client: Client, local: Local) -> None:
    variants: list[str | Spec] = ["sparse", Spec("focal", name="soft", gamma=0.5)]
    logits = LOGITS.astype(np.float64)
    found = local.compare(logits, LABELS, variants=variants).json()
    expected = client.compare(logits, LABELS, variants=variants).json()
    expected.pop("nulls")
    assert alike(found, expected, 1e-9)


def test_chunks_and_tables_add_up(local: Local) -> None:
    whole = local.loss("focal", torch.from_numpy(LOGITS), LABELS).loss
    told: list[int] = []
    parts = [{"logits": z, "labels": y, "sample_ids": y} for z, y in chunks()]
    answer = local.loss("focal", parts, outputs=["hardest"], progress=lambda n, _: told.append(n))
    assert answer.loss == pytest.approx(whole, rel=1e-12)
    assert told[-1] == LOGITS.nbytes
    assert answer.hardest is not None
    assert answer.hardest["id"].tolist() == answer.hardest["label"].tolist()
    table = pa.table({"logits": LOGITS.tolist(), "label": LABELS})
    assert local.loss("focal", table).loss == pytest.approx(whole, rel=1e-6)
    assert local.loss("focal", {"logits": LOGITS, "label": LABELS}).loss == whole
    assert local.loss("focal", table.to_batches(9)).loss == pytest.approx(whole, rel=1e-6)


def test_what_is_refused_there_is_refused_here(local: Local) -> None:
    with pytest.raises(Refused, match="outside 0 to 3") as raised:
        local.loss("sparse", LOGITS, LABELS + 1)
    assert raised.value.pointers == (f"/labels/{int(np.argmax(LABELS == 3))}",)
    with pytest.raises(NotFound, match="did you mean 'focal'"):
        local.evaluate("focl", LOGITS, LABELS)
    with pytest.raises(InvalidBatch, match="focal has no setting gamme; known: gamma"):
        local.evaluate("focal", LOGITS, LABELS, settings={"gamme": 1})
    with pytest.raises(InvalidBatch, match="an option is unknown"):
        local.evaluate("focal", LOGITS, LABELS, reduktion="sum")
    with pytest.raises(InvalidBatch, match="no history here"):
        local.loss("sparse", LOGITS, LABELS, track=Track("p", "m", "1", "digits"))
    with pytest.raises(InvalidBatch, match="labels are missing"):
        local.loss("sparse", 5)


def test_without_the_core_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xentcore", None)
    with pytest.raises(Missing, match=r"pip install 'xent\[server\]'"):
        Local()
