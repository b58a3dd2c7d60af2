"""MLServer's inference command, where its environment was made: make test-clients."""

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.environments import HERE
from tests.service.harness import Running
from tests.service.inference import JSON, infer, numbers

COMMAND = HERE / "mlserver" / "bin" / "mlserver"


@pytest.mark.skipif(not COMMAND.exists(), reason="no MLServer here: make test-clients")
@pytest.mark.parametrize("binary", [[], ["--binary-data"]], ids=["json", "binary"])
def test_mlserver_infer(shared: Running, tmp_path: Path, binary: list[str]) -> None:
    outputs = [{"name": "loss"}, {"name": "per_sample"}]
    requests = [{"id": f"r{number}", "inputs": JSON, "outputs": outputs} for number in range(3)]
    asked, told = tmp_path / "asked.jsonl", tmp_path / "told.jsonl"
    asked.write_text("".join(f"{json.dumps(each)}\n" for each in requests))
    to = ["--url", f"127.0.0.1:{shared.port}", "--model-name", "sparse"]
    files = ["--input-data-path", str(asked), "--output-data-path", str(told)]
    subprocess.run(
        [str(COMMAND), "infer", *to, *files, *binary], capture_output=True, timeout=500, check=True
    )
    answers = [json.loads(line) for line in told.read_text().splitlines()]
    assert sorted(each["id"] for each in answers) == ["r0", "r1", "r2"]
    expected = numbers(infer(shared.client, {"inputs": JSON, "outputs": outputs}))
    for each in answers:
        assert {output["name"]: output["data"] for output in each["outputs"]} == expected
        assert each["model_name"] == "sparse"
