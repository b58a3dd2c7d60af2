"""The command: what it prints, what it writes, how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import save_file

from service.history.database import Database, sqlite_url
from tests.service.harness import PATIENCE_S, Running, until
from tests.service.history.histories import START, history, insert_batches
from tests.xent.answering import Answering, response
from tests.xent.conftest import Run
from tests.xent.rows import LABELS, LOGITS
from xent import Client
from xent.command import app, show
from xent.command.doctor import version_of

ROOT = Path(__file__).parent.parent.parent
TABLE = pa.table(
    {
        "logits": pa.FixedSizeListArray.from_arrays(pa.array(LOGITS.reshape(-1)), 4),
        "label": LABELS,
        "sample_id": [f"row {at}" for at in range(60)],
        "unrelated": LABELS,
    }
)
WIDE = pa.table({**dict(zip("abcd", LOGITS.T, strict=True)), "target": LABELS})


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    path = tmp_path / "batch.npz"
    np.savez(path, logits=LOGITS, labels=LABELS)
    return path


@pytest.fixture
def files(tmp_path: Path, batch: Path) -> Mapping[str, list[Path]]:
    """Write the same batch in every format."""
    found = {
        name: tmp_path / name
        for name in (
            *("z.npy", "y.npy", "b.safetensors", "b.parquet", "wide.parquet", "b.arrow"),
            *("b.arrows", "b.csv"),
        )
    }
    np.save(found["z.npy"], LOGITS)
    np.save(found["y.npy"], LABELS)
    tensors = {"logits": torch.from_numpy(LOGITS), "labels": torch.from_numpy(LABELS)}
    save_file(tensors, found["b.safetensors"])
    parquet.write_table(TABLE, found["b.parquet"], row_group_size=17)
    parquet.write_table(WIDE, found["wide.parquet"])
    with pa.ipc.new_file(found["b.arrow"], TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=11)
    with pa.ipc.new_stream(found["b.arrows"], TABLE.schema) as writer:
        writer.write_table(TABLE)
    lines = ["sample_id,a,b,c,d,label,sample_weight"]
    for at, (row, label) in enumerate(zip(LOGITS.tolist(), LABELS, strict=True)):
        lines.append(",".join([f"row {at}", *map(repr, row), str(label), "1"]))
    found["b.csv"].write_text("\n".join(lines))
    separate = {name: [path] for name, path in found.items() if not name.endswith(".npy")}
    return {**separate, "b.npz": [batch], "two": [found["z.npy"], found["y.npy"]]}


def test_every_format_of_files_is_read(
    run: Run, client: Client, files: Mapping[str, list[Path]]
) -> None:
    expected = client.loss("focal", LOGITS, LABELS, gamma=1.5).loss
    for name, paths in files.items():
        code, out, err = run("loss", "focal", *paths, "--gamma", "1.5", "--json")
        assert (code, err) == (0, ""), name
        assert json.loads(out)["loss"] == pytest.approx(expected, rel=1e-6), name


def test_an_answer_is_a_table(run: Run, batch: Path, tmp_path: Path) -> None:
    gradient, rows = tmp_path / "gradient.npy", tmp_path / "rows.npy"
    names = tmp_path / "names.txt"
    names.write_text("north\neast\nsouth\nwest\n")
    wanted = ["--per-class", "--calibration", "--distribution", "--hardest", 2]
    files = ["--gradient", gradient, "--per-sample", rows, "--class-names", names]
    code, out, err = run("loss", "focal", batch, "--gamma=1.5", *wanted, *files)
    assert (code, err) == (0, "")
    for part in ("nats", "60 of 60", "gamma 1.5", "loss_share", "ece", "p99", "hardest", "south"):
        assert part in out
    assert np.load(gradient).shape == (60, 4)
    assert np.load(rows).shape == (60,)


def test_a_script_gets_one_document(run: Run, batch: Path, tmp_path: Path) -> None:
    code, out, _ = run(
        *("loss", "weighted", batch, "--class-weights", "1,2,0.5,1", "--reduction", "sum"),
        *("--json", "--per-class", "--gradient", tmp_path / "gradient.npy"),
    )
    document = json.loads(out)
    assert code == 0
    assert document["settings"]["class_weights"] == [1, 2, 0.5, 1]
    assert document["reduction"]["name"] == "sum"
    assert len(document["per_class"]["class"]) == 4
    assert "gradient" not in document, "it is in its file"
    assert out.count("\n") == 1


def test_variants_are_compared(run: Run, batch: Path) -> None:
    variants = ["-v", "sparse", "-v", "soft=focal:gamma=0.5,alpha=2"]
    code, out, _ = run("compare", batch, *variants, "--json")
    document = json.loads(out)
    assert code == 0
    assert [each["name"] for each in document["results"]] == ["sparse", "soft"]
    assert document["results"][1]["settings"]["alpha"] == 2
    code, out, _ = run("compare", batch, *variants)
    assert code == 0
    assert "normalised entropy" in out
    assert "spearman" in out
    assert run("compare", batch, "-v", "sparse", "--local")[0] == 0


def test_without_a_service_the_answer_is_the_same(
    run: Run, files: Mapping[str, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = json.loads(run("loss", "focal", *files["b.npz"], "--json")[1])
    monkeypatch.setenv("XENT_URL", "http://127.0.0.1:1")
    for name, paths in files.items():
        code, out, err = run("loss", "focal", *paths, "--local", "--device", "cpu", "--json")
        assert (code, err) == (0, ""), name
        assert json.loads(out)["loss"] == pytest.approx(expected["loss"], rel=1e-6), name


def test_variants_are_listed_and_explained(run: Run) -> None:
    code, out, _ = run("variants")
    assert code == 0
    assert "label-smoothing" in out
    code, out, _ = run("variants", "focal")
    assert code == 0
    assert "--gamma" in out
    assert "Lin et al." in out
    assert len(json.loads(run("variants", "--json")[1])) > 20
    assert json.loads(run("variants", "focal", "--json")[1])["variant"] == "focal"


def closed() -> str:
    """Return where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["loss", "focal", "BATCH", "--gamm", "2"], 2, "did you mean --gamma?"),
        (["loss", "focal", "BATCH", "--gamma"], 2, "--gamma needs a value"),
        (["loss", "focal", "BATCH", "--url", "nowhere"], 2, "is no URL"),
        (["loss", "focal", "missing.npz"], 2, "missing.npz: No such file"),
        (["loss", "focal", "BATCH", "BATCH", "BATCH"], 2, "give one file, or two"),
        (["loss", "focal", "batch.txt"], 2, "not one of .npz"),
        (["loss", "focal", "BATCH", "--label", "target"], 2, "has no target, but logits, labels"),
        (["loss", "focal", "BATCH", "--model", "m"], 2, "of no use without --project"),
        (["loss", "focal", "BATCH", "--project", "p"], 2, "needs --model, --model-version"),
        (["loss", "focal", "BATCH", "--gradient", "no/where.npy"], 2, "No such file"),
        (["compare", "BATCH", "-v", "focal:gamma"], 2, "setting=value"),
        (["loss"], 2, "Missing argument"),
        (["loose"], 2, "No such command"),
        (["export", "p", "--format", "xml"], 2, "one of parquet, csv, jsonl"),
        (["loss", "focal", "BATCH", "--url", "CLOSED"], 3, "nobody answers at"),
        (["loss", "focl", "BATCH"], 4, "did you mean 'focal'"),
        (["loss", "focal", "BATCH", "--gamma", "-1"], 4, "gamma"),
        (["loss", "focal", "BATCH", "--label-kind", "binary"], 4, "binary"),
        (["loss", "sparse", "BATCH", "--fail-above", "0.1"], 5, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors_are_one_line_and_a_code(
    arguments: list[str],
    code: int,
    said: str,
    run: Run,
    batch: Path,
) -> None:
    places = {"BATCH": str(batch), "CLOSED": closed()}
    found, _, err = run(*(places.get(each, each) for each in arguments))
    assert found == code
    assert said in err
    assert err.count("\n") == bool(said)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.npz", b"PK nonsense", "a.npz"),
        ("a.safetensors", b"12", "shorter than its header"),
        ("a.safetensors", b"", "shorter than its header"),
        ("a.parquet", b"nonsense", "a.parquet"),
        ("a.arrow", b"nonsense", "a.arrow"),
        ("a.csv", b"a,label\n1,2\n1\n", "a.csv:3 has 1 fields, the first line 2"),
        ("a.csv", b"a,label\nx,2\n", "a.csv, lines 2 to 2"),
        ("a.csv", b"label\n2\n", "no columns of logits"),
        ("a.csv", b"", "has no label"),
        ("a.npy", b"nonsense", "a.npy: not one of"),
    ],
)
def test_files_that_are_none_are_named(
    name: str, content: bytes, said: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    code, _, err = run("loss", "sparse", name)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_columns_are_found_or_missed(run: Run, tmp_path: Path) -> None:
    parquet.write_table(pa.table({"label": LABELS, "text": ["x"] * 60}), tmp_path / "t.parquet")
    assert "has no logits, but label, text" in run("loss", "sparse", "t.parquet")[2]
    np.savez(tmp_path / "z.npz", z=LOGITS, labels=LABELS)
    assert "has no logits, but z, labels" in run("loss", "sparse", "z.npz")[2]
    np.savez(tmp_path / "w.npz", logits=LOGITS, y=LABELS, sample_weights=np.ones(60) * 2)
    code, out, _ = run("loss", "sparse", "w.npz", "--json")
    assert code == 0
    assert json.loads(out)["reduction"]["denominator"] == 120


def test_the_doctor_finds_what_is_there_and_what_is_wrong(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run("doctor", "--json")
    found = {each["what"]: each for each in json.loads(out)}
    assert code == 0
    assert found["service"]["said"] == "takes work: device cpu, kernels eager"
    assert found["evaluation"]["state"] == "fine"
    assert "passes" in found["device"]["said"]
    code, out, _ = run("doctor", "--url", closed())
    assert code == 1
    assert "!! service: nobody answers at" in out
    assert run("doctor", "--local")[0] == 0
    monkeypatch.setitem(sys.modules, "torch", None)
    with Answering(
        [response(200), response(200, b'{"info": {"version": "0"}}'), response(401)]
    ) as it:
        code, out, _ = run("doctor", "--url", it.url)
    assert code == 1
    assert "!! key: no key" in out


@pytest.mark.slow
def test_it_runs_by_its_name_and_ends_with_its_reader(url: str) -> None:
    environment = {**os.environ, "XENT_URL": url, "PYTHONPATH": str(ROOT)}
    command = f"{sys.executable} -m xent variants | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["/bin/bash", "-c", command], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "variant" in done.stdout
    served = subprocess.run(
        [sys.executable, "-m", "xent", "serve", "--port", "70000"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert served.returncode == 2
    assert "XENT_PORT, --port" in served.stderr


def test_without_the_server_serve_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "service.__main__", None)
    code, _, err = run("serve")
    assert code == 2
    assert "pip install 'xent[server]'" in err


def test_it_tells_its_version(run: Run) -> None:
    code, out, err = run("--version")
    assert (code, out, err) == (0, f"xent {version_of('xent')}\n", "")


def test_help_says_how_it_ends(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert "Exit codes" in out
    assert run("loss", "--help")[0] == 0
    assert run()[0] == 2


@pytest.mark.slow
def test_a_long_batch_is_followed_by_a_bar(tmp_path: Path, url: str) -> None:
    """A terminal is a terminal: the command runs in one."""
    np.savez(
        tmp_path / "b.npz",
        logits=np.zeros((300_000, 16), np.float32),
        labels=LABELS[:1].repeat(300_000),
    )
    parquet.write_table(pa.concat_tables([TABLE] * 300), tmp_path / "b.parquet", row_group_size=900)
    shown = {
        name: in_a_terminal(["loss", "sparse", str(tmp_path / name)], url)
        for name in ("b.npz", "b.parquet")
    }
    assert all("nats" in each and "sending" in each for each in shown.values())
    assert "/18000" in shown["b.parquet"], "rows of a stream are counted"


def in_a_terminal(arguments: list[str], url: str) -> str:
    """Return what the command shows until it ends."""
    with terminal(arguments, url) as (process, shown):
        assert process.wait(PATIENCE_S) == 0, shown.decode()
    return shown.decode()


@contextmanager
def terminal(
    arguments: list[str], url: str
) -> Iterator[tuple["subprocess.Popen[bytes]", bytearray]]:
    """Run the command in a terminal; yield it, and what it shows."""
    parent, child = os.openpty()
    environment = {**os.environ, "XENT_URL": url, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "xent", *arguments], stdout=child, stderr=child, env=environment
    )
    os.close(child)
    shown = bytearray()

    def read() -> None:
        with suppress(OSError):  # the terminal is gone when its process is
            while part := os.read(parent, 1 << 16):
                shown.extend(part)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield process, shown
    finally:
        process.kill()
        process.wait()
        reader.join(PATIENCE_S)
        os.close(parent)


def test_a_project_is_watched(remembering: Running, run: Run) -> None:
    url = f"http://127.0.0.1:{remembering.port}"
    code, out, err = run("watch", "p", "--once", "--by", "model_version", "--url", url)
    assert (code, err) == (0, "")
    assert "p: loss.mean (nats), revision" in out
    assert "v1" in out
    code, out, _ = run("watch", "p", "--once", "--json", "--variant", "sparse", "--url", url)
    assert code == 0
    assert json.loads(out)["metric"] == "loss.mean"
    assert run("watch", "nothing", "--once", "--url", url)[0] == 4


def asked_again(running: Running) -> None:
    """Wait until time series were asked for twice more: once at least from beginning to end."""

    def asked() -> float:
        counted = [line.split() for line in running.client.get("/metrics").text.splitlines()]
        return sum(
            float(value)
            for name, value, *_ in filter(None, counted)
            if name.startswith("xent_requests_total{") and "/timeseries" in name
        )

    before = asked()
    until(lambda: asked() >= before + 2)


def test_watching_goes_on_and_tells_changes_only(remembering: Running) -> None:
    url = f"http://127.0.0.1:{remembering.port}"
    command = [sys.executable, "-m", "xent", "watch", "p", "--json", "--every", "0.1"]
    environment: dict[str, Any] = {**os.environ, "XENT_URL": url, "PYTHONPATH": str(ROOT)}
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["project"] == "p"
        asked_again(remembering)
        remembering.client.post("/projects/p/annotations", json={})  # whatever it says: nothing new
        asked_again(remembering)
    finally:
        watching.terminate()
        rest, _ = watching.communicate(timeout=PATIENCE_S)
    assert rest == ""
    until(lambda: watching.poll() is not None)


@pytest.mark.slow
def test_watching_outlives_its_service(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path))
    database.migrate()
    insert_batches(database, history(minutes=3))
    database.close()
    server = Running(data_dir=tmp_path)
    with terminal(["watch", "p", "--every", "0.1"], f"http://127.0.0.1:{server.port}") as (
        process,
        shown,
    ):
        until(lambda: b"loss.mean" in shown)
        server.stop()
        until(lambda: b"nobody answers" in shown)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
    assert b"Traceback" not in shown


@pytest.mark.parametrize("name", ["all.csv", "all.jsonl", "p.parquet"])
def test_a_project_is_exported(name: str, remembering: Running, run: Run, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{remembering.port}"
    output = [] if name == "p.parquet" else ["--output", name]
    code, out, err = run("export", "p", *output, "--since", START // 1000, "--url", url)
    assert (code, out) == (0, "")
    assert f"{name}: {(tmp_path / name).stat().st_size:,} bytes" in err


def test_an_export_may_go_anywhere(
    remembering: Running, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    url = f"http://127.0.0.1:{remembering.port}"
    command = [sys.executable, "-m", "xent", "export", "p", "--format", "csv", "-o", "-"]
    environment = {**os.environ, "XENT_URL": url, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert done.stdout.startswith(b"series,")
    assert done.stderr == b""
    code = app.run(["export", "p", "-o", "no/where.csv", "--url", url])
    assert code == 2
    assert b"no/where.csv: No such file" in capfdbinary.readouterr().err


def test_what_needs_a_package_names_it(
    run: Run, files: Mapping[str, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in ("b.parquet", "b.arrow"):
        code, _, err = run("loss", "sparse", *files[name])
        assert code == 2
        assert "pip install 'pyarrow'" in err
    assert run("loss", "sparse", *files["b.csv"], "--json")[0] == 0


def test_two_files_are_numpys(run: Run, tmp_path: Path, batch: Path) -> None:
    (tmp_path / "z.npy").write_bytes(b"nonsense")
    assert "z.npy" in run("loss", "sparse", "z.npy", "z.npy")[2]
    assert "batch.npz is no .npy file" in run("loss", "sparse", batch, batch)[2]


def test_many_classes_are_shown_in_part(run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "many.npz", logits=np.zeros((3, 90)), labels=[0, 1, -100])
    code, out, _ = run("loss", "sparse", "many.npz", "--per-class", "--class-names", "a,b")
    assert code == 4, "two names for ninety classes"
    code, out, _ = run("loss", "sparse", "many.npz", "--per-class")
    assert code == 0
    assert "50 more: --json lists all" in out
    assert "2 of 3, 1 ignored" in out
    assert "note: 88 of 90 classes have no row" in out


def test_class_names_that_cannot_be_read_are_said(run: Run, batch: Path, tmp_path: Path) -> None:
    (tmp_path / "names").write_bytes(b"\xff\xff")
    code, _, err = run("loss", "sparse", batch, "--class-names", "names")
    assert code == 2
    assert "names: " in err


def test_settings_of_variants_that_are_not_known_here_are_passed_on(run: Run, batch: Path) -> None:
    code, _, err = run("loss", "new-variant", batch, "--strength", "high")
    assert code == 4
    assert "unknown variant 'new-variant'" in err


def test_sparks() -> None:
    assert show.spark([1.0, None, 2.0, 1.5]) == "▁ █▅"
    assert show.spark([None]) == ""
    assert show.spark([3.0, 3.0]) == "▁▁"
