"""POST /loss/{variant} and /compare over HTTP: the main job."""

import gzip
import json
import math
from collections.abc import Mapping

import httpx2
import pytest
import torch
import zstandard
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional

from tests.service.harness import BATCH, SAFETENSORS
from xentcore import OUTPUTS, VARIANTS, Evaluation, Spec, evaluate

LOGITS = torch.tensor(BATCH["logits"])
LABELS = torch.tensor(BATCH["labels"])


def tensors(document: Mapping[str, object] | None = None, **changes: Tensor) -> bytes:
    request = {"request": json.dumps(document or {})}
    return save({"logits": LOGITS, "labels": LABELS, **changes}, request)


def post(client: httpx2.Client, path: str, body: bytes, accept: str = "*/*") -> httpx2.Response:
    headers = {"content-type": SAFETENSORS, "accept": accept}
    return client.post(path, content=body, headers=headers)


@pytest.mark.parametrize("slug", sorted(VARIANTS))
def test_every_variant_answers_its_own_example(client: httpx2.Client, slug: str) -> None:
    response = client.post(f"/loss/{slug}", json=dict(VARIANTS[slug].example))
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["variant"] == slug
    assert math.isfinite(answer["loss"])
    reduction = answer["reduction"]
    assert answer["loss"] == reduction["sum"] / reduction["denominator"]


def test_an_answer_is_the_documented_one(client: httpx2.Client) -> None:
    document = {
        **BATCH,
        "outputs": list(OUTPUTS),
        "class_names": ["a", "b", "c", "d"],
        "sample_ids": ["r1", 7],
        "sample_weights": [1.0, 0.5],
        "k": 1,
    }
    answer = client.post("/loss/sparse", json=document).json()
    (result,) = evaluate(
        torch.tensor(BATCH["logits"], dtype=torch.float64),
        LABELS,
        [Spec("sparse")],
        sample_weights=torch.tensor([1.0, 0.5], dtype=torch.float64),
        outputs=OUTPUTS,
    )
    assert result.gradient is not None
    assert answer["loss"] == result.loss
    assert answer["undefined"] is None
    assert answer["reduction"]["denominator"] == 1.5
    assert answer["rows"] == {
        "total": 2,
        "evaluated": 2,
        "ignored": 0,
        "nonfinite": 0,
        "infinite": 0,
    }
    assert answer["label_kind"] == "integer"
    assert answer["settings"] == {"class_weights": None}
    assert answer["gradient"] == result.gradient.tolist()
    assert answer["row_status"] == [0, 0]
    table = answer["per_class"]
    assert list(table)[:3] == ["class", "name", "support"]
    assert table["name"] == ["a", "b", "c", "d"]
    assert table["support"] == [1, 0, 0, 1]
    assert table["loss_mean"][1] is None
    assert answer["hardest"]["id"] == ["r1"] or answer["hardest"]["id"] == [7]
    assert answer["hardest"]["row"] in ([0], [1])
    assert "class_index" not in answer["hardest"]
    assert len(answer["calibration"]["bins"]["count"]) == 15
    assert answer["distribution"]["max"] == max(answer["per_sample"])
    assert sum(answer["distribution"]["buckets"]["count"]) == 2
    assert set(answer["row_statistics"]) >= {"log_partition", "entropy"}
    columns = [*table.values(), *answer["calibration"]["bins"].values()]
    assert answer["nulls"] == sum(column.count(None) for column in columns)


def test_json_and_safetensors_agree(client: httpx2.Client) -> None:
    document = {"outputs": ["gradient", "per_class", "per_sample"], "settings": {"gamma": 1.5}}
    logits = torch.randn(8, 5, dtype=torch.float64)
    labels = torch.randint(0, 5, (8,))
    as_json = client.post(
        "/loss/focal", json={"logits": logits.tolist(), "labels": labels.tolist(), **document}
    ).json()
    body = tensors(document, logits=logits, labels=labels)
    assert post(client, "/loss/focal", body).json() == as_json
    response = post(client, "/loss/focal", body, accept=SAFETENSORS)
    assert response.headers["content-type"] == SAFETENSORS
    answer = load(response.content)
    assert answer["gradient"].tolist() == as_json["gradient"]
    assert answer["per_sample"].tolist() == as_json["per_sample"]
    assert answer["per_class.support"].tolist() == as_json["per_class"]["support"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_gradients_come_in_the_dtype_asked_for(client: httpx2.Client, dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    body = tensors({"outputs": ["gradient"], "gradient_dtype": name})
    assert load(post(client, "/loss/sparse", body, SAFETENSORS).content)["gradient"].dtype == dtype
    assert post(client, "/loss/sparse", body).status_code == 200


def test_class_weights_travel_as_a_tensor(client: httpx2.Client) -> None:
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    answer = post(client, "/loss/weighted", tensors(class_weights=weights)).json()
    expected = functional.cross_entropy(LOGITS, LABELS, weight=weights).item()
    assert answer["loss"] == pytest.approx(expected, rel=1e-6)
    assert answer["settings"]["class_weights"] == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("path", "document", "weights", "pointer"),
    [
        ("/loss/focal", {}, torch.ones(4), "/class_weights"),
        (
            "/loss/sparse",
            {"settings": {"class_weights": [1, 1, 1, 1]}},
            torch.ones(4),
            "/settings/class_weights",
        ),
        ("/loss/sparse", {}, torch.ones(4, 1), "/class_weights"),
        ("/loss/sparse", {}, torch.ones(4, dtype=torch.long), "/class_weights"),
        ("/loss/sparse", {}, torch.ones(3), "/settings/class_weights"),
        ("/loss/sparse", {"settings": 3}, torch.ones(4), "/settings"),
    ],
)
def test_class_weights_that_do_not_fit(
    client: httpx2.Client, path: str, document: dict[str, object], weights: Tensor, pointer: str
) -> None:
    response = post(client, path, tensors(document, class_weights=weights))
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_compressed_bodies(client: httpx2.Client, encoding: str) -> None:
    plain = json.dumps(BATCH).encode()
    compress = gzip.compress if encoding == "gzip" else zstandard.ZstdCompressor().compress
    headers = {"content-type": "application/json", "content-encoding": encoding}
    response = client.post("/loss/sparse", content=compress(plain), headers=headers)
    assert response.json() == client.post("/loss/sparse", json=BATCH).json()


def test_what_is_undefined_is_an_answer(client: httpx2.Client) -> None:
    document = {**BATCH, "labels": [-100, -100], "outputs": ["gradient", "per_sample"]}
    answer = client.post("/loss/sparse", json=document).json()
    assert (answer["loss"], answer["undefined"]) == (None, "no_rows")
    assert answer["gradient"] == [[0.0] * 4] * 2
    assert answer["per_sample"] == [None, None]
    assert answer["row_status"] == [1, 1]
    assert answer["nulls"] == 2


def test_per_class_is_folded_where_asked(client: httpx2.Client) -> None:
    document = {"outputs": ["per_class"], "per_class_limit": 2, "class_names": list("abcd")}
    answer = client.post("/loss/sparse", json={**BATCH, **document}).json()
    assert answer["per_class"]["class"][-1] == -1
    assert answer["per_class"]["name"][-1] == "others"
    many = {"logits": torch.randn(2, 1500), "labels": LABELS}
    as_json = post(client, "/loss/sparse", tensors({"outputs": ["per_class"]}, **many)).json()
    assert len(as_json["per_class"]["class"]) == 1001
    everything = tensors({"outputs": ["per_class"], "per_class_limit": None}, **many)
    assert len(post(client, "/loss/sparse", everything).json()["per_class"]["class"]) == 1500
    as_tensors = post(
        client, "/loss/sparse", tensors({"outputs": ["per_class"]}, **many), SAFETENSORS
    )
    assert load(as_tensors.content)["per_class.class"].shape == (1500,)


def test_sigmoid_rows_name_their_class(client: httpx2.Client) -> None:
    document = {**VARIANTS["binary"].example, "outputs": ["hardest", "per_class"]}
    answer = client.post("/loss/binary", json=document).json()
    assert len(answer["hardest"]["class_index"]) == 2
    assert "id" not in answer["hardest"]
    assert "name" not in answer["per_class"]


def test_timings_and_ids_are_in_the_headers(client: httpx2.Client) -> None:
    response = client.post("/loss/sparse", json=BATCH, headers={"x-request-id": "abc-1"})
    assert response.headers["x-request-id"] == "abc-1"
    names = [part.split(";")[0] for part in response.headers["server-timing"].split(", ")]
    assert names == ["receive", "decode", "compute", "encode"]
    for bad in (b"a b", b"x" * 129, b"\xc3\xa9"):
        made = client.post("/loss/sparse", json=BATCH, headers=[(b"x-request-id", bad)])
        assert len(made.headers["x-request-id"]) == 32


COMPARED = [
    {"variant": "sparse"},
    {"variant": "focal", "name": "hard", "settings": {"gamma": 1}},
    {"variant": "focal", "name": "again", "settings": {"gamma": 1.0}},
    {"variant": "weighted", "settings": {"class_weights": "balanced"}},
]


def test_compare_reads_the_batch_once_and_says_what_compares(client: httpx2.Client) -> None:
    document = {**BATCH, "variants": COMPARED, "outputs": ["gradient"]}
    answer = client.post("/compare", json=document).json()
    assert [each["name"] for each in answer["results"]] == ["sparse", "hard", "again", "weighted"]
    single = client.post("/loss/sparse", json={**BATCH, "outputs": ["gradient"]}).json()
    del single["nulls"]
    assert {"name": "sparse", **single} == answer["results"][0]
    assert len(answer["pairs"]) == 6
    comparable = [pair for pair in answer["pairs"] if pair["comparable"]]
    assert [(pair["a"], pair["b"], pair["reason"]) for pair in comparable] == [
        ("hard", "again", None)
    ]
    assert all(
        pair["reason"] == "units differ" for pair in answer["pairs"] if pair not in comparable
    )


def test_what_can_be_compared_is_what_the_core_says(client: httpx2.Client) -> None:
    names = ["a", "b", "c", "d"]
    document = {**BATCH, "variants": COMPARED[:2], "class_names": names}
    answer = client.post("/compare", json=document).json()
    specs = [Spec("sparse"), Spec("focal", VARIANTS["focal"].settings_type(gamma=1.0), "hard")]
    logits = torch.tensor(BATCH["logits"], dtype=torch.float64)
    compared = Evaluation.of(logits, LABELS, specs, compare=True).comparison()
    variants = zip(answer["variants"], compared.variants, ["sparse", "hard"], strict=True)
    for found, expected, name in variants:
        share = expected.class_share["share"]
        assert found == {
            "name": name,
            "normalised_entropy": expected.normalised_entropy,
            "prior_sum": expected.prior_sum,
            "undefined": None,
            "class_share": {"class": [0, 1, 2, 3], "name": names, "share": share.tolist()},
        }
    (pair,) = compared.pairs
    assert answer["pairs"] == [
        {
            "a": "sparse",
            "b": "hard",
            "comparable": False,
            "reason": "units differ",
            "rows": 2,
            "spearman": pair.spearman,
            "spearman_undefined": None,
            "gradient_cosine": pair.gradient_cosine,
            "gradient_cosine_undefined": None,
        }
    ]
    assert answer["nulls"] == 0


def test_what_cannot_be_compared_is_null_and_says_why(client: httpx2.Client) -> None:
    document = {**BATCH, "labels": [-100, -100], "variants": COMPARED}
    response = client.post("/compare", json=document)
    answer = response.json()
    assert response.status_code == 200
    for variant in answer["variants"]:
        assert (variant["normalised_entropy"], variant["prior_sum"]) == (None, None)
        assert variant["undefined"] == "no_rows"
        assert variant["class_share"]["share"] == [None] * 4
    for pair in answer["pairs"]:
        assert (pair["spearman"], pair["spearman_undefined"]) == (None, "too_few_rows")
        assert (pair["gradient_cosine"], pair["gradient_cosine_undefined"]) == (
            None,
            "zero_gradient",
        )
    smooth = {**BATCH, "variants": [{"variant": "label-smoothing"}]}
    (variant,) = client.post("/compare", json=smooth).json()["variants"]
    assert (variant["prior_sum"], variant["undefined"]) == (None, "prior_loss_infinite")


def test_shares_are_folded_where_asked(client: httpx2.Client) -> None:
    document = {
        **BATCH,
        "variants": COMPARED[:1],
        "per_class_limit": 1,
        "class_names": list("abcd"),
    }
    (variant,) = client.post("/compare", json=document).json()["variants"]
    shares = variant["class_share"]
    assert (shares["class"], shares["name"]) == ([3, -1], ["d", "others"])
    assert sum(shares["share"]) == pytest.approx(1)


def test_compare_over_safetensors(client: httpx2.Client) -> None:
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    document = {
        "variants": [
            {"variant": "weighted"},
            {"variant": "focal"},
            {"variant": "sparse", "settings": {"class_weights": [1, 1, 1, 1]}},
        ],
        "outputs": ["gradient"],
    }
    body = tensors(document, class_weights=weights)
    results = post(client, "/compare", body).json()["results"]
    assert [each["settings"].get("class_weights") for each in results] == [
        [1, 2, 3, 4],
        None,
        [1] * 4,
    ]
    answer = load(post(client, "/compare", body, SAFETENSORS).content)
    assert set(answer) == {
        name
        for index in range(3)
        for name in (
            f"results.{index}.gradient",
            f"variants.{index}.class_share.class",
            f"variants.{index}.class_share.share",
        )
    }
    as_json = post(client, "/compare", body).json()
    for index, variant in enumerate(as_json["variants"]):
        shares = answer[f"variants.{index}.class_share.share"]
        assert shares.tolist() == variant["class_share"]["share"]


@pytest.mark.parametrize(
    ("variants", "status", "pointer"),
    [
        (None, 422, "/variants"),
        ([], 422, "/variants"),
        (["sparse"], 422, "/variants/0"),
        ([{"name": "x"}], 422, "/variants/0"),
        ([{"variant": 3}], 422, "/variants/0"),
        ([{"variant": "sparse"}, {"variant": "focl"}], 404, "/variants/1/variant"),
        ([{"variant": "focal", "settings": {"gamma": "2"}}], 422, "/variants/0/settings/gamma"),
        ([{"variant": "focal", "settings": {"gama": 2}}], 422, "/variants/0/settings/gama"),
        ([{"variant": "focal", "settings": {"alpha": [1, 2]}}], 422, "/variants/0/settings/alpha"),
        ([{"variant": "weighted"}], 422, "/variants/0/settings/class_weights"),
        ([{"variant": "weighted", "settings": None}], 422, "/variants/0/settings"),
        (
            [
                {
                    "variant": "weighted",
                    "settings": {"class_weights": [1, 1, 1, 1], "class_counts": [1, 1, 1, 1]},
                }
            ],
            422,
            "/variants/0/settings/class_counts",
        ),
        ([{"variant": "sparse"}] * 33, 422, "/variants"),
    ],
)
def test_a_comparison_names_the_variant_at_fault(
    client: httpx2.Client, variants: object, status: int, pointer: str
) -> None:
    document = BATCH if variants is None else {**BATCH, "variants": variants}
    response = client.post("/compare", json=document)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (status, pointer)


@pytest.mark.parametrize(
    ("slug", "changes", "pointer"),
    [
        ("focal", {"settings": {"gamma": -1}}, "/settings/gamma"),
        ("focal", {"settings": {"gamma": "2"}}, "/settings/gamma"),
        ("focal", {"settings": {"gamma": True}}, "/settings/gamma"),
        ("focal", {"settings": {"alpha": {}}}, "/settings/alpha"),
        ("focal", {"settings": {"alpha": [1, -1, 1, 1]}}, "/settings/alpha/1"),
        ("focal", {"settings": {"alpha": [1, "x", 1, 1]}}, "/settings/alpha/1"),
        ("focal", {"settings": {"alpha": "x"}}, "/settings/alpha"),
        ("focal", {"settings": {"activation": "relu"}}, "/settings/activation"),
        ("focal", {"settings": None}, "/settings"),
        ("label-smoothing", {"settings": {"smoothing": 1}}, "/settings/smoothing"),
        ("weighted", {}, "/settings/class_weights"),
        ("sparse", {"reduction": "max"}, "/reduction"),
        ("sparse", {"outputs": ["loss"]}, "/outputs/0"),
        ("sparse", {"outputs": "gradient"}, "/outputs"),
        ("sparse", {"k": 0}, "/k"),
        ("sparse", {"class_axis": 5}, "/class_axis"),
        ("sparse", {"class_axis": 1.0}, "/class_axis"),
        ("sparse", {"ignore_index": 2**63}, "/ignore_index"),
        ("sparse", {"probability_floor": 1e-7}, "/probability_floor"),
        ("sparse", {"per_class_limit": 0}, "/per_class_limit"),
        ("sparse", {"class_names": ["a"]}, "/class_names"),
        ("sparse", {"sample_ids": ["a"]}, "/sample_ids"),
        ("sparse", {"sample_ids": [1.5, 2]}, "/sample_ids/0"),
        ("sparse", {"unknown": 1}, "/unknown"),
        ("sparse", {"labels": [0, 4]}, "/labels/1"),
        ("sparse", {"labels": [0, 1.5]}, "/labels/1"),
        ("sparse", {"labels": [0, 1, 2]}, "/labels"),
        ("sparse", {"sample_weights": [1.0, -1.0]}, "/sample_weights/1"),
        ("categorical", {}, "/labels"),
    ],
)
def test_a_request_that_is_not_meaningful_names_the_part(
    client: httpx2.Client, slug: str, changes: dict[str, object], pointer: str
) -> None:
    response = client.post(f"/loss/{slug}", json={**BATCH, **changes})
    problem = response.json()
    assert response.status_code == 422, problem
    assert problem["errors"][0]["pointer"] == pointer
    assert response.headers["content-type"] == "application/problem+json"
    assert set(problem) == {"type", "title", "status", "detail", "request_id", "errors"}
    assert problem["request_id"] == response.headers["x-request-id"]
