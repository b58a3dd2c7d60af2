"""What is installed, what is exported, what is typed, and what is generated."""

import inspect
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Coroutine
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, assert_type

import numpy as np
import pytest

import xent
from openapi.signatures import DOCUMENT, text
from xent import Alert, Answer, AsyncClient, Client, Comparison, Spec, TimeSeries, Variant
from xent.calls import Call
from xent.errors import PROBLEMS
from xent.operations import Operation
from xent.variants import OPTIONS, SETTINGS, VARIANTS
from xentcore import VARIANTS as REGISTRY
from xentcore import Options

ROOT: Final = Path(__file__).parent.parent.parent
HEAVY: Final = {"torch", "jax", "pandas", "polars", "pyarrow", "xentcore", "service", "fastapi"}


def imported(code: str) -> set[str]:
    """Return the packages that a fresh interpreter has loaded after some code."""
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("module", ["xent", "xent.command.app", "xent.validation", "xent.local"])
def test_nothing_heavy_is_loaded(module: str) -> None:
    assert not imported(f"import {module}") & HEAVY


def test_sending_arrays_of_numpy_loads_nothing_heavy_either() -> None:
    code = (
        "from xent.batches import Batch\nimport numpy as np\n"
        "Batch(np.ones((2, 3)), np.ones(2)).body({})[0].parts()"
    )
    assert not imported(code) & HEAVY


def test_the_project_brings_client_and_command_without_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = [each.split(">")[0] for each in project["project"]["dependencies"]]
    assert sorted(names) == ["anyio", "httpx2", "numpy", "rich", "typer"]
    assert project["project"]["scripts"] == {"xent": "xent.command.app:main"}
    assert "xent" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert files("xent").joinpath("py.typed").is_file()


def test_whatever_is_public_is_exported() -> None:
    public = {name for name, each in vars(xent).items() if inspect.isclass(each)}
    assert sorted(public) == xent.__all__
    assert set(PROBLEMS.values()) <= {getattr(xent, name) for name in xent.__all__}


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawing = xent.errors.__doc__ or ""
    for each in vars(xent.errors).values():
        if inspect.isclass(each) and issubclass(each, xent.XentError):
            (line,) = [line for line in drawing.splitlines() if each.__name__ in line.split()]
            depth = (len(line) - len(line.lstrip(" │├└─"))) // 4
            parents = [base for base in each.__mro__ if issubclass(base, xent.XentError)]
            assert depth == len(parents)
    for status, kind in PROBLEMS.items():
        assert any(
            f"{kind.__name__} " in line and str(status) in line for line in drawing.splitlines()
        )


def test_the_signatures_are_those_of_the_openapi_document() -> None:
    command = [sys.executable, "-m", "openapi.signatures"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == (ROOT / "xent" / "variants.py").read_text(), "run `make signatures`"


def test_the_signatures_know_every_variant_setting_and_option() -> None:
    assert sorted(VARIANTS) == sorted(REGISTRY)
    for slug, variant in REGISTRY.items():
        assert set(SETTINGS[slug]) == set(variant.settings_type.__dataclass_fields__)
    renamed = {"hardest": "k"}
    core = {renamed.get(name, name) for name in Options.__dataclass_fields__}
    assert core <= set(OPTIONS)


def test_a_setting_called_like_an_option_is_not_generated() -> None:
    document = json.loads(DOCUMENT.read_text())
    settings = document["components"]["schemas"]["FocalSettings"]["properties"]
    settings["reduction"] = settings["gamma"]
    with pytest.raises(SystemExit, match="reduction"):
        text(document)


OTHERS = {"/health/live", "/metrics"}
"""What is for orchestrators and Prometheus; /v2 speaks to clients of its own."""


def called() -> list[Call[Any]]:
    """Return a call of every operation."""
    client, project, model = Client(), Client().project("p"), Client().model("m")
    given: dict[str, tuple[Any, ...]] = {
        **dict.fromkeys(("evaluate", "loss"), ("sparse", [[0.0, 1.0]], [0])),
        "compare": ([[0.0, 1.0]], [0]),
        "onnx": ("sparse",),
        "labels": ("p", "m", "1", "b", [0]),
        "variant": ("sparse",),
        "upload": ("1", b""),
        "download": ("unused",),
        **dict.fromkeys(("note", "remove_note", "remove_alert", "add_alert", "options"), ("a",)),
        "remove": ("1",),
    }
    named: dict[str, dict[str, Any]] = {"onnx": {"classes": 2}, "compare": {"variants": ["sparse"]}}
    calls = []
    for each in (client, project, model):
        for name in dir(type(each)):
            operation = getattr(type(each), name)
            if isinstance(operation, Operation):
                asked = () if each is project and name == "compare" else given.get(name, ())
                keywords = {} if each is project else named.get(name, {})
                calls.append(operation.__wrapped__(each, *asked, **keywords))
    return calls


def test_everything_that_the_service_describes_can_be_asked() -> None:
    paths = json.loads(DOCUMENT.read_text())["paths"]
    described = {
        (method.upper(), path)
        for path, operations in paths.items()
        for method in operations
        if not path.startswith("/v2") and path not in OTHERS
    }
    patterns = {each: re.sub(r"\{[^}]+\}", "[^/]+", each[1]) for each in described}
    asked = {
        each
        for call in called()
        for each, pattern in patterns.items()
        if call.method == each[0] and re.fullmatch(pattern, call.path)
    }
    unasked = {each for each in described - asked if not each[1].startswith("/loss/")}
    assert not unasked


def typed(client: Client, other: AsyncClient) -> None:
    """Say what mypy must find; never called."""
    logits = np.ones((2, 3))
    answer = client.loss("focal", logits, [0, 1], gamma=2.0, outputs=["gradient"])
    assert_type(answer, Answer)
    later = [other.loss("focal", logits, [0, 1], gamma=2.0)]
    assert_type(later, list[Coroutine[Any, Any, Answer]])
    assert_type(client.variants(), list[Variant])
    assert_type(client.compare(logits, [0, 1], variants=["sparse", Spec("focal")]), Comparison)
    assert_type(client.project("p").timeseries(by="variant", model="m"), TimeSeries)
    lines = [other.project("p").timeseries()]
    assert_type(lines, list[Coroutine[Any, Any, TimeSeries]])
    assert_type(client.onnx("focal", classes=3), bytes)
    assert_type(client.project("p").add_alert("a", threshold=1.0, model="m"), Alert)
    assert_type(client.model("m").loss("focal", logits, [0, 1], gamma=2.0), Answer)
    losses = [other.model("m").loss("focal", logits, [0, 1], gamma=2.0)]
    assert_type(losses, list[Coroutine[Any, Any, Answer]])
    assert_type(client.model("m").compare(logits, [0, 1], variants=["sparse"]), Comparison)
    client.model("m").loss("focal", logits, [0, 1], gamme=2.0)  # type: ignore[call-overload]
    client.project("p").add_alert("a", treshold=1.0)  # type: ignore[call-arg]
    client.loss("focal", logits, [0, 1], gamme=2.0)  # type: ignore[call-overload]
    client.loss("focal", logits, [0, 1], gamma="2")  # type: ignore[call-overload]
    client.loss("weighted", logits, [0, 1])  # type: ignore[call-overload]
    client.loss("focl", logits, [0, 1])  # type: ignore[call-overload]
    client.compare(logits, variants=["sparse"], reduktion="sum")  # type: ignore[call-arg]
    client.project("p").timeseries(modell="x")  # type: ignore[call-arg]


def test_operations_have_their_documentation_and_signature() -> None:
    assert typed.__doc__
    with Client() as client:
        assert client.compare.__doc__
        assert "variants" in inspect.signature(client.compare).parameters
    assert (Client.compare.__doc__ or "").startswith("Return the losses of a batch")
    assert "variants" in inspect.signature(Client.compare).parameters
    assert repr(client) == "Client('http://127.0.0.1:8000')"
    assert repr(client.project("p")) == "Project('p')"
