"""Every knob of the service: an environment variable ``XENT_*``, typed, documented, frozen."""

import os
import tempfile
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from xentcore import kernels_dir

Scope = Literal["evaluate", "metrics", "read", "manage"]
WebhookHost = Annotated[
    str, Field(pattern=r"^([a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?|\[[0-9a-f:.]+\])(:\d{1,5})?$")
]


def cores() -> int:
    """Return the cores that this process may run on, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0))


class ApiKey(BaseModel):
    """A key and what it opens."""

    model_config = ConfigDict(frozen=True)

    key: SecretStr
    scopes: frozenset[Scope]


def _api_key(text: str) -> ApiKey:
    """Read ``key:scope+scope``. Messages never repeat the key."""
    key, _, scopes = text.strip().rpartition(":")
    names = set(scopes.split("+"))
    if not key or not names <= set(get_args(Scope)):
        known = ", ".join(get_args(Scope))
        raise ValueError(f"write key:scope+scope, with scopes out of {known}")
    return ApiKey.model_validate({"key": key, "scopes": names})


def _is_database(address: str) -> bool:
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):  # the latter from a port that is no number
        return False
    if url.get_backend_name() == "sqlite":
        # In memory there is one database for each connection.
        return url.database not in (None, "", ":memory:")
    return url.get_backend_name() == "postgresql"


class Settings(BaseSettings):
    """How the service runs. Units are part of the names."""

    model_config = SettingsConfigDict(
        env_prefix="XENT_",
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        hide_input_in_errors=True,  # it may be a key, or an address that holds a password
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    data_dir: Path = Field(
        Path("data"), description="directory for what the service keeps; made at start"
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="where to evaluate: auto, cpu, cuda or cuda:N",
    )
    kernels: Literal["auto", "built", "eager"] = Field(
        "auto",
        description="compiled passes: auto builds them in the background where they are missing "
        "and there is a C++ compiler, built takes them only where they are built, eager never",
    )
    kernels_dir: Path = Field(
        default_factory=kernels_dir, description="directory of the compiled passes"
    )
    workers: int = Field(
        # One core is left for the event loop, which receives and sends meanwhile.
        default_factory=lambda: max(1, cores() - 1),
        ge=1,
        le=1024,
        description="evaluations that run at the same time (default: the cores but one)",
    )
    threads: int = Field(
        # The core that is left for the event loop helps where nothing arrives.
        default_factory=lambda: min(2, cores()),
        ge=1,
        le=1024,
        description="threads of one evaluation on the CPU (default: 2, or 1 on a single core)",
    )
    queue: int = Field(
        64, ge=0, description="admitted requests beyond the workers; more are refused with 429"
    )
    body_bytes: int = Field(
        1 << 30, ge=1, description="largest request body, received and decompressed, in bytes"
    )
    stream_bytes: int = Field(
        1 << 25,
        ge=0,
        description="safetensors bodies above this are evaluated in pieces that are not kept",
    )
    piece_bytes: int = Field(
        # A little less than four strips of xentcore's: what is around the passes is done for many
        # rows, no piece leaves a few of them over, and all pieces fit the cache of a processor.
        8_000_000,
        ge=64,
        description="a streamed body is evaluated in pieces of this many bytes",
    )
    spool_bytes: int = Field(
        1 << 25,
        ge=0,
        description="what must be kept of a streamed body goes to a file in data_dir above this",
    )
    message_bytes: int = Field(
        1 << 26, ge=1, description="largest record batch of an Arrow stream, in bytes"
    )
    rows: int = Field(1 << 26, ge=1, description="most rows in one batch")
    classes: int = Field(1 << 20, ge=1, description="most classes in one batch")
    elements: int = Field(1 << 28, ge=1, description="most logits in one batch (rows x classes)")
    document_entries: int = Field(
        1 << 21, ge=1, description="most entries of class_names, sample_ids and settings together"
    )
    compare_variants: int = Field(32, ge=1, description="most variants in one comparison")
    shared_memory: Literal["off", "copied", "mapped"] = Field(
        "off",
        description="whether clients on this host may register shared memory under /v2: copied "
        "reads it safely, mapped reads logits in place, and then a client that shrinks its memory "
        "while it is read ends the service",
    )
    header_deadline_s: float = Field(
        30.0, gt=0, description="a connection that sends no complete request head is closed, s"
    )
    body_deadline_s: float = Field(60.0, gt=0, description="a body must be complete within, s")
    evaluation_deadline_s: float = Field(
        120.0, gt=0, description="queueing, decoding and evaluating must end within, s"
    )
    worker_grace_s: float = Field(
        10.0,
        ge=0,
        description="a worker that runs on this long past the deadline counts as dead, s",
    )
    drain_s: float = Field(
        0.0,
        ge=0,
        description="after a stop signal answer 503 on /health/ready at least this long, s",
    )
    shutdown_deadline_s: float = Field(
        30.0, gt=0, description="in-flight requests are given up this long after a stop signal, s"
    )
    api_keys: Annotated[tuple[ApiKey, ...], NoDecode] = Field(
        (),
        description="key:scope+scope,... with scopes evaluate, metrics, read (the history) and "
        "manage (alerts, notes, models); none leaves all open",
    )
    webhook_hosts: Annotated[tuple[WebhookHost, ...], NoDecode] = Field(
        (),
        description="hosts that webhooks of alerts may be sent to: host or host:port, comma "
        "between; none refuses webhooks",
    )
    webhook_deadline_s: float = Field(
        10.0, gt=0, description="a host must take each step of a webhook's delivery within, s"
    )
    alert_interval_s: float = Field(
        10.0, gt=0, description="alerts of projects that changed are looked at this often, s"
    )
    database_url: SecretStr | None = Field(
        None,
        description="where the history is kept: sqlite:///path or "
        "postgresql://user:password@host/name; none: a file in data_dir",
    )
    retention_days: int = Field(
        400,
        ge=0,
        description="batches are removed when they are older; older ones are refused; 0 keeps all",
    )
    pending_bytes: int = Field(
        1 << 26, ge=0, description="largest body that is kept until its labels come, in bytes"
    )
    pending_hours: float = Field(
        72.0, gt=0, description="how long a body waits for its labels, unless it says otherwise, h"
    )
    history_queue: int = Field(
        1024, ge=1, description="requests that wait to be recorded; more are refused with 503"
    )
    history_queue_bytes: int = Field(
        1 << 28, ge=1, description="most bytes that wait to be recorded; more are refused with 503"
    )
    history_deadline_s: float = Field(
        30.0, gt=0, description="what was evaluated must be recorded within, s"
    )
    models_dir: Path | None = Field(
        None,
        description="directory of ONNX models, NAME/VERSION/model.onnx; none: no models are served",
    )
    model_uploads: bool = Field(
        False, description="whether models may be uploaded and deleted, with the scope manage"
    )
    model_bytes: int = Field(1 << 28, ge=1, description="largest file of a model, in bytes")
    model_sessions: int = Field(8, ge=1, description="models that are kept loaded")
    model_rows: int = Field(1024, ge=1, description="most rows that a model is run on at once")
    model_memory_bytes: int = Field(
        1 << 31,
        ge=1 << 20,
        description="most memory of all models of the process together, weights and runs, in bytes",
    )
    model_trial_s: float = Field(
        60.0, gt=0, description="a model that is tried before its first use must be done within, s"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe level that is logged"
    )
    log_format: Literal["json", "console"] = Field("json", description="how log lines look")

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(_api_key(part) for part in value.split(",") if part.strip())

    @field_validator("webhook_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip().lower() for part in value.split(",") if part.strip())

    @field_validator("database_url")
    @classmethod
    def _address(cls, value: SecretStr | None) -> SecretStr | None:
        """Refuse what is no address, without repeating it."""
        if value is not None and not _is_database(value.get_secret_value()):
            raise ValueError("write sqlite:///path or postgresql://user:password@host/name")
        return value

    @model_validator(mode="after")
    def _deadlines_in_order(self) -> Self:
        if self.drain_s > self.shutdown_deadline_s:
            raise ValueError("drain_s must not exceed shutdown_deadline_s")
        return self

    def prepare_data_dir(self) -> None:
        """Make the data directory and prove that it can be written.

        Raises:
            OSError: it cannot be made or written.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.data_dir):
            pass
