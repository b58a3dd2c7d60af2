"""docker-compose.yml, built and run for real by `make test-compose`, then taken down again."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
PROMETHEUS_CONFIG = ROOT / "deploy/prometheus/prometheus.yml"
BATCH = {"logits": [[2.0, 1.0, 0.0, -1.0], [0.1, 0.2, 0.3, 0.4]], "labels": [0, 3]}

pytestmark = pytest.mark.timeout(1800)  # the first build downloads torch


def run(*command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True, check=False)


def output_of(*command: str, env: dict[str, str] | None = None) -> str:
    done = run(*command, env=env)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def eventually(holds: Callable[[], bool], within_s: float = 120) -> bool:
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def compose_command() -> tuple[str, ...]:
    if run("docker", "compose", "version").returncode == 0:
        return ("docker", "compose")
    assert shutil.which("docker-compose"), (
        "neither `docker compose` nor `docker-compose` is installed"
    )
    return ("docker-compose",)


@dataclass(frozen=True)
class Stack:
    """One compose project under a name and on ports of its own."""

    command: tuple[str, ...]
    env: dict[str, str]
    xent: httpx2.Client
    prometheus: httpx2.Client

    def compose(self, *arguments: str) -> str:
        return output_of(*self.command, *arguments, env=self.env)

    def container(self, service: str) -> str:
        return self.compose("ps", "-q", service)

    def inspect(self, service: str, template: str) -> str:
        return output_of("docker", "inspect", "--format", template, self.container(service))

    def python(self, script: str) -> str:
        return output_of("docker", "exec", self.container("xent"), "python", "-c", script)

    def until_healthy(self, service: str) -> None:
        def is_healthy() -> bool:
            return self.inspect(service, "{{.State.Health.Status}}") == "healthy"

        assert eventually(is_healthy), self.compose("logs", "--tail", "20", service)

    def loss(self) -> float:
        answer = self.xent.post("/loss/sparse", json=BATCH)
        assert answer.status_code == 200, answer.text
        loss = answer.json()["loss"]
        assert isinstance(loss, float)
        return loss


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    ports = {"XENT_PUBLISHED_PORT": free_port(), "PROMETHEUS_PUBLISHED_PORT": free_port()}
    env = {
        **os.environ,
        **{name: str(port) for name, port in ports.items()},
        "COMPOSE_PROJECT_NAME": f"xent-test-{os.getpid()}",
    }
    with (
        httpx2.Client(base_url=f"http://127.0.0.1:{ports['XENT_PUBLISHED_PORT']}") as xent,
        httpx2.Client(
            base_url=f"http://127.0.0.1:{ports['PROMETHEUS_PUBLISHED_PORT']}"
        ) as prometheus,
    ):
        stack = Stack(compose_command(), env, xent, prometheus)
        try:
            stack.compose("up", "--detach", "--build", "xent")
            stack.until_healthy("xent")
            yield stack
        finally:
            stack.compose("down", "--volumes", "--remove-orphans", "--rmi", "local")


def test_answers_from_outside(stack: Stack) -> None:
    assert stack.xent.get("/health/live").json() == {"live": True}
    assert stack.loss() == pytest.approx(0.8413, abs=1e-4)


def test_brings_its_compiled_passes_along(stack: Stack) -> None:
    ready = {"ready": True, "device": "cpu", "kernels": "compiled"}
    assert stack.xent.get("/health/ready").json() == ready


def test_is_confined(stack: Stack) -> None:
    assert stack.python("import os; print(os.getuid())") == "10001"
    assert stack.python("import os; print(bool(os.statvfs('/').f_flag & os.ST_RDONLY))") == "True"
    assert stack.python("import shutil; print(shutil.which('cc') or shutil.which('gcc'))") == "None"


def test_comes_back_after_its_process_was_killed(stack: Stack) -> None:
    before, restarts = stack.loss(), int(stack.inspect("xent", "{{.RestartCount}}"))
    stack.python("from pathlib import Path; Path('/data/probe').write_text('kept')")
    # -1 is every process but the container's init and the killer, which init's end takes along
    run("docker", "exec", stack.container("xent"), "python", "-c", "import os; os.kill(-1, 9)")
    assert eventually(lambda: int(stack.inspect("xent", "{{.RestartCount}}")) > restarts)
    stack.until_healthy("xent")
    assert stack.loss() == before
    assert (
        stack.python("from pathlib import Path; print(Path('/data/probe').read_text())") == "kept"
    )


def test_stops_in_order(stack: Stack) -> None:
    stack.compose("stop", "xent")
    stopped = run(*stack.command, "ps", "-a", "-q", "xent", env=stack.env).stdout.strip()
    assert output_of("docker", "inspect", "--format", "{{.State.ExitCode}}", stopped) == "0"
    stack.compose("start", "xent")
    stack.until_healthy("xent")


def test_metrics_reach_prometheus(stack: Stack) -> None:
    stack.loss()
    assert re.search(r"^xent_\w+", stack.xent.get("/metrics").text, re.MULTILINE)
    if not can_have(prometheus_image(stack)):
        check_configuration()
        return
    stack.compose("up", "--detach", "--no-deps", "prometheus")
    stack.until_healthy("prometheus")
    assert eventually(lambda: is_scraped(stack.prometheus))


def prometheus_image(stack: Stack) -> str:
    found = re.search(r"image: (prom/prometheus\S+)", stack.compose("config"))
    assert found
    return found[1]


def can_have(image: str) -> bool:
    commands = (("docker", "image", "inspect", image), ("docker", "pull", image))
    return any(run(*command).returncode == 0 for command in commands)


def check_configuration() -> None:
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("neither Prometheus's image nor promtool (Debian's prometheus) is to be had")
    assert "SUCCESS" in output_of(promtool, "check", "config", str(PROMETHEUS_CONFIG))


def is_scraped(prometheus: httpx2.Client) -> bool:
    up = prometheus.get("/api/v1/query", params={"query": 'up{job="xent"}'}).json()
    names = prometheus.get("/api/v1/label/__name__/values").json()["data"]
    return [sample["value"][1] for sample in up["data"]["result"]] == ["1"] and any(
        name.startswith("xent_") for name in names
    )
