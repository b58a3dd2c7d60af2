"""Shared memory, as its official client makes it and as somebody might who means harm."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype
from tritonclient.utils import shared_memory as shm

from service.errors import Malformed
from service.wire.kserve.regions import FOLDER, Mode, Regions
from tests.service.harness import Running
from tests.service.inference import (
    BINARY,
    BLOBS,
    JSON,
    LABELS,
    LOGITS,
    Array,
    entry,
    infer,
    numbers,
    sent,
    wanted,
)

KEY = f"xent-test-{os.getpid()}"
WHOLE = LOGITS.nbytes + LABELS.nbytes


@pytest.fixture(scope="module", params=["copied", "mapped"])
def mode(request: pytest.FixtureRequest) -> Mode:
    found: Mode = request.param
    return found


@pytest.fixture(scope="module")
def sharing(mode: Mode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    server = Running(data_dir=tmp_path_factory.mktemp("data"), shared_memory=mode)
    yield server
    server.stop()


@pytest.fixture
def server(sharing: Running) -> Iterator[Running]:
    """Return a server, which forgets its regions afterwards."""
    yield sharing
    sharing.client.post("/v2/systemsharedmemory/unregister")
    assert sharing.alive()


@contextmanager
def memory(data: bytes, name: str = KEY) -> Iterator[Path]:
    """Make an object of shared memory."""
    path = Path(FOLDER) / name
    path.write_bytes(data)
    try:
        yield path
    finally:
        path.unlink()


def region_input(
    name: str, array: Array, offset: int = 0, more: Mapping[str, object] | None = None
) -> dict[str, object]:
    parameters = {
        "shared_memory_region": "batch",
        "shared_memory_byte_size": array.nbytes,
        "shared_memory_offset": offset,
        **(more or {}),
    }
    return entry(name, array, parameters=parameters)


def register(client: httpx2.Client, name: str = "batch", **document: object) -> httpx2.Response:
    body = {"key": f"/{KEY}", "offset": 0, "byte_size": WHOLE, **document}
    return client.post(f"/v2/systemsharedmemory/region/{name}/register", json=body)


INPUTS = [region_input("logits", LOGITS), region_input("labels", LABELS, LOGITS.nbytes)]


def test_the_official_client_shares_memory(server: Running) -> None:
    expected = infer(server.client, {"inputs": BINARY}, BLOBS)
    handle = shm.create_shared_memory_region("batch", KEY, WHOLE)
    try:
        shm.set_shared_memory_region(handle, [LOGITS, LABELS])
        with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            assert "system_shared_memory" in client.get_server_metadata()["extensions"]
            client.register_system_shared_memory("batch", KEY, WHOLE)
            listed = [{"name": "batch", "key": KEY, "offset": 0, "byte_size": WHOLE}]
            assert client.get_system_shared_memory_status() == listed
            assert client.get_system_shared_memory_status("batch") == listed
            inputs = [_shared("logits", LOGITS, 0), _shared("labels", LABELS, LOGITS.nbytes)]
            alone = client.infer("sparse", inputs)
            assert alone.as_numpy("loss") == numbers(expected)["loss"]
            names = ["loss", "gradient"]
            found = client.infer("sparse", inputs, outputs=wanted(names))
            plain = client.infer(
                "sparse", sent({"logits": LOGITS, "labels": LABELS}), outputs=wanted(names)
            )
            for name in names:
                np.testing.assert_array_equal(found.as_numpy(name), plain.as_numpy(name))
            output = InferRequestedOutput("loss")
            output.set_shared_memory("batch", 8)
            with pytest.raises(InferenceServerException, match="outputs come in the answer"):
                client.infer("sparse", inputs, outputs=[output])
            client.unregister_system_shared_memory("batch")
            assert client.get_system_shared_memory_status() == []
            client.register_system_shared_memory("batch", KEY, WHOLE)
            client.unregister_system_shared_memory()
            with pytest.raises(InferenceServerException, match="no shared memory region batch"):
                client.infer("sparse", inputs)
    finally:
        shm.destroy_shared_memory_region(handle)


def _shared(name: str, array: Array, offset: int) -> InferInput:
    found = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    found.set_shared_memory("batch", array.nbytes, offset)
    return found


def test_regions_and_tensors_lie_anywhere(server: Running) -> None:
    """At any offset in the object and in the region; misaligned, too."""
    expected = numbers(infer(server.client, {"inputs": JSON}))
    for before in (0, 1, 8, 4096, 5000):
        with memory(bytes(before) + b"xyz" + BLOBS):
            size = WHOLE + 3
            assert register(server.client, offset=before, byte_size=size).status_code == 200
            inputs = [
                region_input("labels", LABELS, LOGITS.nbytes + 3),
                region_input("logits", LOGITS, 3),
            ]
            assert numbers(infer(server.client, {"inputs": inputs})) == expected
            mixed = [region_input("logits", LOGITS, 3), JSON[1]]
            assert numbers(infer(server.client, {"inputs": mixed})) == expected
            mixed = [region_input("logits", LOGITS, 3), BINARY[1]]
            assert numbers(infer(server.client, {"inputs": mixed}, LABELS.tobytes())) == expected
            server.client.post("/v2/systemsharedmemory/region/batch/unregister")


def test_large_logits_and_another_class_axis(server: Running) -> None:
    logits = np.random.default_rng(2).normal(size=(40, 3000)).astype(np.float32)
    labels = np.arange(3000, dtype=np.int64) % 40
    inputs = [region_input("logits", logits), entry("labels", labels, data=labels.tolist())]
    with memory(logits.tobytes()):
        register(server.client, byte_size=logits.nbytes)
        by_rows = {"inputs": inputs, "parameters": {"class_axis": 0}}
        (found,) = numbers(infer(server.client, by_rows))["loss"]
    turned = np.ascontiguousarray(logits.T)
    inputs = [region_input("logits", turned), entry("labels", labels, data=labels.tolist())]
    server.client.post("/v2/systemsharedmemory/unregister")
    with memory(turned.tobytes()):
        register(server.client, byte_size=logits.nbytes)
        (expected,) = numbers(infer(server.client, {"inputs": inputs}))["loss"]
    assert found == pytest.approx(expected, rel=1e-12)


def test_an_object_that_is_gone_is_still_read(server: Running) -> None:
    with memory(BLOBS):
        register(server.client)
    assert numbers(infer(server.client, {"inputs": INPUTS}))


def test_an_object_that_has_shrunk_is_refused(server: Running) -> None:
    with memory(BLOBS) as path:
        register(server.client)
        for size in (WHOLE - 1, 10, 0):
            os.truncate(path, size)
            response = infer(server.client, {"inputs": INPUTS})
            assert response.status_code == 400
            assert "is smaller than it was" in response.json()["error"]
        os.truncate(path, WHOLE)
        assert infer(server.client, {"inputs": INPUTS}).status_code == 200
    assert server.alive()


def test_an_object_that_shrinks_while_it_is_copied_does_no_harm() -> None:
    regions = Regions("copied")
    with memory(bytes(10_000_000)) as path:
        regions.register("r", KEY, 0, 10_000_000)
        whole, await_bytes = regions.find("r").read(0, 10_000_000)
        await_bytes(1)
        os.truncate(path, 5_000_000)
        with pytest.raises(Malformed, match="is smaller than it was"):
            await_bytes(len(whole))


def test_memory_of_copies_is_used_again() -> None:
    regions = Regions("copied")
    with memory(BLOBS):
        regions.register("r", KEY, 0, WHOLE)
        region = regions.find("r")
        first = region.read(0, WHOLE)[0]
        second = region.read(0, WHOLE)[0]  # while the first one is in use
        kept = first.ctypes.data
        assert second.ctypes.data != kept
        del first
        third, await_bytes = region.read(8, 50)
        assert third.ctypes.data == kept
        await_bytes(50)
        assert third.tobytes() == BLOBS[8:58]
        del third, await_bytes
        assert region.read(0, 40)[0].ctypes.data == kept


def test_what_is_in_use_may_be_unregistered(mode: Mode) -> None:
    regions = Regions(mode)
    with memory(BLOBS):
        regions.register("r", KEY, 0, WHOLE)
        whole, await_bytes = regions.find("r").read(0, WHOLE)
        regions.unregister("r")
    await_bytes(WHOLE)
    assert whole.tobytes() == BLOBS


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        ".",
        "..",
        "/..",
        "//x",
        "../dev/shm/x",
        "a/b",
        "/a/b",
        "a\0b",
        "a b",
        "ä",
        "x" * 256,
        "nothing-of-this-name",
        "KEY-link",
        "KEY-folder",
        "KEY-pipe",
    ],
)
def test_keys_that_name_no_shared_memory(server: Running, key: str) -> None:
    folder = Path(FOLDER)
    (folder / f"{KEY}-link").symlink_to("/etc/passwd")
    (folder / f"{KEY}-folder").mkdir()
    os.mkfifo(folder / f"{KEY}-pipe")
    try:
        response = register(server.client, key=key.replace("KEY", KEY), byte_size=1)
    finally:
        (folder / f"{KEY}-link").unlink()
        (folder / f"{KEY}-folder").rmdir()
        (folder / f"{KEY}-pipe").unlink()
    assert response.status_code == 400, response.text
    assert "root" not in response.text
    assert server.client.get("/v2/systemsharedmemory/status").json() == []


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({"byte_size": WHOLE + 1}, 400),
        ({"offset": 1}, 400),
        ({"offset": 2**62, "byte_size": 2**62}, 400),
        ({"offset": WHOLE, "byte_size": 1}, 400),
        ({"offset": -1}, 422),
        ({"byte_size": 0}, 422),
        ({"byte_size": 2**63}, 422),
        ({"byte_size": "1"}, 422),
        ({"byte_size": 1.5}, 422),
        ({"key": 3}, 422),
        ({"key": None}, 422),
        ({"more": 1}, 422),
    ],
    ids=str,
)
def test_registrations_that_do_not_fit(
    server: Running, document: dict[str, Any], status: int
) -> None:
    with memory(BLOBS):
        response = register(server.client, **document)
    assert response.status_code == status, response.text
    assert isinstance(response.json()["error"], str)


def test_objects_that_are_large_and_empty_take_no_memory(server: Running, mode: Mode) -> None:
    size = 1 << 50
    with memory(b"") as path:
        os.truncate(path, size)
        registered = register(server.client, byte_size=size)
        assert registered.status_code == (200 if mode == "copied" else 400), registered.text
        register(server.client, "part", byte_size=1 << 40)
        for region, shape in (("batch", [1 << 38, 1 << 10]), ("part", [1 << 28, 1 << 10])):
            parameters = {
                "shared_memory_region": region,
                "shared_memory_byte_size": 4 * math.prod(shape),
            }
            for place in (0, 1):
                huge = {**JSON[place], "shape": shape, "parameters": parameters, "datatype": "FP32"}
                del huge["data"]
                inputs = [huge, JSON[1]] if place == 0 else [JSON[0], huge]
                response = infer(server.client, {"inputs": inputs})
                assert response.status_code in (400, 413), response.text


def test_names_of_regions(server: Running) -> None:
    with memory(BLOBS):
        assert register(server.client, "a.B-c_9").status_code == 200
        again = register(server.client, "a.B-c_9")
        assert "is registered" in again.json()["error"]
        for name in ("a b", "ä", "%2e%2f", "x" * 300):
            assert register(server.client, name).status_code in (400, 404)
    for body in (b"", b"{", b"[1]", b"x" * 100_000):
        path = "/v2/systemsharedmemory/region/r/register"
        assert server.client.post(path, content=body).status_code in (400, 413, 422)


def test_there_is_an_end_to_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.wire.kserve.regions.MOST", 2)
    regions = Regions("copied")
    with memory(BLOBS):
        for name in "ab":
            regions.register(name, KEY, 0, 1)
        with pytest.raises(Malformed, match="unregister some first"):
            regions.register("c", KEY, 0, 1)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"shared_memory_offset": 1}, "region batch has"),
        ({"shared_memory_offset": 10**12}, "region batch has"),
        ({"shared_memory_offset": -1}, "no number of bytes"),
        ({"shared_memory_byte_size": LOGITS.nbytes - 1}, "take 120 bytes"),
        ({"shared_memory_byte_size": 10**12}, "take 120 bytes"),
        ({"shared_memory_byte_size": None}, "give shared_memory_region"),
        ({"shared_memory_byte_size": "120"}, "no number of bytes"),
        ({"shared_memory_region": "other"}, "no shared memory region other"),
        ({"shared_memory_region": "../x"}, "a region's name matches"),
        ({"shared_memory_region": 3}, "give shared_memory_region"),
        ({"binary_data_size": 120}, "one only"),
    ],
    ids=str,
)
def test_tensors_that_do_not_fit_their_region(
    server: Running, parameters: dict[str, object], words: str
) -> None:
    with memory(BLOBS):
        register(server.client, byte_size=LOGITS.nbytes)
        inputs = [region_input("logits", LOGITS, more=parameters), JSON[1]]
        response = infer(server.client, {"inputs": inputs})
    assert response.status_code == 400, response.text
    assert words in response.json()["error"]
    huge = {**INPUTS[0], "shape": [2**40, 2**20]}
    assert infer(server.client, {"inputs": [huge, JSON[1]]}).status_code == 400
    assert server.alive()


def test_it_is_off_unless_it_is_asked_for(client: httpx2.Client) -> None:
    with memory(BLOBS):
        responses = [
            register(client),
            client.get("/v2/systemsharedmemory/status"),
            client.get("/v2/systemsharedmemory/region/batch/status"),
            client.post("/v2/systemsharedmemory/region/batch/unregister"),
            client.post("/v2/systemsharedmemory/unregister"),
            infer(client, {"inputs": INPUTS}),
        ]
    for response in responses:
        assert response.status_code == 400
        assert "XENT_SHARED_MEMORY" in response.json()["error"]
