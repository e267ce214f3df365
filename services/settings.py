"""Every setting of the platform, read from ``SIGHTLINE_*`` once and handed down. The only reader of the environment."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

PREFIX = "SIGHTLINE_"
MIB = 1024 * 1024
_TRITON_URL = r"(grpcs?://)?([^/\s:@]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}(/[a-z0-9][a-z0-9._+-]*)?"

_HOST_PORT = r"([^/\s:@]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}"


class Settings(BaseSettings):
    """Defaults serve one machine; each field can be set as ``SIGHTLINE_<NAME>`` or by a flag of ``sightline serve``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    # Where things are
    data_dir: Path = Field(Path("~/.sightline"), description="Models, database, artifacts, caches")
    host: str = Field("127.0.0.1", description="Address to bind; anything but loopback needs an API key")
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=256, description="Gateway processes")
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    database_url: str | None = Field(None, description="SQLAlchemy address; SQLite in data_dir when absent")
    redis_url: str | None = Field(None, description="Broker; a private Valkey in data_dir when absent")
    secrets_dir: Path = Field(
        Path("/run/secrets"), description="Files named like sightline_database_url: settings that no variable sets"
    )
    artifact_url: str | None = Field(None, description="fsspec address of the artifact store; data_dir when absent")

    # Who may call
    auth: Literal["auto", "required", "off"] = Field(
        "auto",
        description="auto: keys are required once one exists, and only loopback is bound until then; "
        "off: never ask (loopback only)",
    )
    rate_limit: float = Field(0, ge=0, lt=1e9, description="Requests a second for each key; 0 is unlimited")
    rate_burst: int = Field(0, ge=0, description="Requests a key may send at once; 0 is twice the rate")
    cors_origins: tuple[str, ...] = Field((), description="Origins that browsers may call from; none by default")
    docs: bool = Field(True, description="Serve /docs and /openapi.json")

    # What a request may cost
    max_body_bytes: int = Field(32 * MIB, ge=1024, description="Refused before it is read")
    max_image_bytes: int = Field(16 * MIB, ge=1024, description="One encoded image")
    max_image_pixels: int = Field(25_000_000, ge=1024, description="From the header, before decoding")
    max_decoded_pixels: int = Field(
        100_000_000, ge=1024, description="Decoded at once, in one request or several: 4 bytes each"
    )
    max_image_aspect: float = Field(100.0, ge=1, description="Longer side over shorter side")
    max_image_frames: int = Field(1_000, ge=1, description="GIF, WebP and APNG frames; only the first is used")
    max_images: int = Field(64, ge=1, description="Images in one request")
    max_labels: int = Field(10_000, ge=1, description="Labels in one request")
    max_text_chars: int = Field(8_192, ge=16, description="One text")
    body_timeout: float = Field(20.0, gt=0, description="Seconds for a client to send its body")
    deadline: float = Field(30.0, gt=0, description="Seconds for one request, queue included")
    drain_seconds: float = Field(20.0, ge=0, description="Seconds for requests in flight on SIGTERM")
    lame_duck_seconds: float = Field(
        0.0, ge=0, description="Seconds to go on accepting after SIGTERM, while load balancers learn of it"
    )
    max_inflight: int = Field(
        128, ge=1, description="Inferences in flight in one gateway process; a large request counts as several"
    )
    max_held_bytes: int = Field(256 * MIB, ge=1024, description="Bodies of requests in flight in one gateway process")
    metrics_open: bool = Field(False, description="Serve /metrics without a key even where keys are asked for")
    metrics_token: str | None = Field(
        None, min_length=16, repr=False, description="A bearer token that reads /metrics and may do nothing else"
    )
    otlp_endpoint: str | None = Field(
        None, description="Collector of traces (OTLP over HTTP), such as http://localhost:4318; none when absent"
    )
    trace_ratio: float = Field(1.0, ge=0, le=1, description="Share of requests traced, when their caller has not said")

    # Remote images
    fetch_images: bool = Field(False, description="Accept https:// images")
    fetch_timeout: float = Field(10.0, gt=0, description="Seconds for a whole remote image, redirects included")
    fetch_redirects: int = Field(3, ge=0, le=10)
    fetch_hosts: tuple[str, ...] = Field((), description="Only these hosts, when any is named")

    # Models
    runtime: Literal["onnx", "triton"] = "onnx"
    triton_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        ("127.0.0.1:8011",),
        description="gRPC addresses of Triton servers: host:port,host:port; grpcs:// before one for TLS, /model+model "
        "after one that is for these models only",
    )
    triton_batches: int = Field(2, ge=1, le=64, description="Batches in flight for each instance of a model")
    triton_server: Path | None = Field(
        None, description="tritonserver, or a virtual environment that has nvidia-pytriton; looked for when absent"
    )
    torch_url: str | None = Field(
        None,
        pattern=_HOST_PORT,
        description="host:port of a torch worker that runs elsewhere; one of this machine, started when a model needs "
        "it, when absent",
    )
    torch_token: str | None = Field(
        None, min_length=16, repr=False, description="What gateways and a torch worker at torch_url both know"
    )
    torch_device: str = Field(
        "auto", pattern=r"auto|cpu|cuda(:[0-9]{1,2})?", description="Where the torch worker computes: auto, cpu, cuda:0"
    )
    torch_memory_bytes: int = Field(
        4096 * MIB, ge=0, description="Memory of the torch worker, PyTorch itself (240 MB) included; 0 is unlimited"
    )
    torch_concurrency: int = Field(1, ge=1, le=64, description="Runs at once in the torch worker")
    session_seconds: float = Field(
        3_600.0, gt=0, description="Sessions with bots take no more turns this long after the last"
    )
    torch_threads: int = Field(0, ge=0, le=1024, description="Threads of one run; 0 shares the cores between the runs")
    torch_stop_seconds: float = Field(
        30.0, gt=0, description="Seconds for a run to stop that nobody waits for; then the torch worker starts anew"
    )
    providers: tuple[str, ...] = Field((), description="ONNX Runtime providers in order; CUDA then CPU when absent")
    preload: tuple[str, ...] = Field(("*",), description="Models to load at start; * is all, empty is none")
    default_classifier: str = "photo-zero-shot"
    default_detector: str = "photo-detect"
    default_text_encoder: str = "minilm-l6"
    text_cache_bytes: int = Field(
        64 * MIB, ge=0, description="Class-text embeddings kept in memory, of classification and of detection each"
    )
    text_disk_cache_bytes: int = Field(512 * MIB, ge=0, description="Class-text embeddings of large label sets on disk")

    # Artifacts: what is uploaded, and what jobs make
    artifact_options: dict[str, str | int | bool] = Field(
        {}, description='More for fsspec, as JSON: {"endpoint_url": "https://..."}'
    )
    artifact_quota_bytes: int = Field(20 * 1024 * MIB, ge=0, description="For each key; 0 is unlimited")
    artifact_retention_days: float = Field(30.0, gt=0, description="Uploads older than this are removed")
    max_upload_bytes: int = Field(2 * 1024 * MIB, ge=1024, description="One uploaded artifact or data set")
    import_seconds: float = Field(900.0, gt=0, description="Seconds for one uploaded data set to be read")

    # Benchmarks
    suite_token: str | None = Field(
        None, repr=False, description="Query that the publisher of a suite's files asks for, such as sp=r&sig=..."
    )

    # Jobs
    max_jobs_queued: int = Field(10_000, ge=1, description="Waiting jobs of one key; more are refused with 429")
    max_jobs_running: int = Field(0, ge=0, description="Jobs of one key that may run at once; 0 is unlimited")
    job_lease: float = Field(10.0, ge=1, description="Seconds without a sign of life after which a job is taken over")
    job_heartbeat: float = Field(2.0, ge=0.05, description="Seconds between a job's signs of life")
    job_deaths: int = Field(3, ge=1, description="Workers lost in a row without a checkpoint before a job fails")
    job_patience: float = Field(1800.0, ge=0, description="Seconds to wait out a full disk or a gateway that is away")
    job_time_limit: float = Field(172_800.0, ge=0, description="Seconds that one attempt may run; 0 is unlimited")
    job_retention_days: float = Field(30.0, gt=0, description="Finished jobs older than this are removed")
    job_modules: tuple[str, ...] = Field((), description="Python modules that bring further kinds of jobs")
    jobs: bool = Field(True, description="Run what jobs need beside the gateway: a broker, maintenance, workers")
    queues: tuple[Literal["batch", "finetune", "benchmark", "default"], ...] = Field(
        ("batch", "finetune", "benchmark", "default"),
        description="Queues to run a worker for on this machine; none when workers run elsewhere",
    )
    worker_concurrency: int = Field(1, ge=1, le=256, description="Jobs that one worker process runs at once")
    celery_events: bool = Field(False, description="Let Celery tell of its tasks and workers, for celery-exporter")
    gateway_url: str | None = Field(None, description="Where workers reach the gateway; host and port when absent")
    webhook_private: bool = Field(False, description="Let webhooks go to private addresses and plain http")
    webhook_attempts: int = Field(
        8, ge=1, le=20, description="Tries to deliver one webhook, each pause three times the last"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return what is given counts most, then variables, then the files of ``secrets_dir``."""
        named = (source().get("secrets_dir") for source in (init_settings, env_settings))
        folder = Path(next((name for name in named if name), cls.model_fields["secrets_dir"].default))
        files = [SecretsSettingsSource(settings_cls, folder)] if folder.is_dir() else []
        return init_settings, env_settings, *files

    @field_validator("data_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @field_validator("triton_urls", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """``a:1,b:2`` as people write it, or JSON as :meth:`environment` does."""
        if not isinstance(value, str):
            return value
        return json.loads(value) if value.startswith("[") else [one.strip() for one in value.split(",") if one.strip()]

    @field_validator("triton_urls")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if not re.fullmatch(_TRITON_URL, url):
                raise ValueError(f"{url[:80]!r} is not host:port, grpcs://host:port or host:port/model+model")
        return value

    @property
    def models_dir(self) -> Path:
        """The model repository, in Triton's layout."""
        return self.data_dir / "models"

    @property
    def cache_dir(self) -> Path:
        """Downloads and other things that can be had again."""
        return self.data_dir / "cache"

    @property
    def suites_dir(self) -> Path:
        """Published data sets as they were fetched, or put there by hand: ``<suite>/<data set>/<file>``."""
        return self.data_dir / "suites"

    @property
    def sets_dir(self) -> Path:
        """Data sets that ``sightline datasets build`` made, a folder each."""
        return self.data_dir / "sets"

    @property
    def run_dir(self) -> Path:
        """Sockets, process ids, metric files: empty after a clean stop."""
        return self.data_dir / "run"

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir / 'sightline.db'}"

    @property
    def artifact_address(self) -> str:
        return self.artifact_url or str(self.data_dir / "artifacts")

    @property
    def gateway_address(self) -> str:
        """Where a worker on this machine, or one that was told, reaches the gateway."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(self.host, self.host)  # noqa: S104
        return (self.gateway_url or f"http://{host}:{self.port}").rstrip("/")

    @property
    def scratch_dir(self) -> Path:
        """Files being written, on the file system of the artifacts: worthless once their process is gone."""
        return self.data_dir / "scratch"

    def environment(self) -> dict[str, str]:
        """The variables that make another process read these same settings."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {
            PREFIX + name.upper(): value if isinstance(value, str) else json.dumps(value)
            for name, value in values.items()
        }


class ClientSettings(BaseSettings):
    """Where a client finds the platform, when its caller does not say."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    url: str = Field("http://127.0.0.1:8000", description="Address of the platform")
    api_key: str | None = Field(None, description="Sent as a bearer token")


def child_environment(settings: Settings, defaults: dict[str, str], fixed: dict[str, str]) -> dict[str, str]:
    """The environment of a process of the platform.

    It is this process's own, with every ``SIGHTLINE_*`` replaced by what ``settings`` says, ``defaults`` where nothing
    is set, and ``fixed`` over everything.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    return {**defaults, **inherited, **settings.environment(), **fixed}
