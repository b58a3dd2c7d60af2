"""What is counted, in a registry of its own for every application."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Final, get_args

import torch
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from typing_extensions import override

from service.engine import Engine
from service.history.standing import STATES
from service.history.standing import State as AlertState
from service.history.webhooks import Outcome
from service.kernels import Kernels, State
from xentcore import Result

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

AlertStates = Mapping[tuple[str, str], AlertState]  # by project and alert


class Metrics:
    """The service's metrics. Labels take few values each: routes are templates, not paths."""

    def __init__(
        self, engine: Engine, kernels: Kernels, *, workers: int, device: torch.device
    ) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "xent_requests",
            "Requests answered; status 499: the client left first.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.duration_s = Histogram(
            "xent_request_duration_seconds",
            "From the request's head to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.request_bytes = Counter(
            "xent_request_bytes", "Bytes of bodies received.", registry=self.registry
        )
        self.response_bytes = Counter(
            "xent_response_bytes", "Bytes of bodies sent.", registry=self.registry
        )
        self.rows = Counter(
            "xent_rows",
            "Rows by what became of them.",
            ["variant", "outcome"],
            registry=self.registry,
        )
        self._rows = cache(self.rows.labels)  # looked up once each
        self.rejected = Counter(
            "xent_rejected",
            "Requests refused for want of a place, of readiness or of time.",
            ["reason"],
            registry=self.registry,
        )
        self.deliveries = Counter(
            "xent_webhook_deliveries",
            "Attempts to deliver a message about an alert.",
            ["outcome"],
            registry=self.registry,
        )
        self.tracked = Counter(
            "xent_tracked_batches",
            "Tracked batches by what became of them.",
            ["status"],
            registry=self.registry,
        )
        self.labelled = Counter(
            "xent_labelled_batches",
            "Batches that late labels came for, by what became of them.",
            ["status"],
            registry=self.registry,
        )
        queue = Gauge(
            "xent_queue_depth", "Admitted requests that no worker has yet.", registry=self.registry
        )
        queue.set_function(lambda: engine.waiting)
        states = Gauge(
            "xent_workers", "Workers by what they do.", ["state"], registry=self.registry
        )
        states.labels("busy").set_function(lambda: engine.busy - engine.dead)
        states.labels("dead").set_function(lambda: engine.dead)
        states.labels("idle").set_function(lambda: workers - engine.busy)
        serving = Gauge(
            "xent_kernels",
            "Which passes serve: 1 for the state that holds.",
            ["state"],
            registry=self.registry,
        )
        for state in get_args(State):
            serving.labels(state).set_function(partial(_is, kernels, state))
        Info("xent_device", "Where evaluations run.", registry=self.registry).info(
            {"device": str(device), "name": _device_name(device), "torch": torch.__version__}
        )

    def watch_recorder(self, depth: Callable[[], float]) -> None:
        """Show how many requests wait to be recorded."""
        waiting = Gauge(
            "xent_history_queue_depth",
            "Requests that wait to be recorded.",
            registry=self.registry,
        )
        waiting.set_function(depth)

    def watch_models(self, loaded: Callable[[], float]) -> None:
        """Show how many ONNX models are loaded."""
        models = Gauge("xent_models_loaded", "ONNX models that are loaded.", registry=self.registry)
        models.set_function(loaded)

    def count_rows(self, results: Sequence[Result]) -> None:
        """Count the rows of finished evaluations."""
        for result in results:
            rows = result.rows
            for outcome, number in (
                ("evaluated", rows.evaluated),
                ("ignored", rows.ignored),
                ("nonfinite", rows.nonfinite),
                ("infinite", rows.infinite),
            ):
                if number:
                    self._rows(result.variant, outcome).inc(number)

    def count_delivery(self, outcome: Outcome) -> None:
        """Count an attempt to deliver a message."""
        self.deliveries.labels(outcome).inc()

    def show_alerts(self, states: Callable[[], AlertStates]) -> None:
        """Show how alerts stand, as they say whenever the metrics are read."""
        self.registry.register(_AlertCollector(states))

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self.registry)


class _AlertCollector(Collector):
    """Alerts come and go: what is shown is what there is."""

    def __init__(self, states: Callable[[], AlertStates]) -> None:
        self._states = states

    @override
    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield how alerts stand."""
        family = GaugeMetricFamily(
            "xent_alerts",
            "How alerts stand: 1 for the state that holds.",
            labels=["project", "alert", "state"],
        )
        for (project, alert), held in self._states().items():
            for state in STATES:
                family.add_metric([project, alert, state], float(state == held))
        yield family


def _is(kernels: Kernels, state: State) -> bool:
    return kernels.state == state


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
