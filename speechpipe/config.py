"""Settings: the only reader of the environment (`SPEECHPIPE_*`)."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Everything an operator can set. Durations in seconds, sizes in bytes unless the name says more."""

    model_config = SettingsConfigDict(env_prefix="SPEECHPIPE_", extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    log_level: str = "info"
    insecure: bool = Field(
        False, description="Serve on an address that is not loopback although there are no API keys."
    )
    allowed_hosts: list[str] = Field(
        default_factory=list,
        description="Host names that requests may carry besides loopback, addresses and names without a dot; "
        "`.example.com` means all below it, `*` any.",
    )
    allowed_origins: list[str] = Field(
        default_factory=list,
        description="Origins (`https://app.example.com`) whose pages may send requests and open websockets, "
        "besides this server's own; `*` = any.",
    )
    root_path: str = Field(
        "", pattern=r"^(/[A-Za-z0-9._~-]+)*$", description="Prefix under which a proxy serves this server."
    )
    max_connections: int = Field(
        0, ge=0, description="Open connections; 0 = LIVE_MAX_SESSIONS + 1000, or what the limit of open files allows."
    )
    max_connections_per_address: int = Field(0, ge=0, description="Open connections of one client address; 0 = all.")
    header_timeout_s: float = Field(10.0, gt=0, description="For the head of a request to arrive.")
    body_timeout_s: float = Field(30.0, gt=0, description="For the body of any request but an upload to arrive.")
    send_timeout_s: float = Field(60.0, gt=0, description="Without progress while a client is sent an answer.")

    bundle: str = Field("default", description="The champion: what `default` and `whisper-1` mean.")
    preload: list[str] = Field(
        default_factory=list, description="Bundles loaded before the server is ready; empty = the champion."
    )
    models_dir: Path | None = Field(
        None,
        description="Cards and weights of your own, beside the package's; empty = `models` in the state directory.",
    )

    workers: int = Field(0, ge=0, le=256, description="Recognizer processes; 0 = one per CPU core.")
    worker_nice: int = Field(10, ge=0, le=19, description="Uploads give way to live audio and to the event loop.")
    worker_max_jobs: int = Field(2000, ge=0, description="Segments before a worker is replaced; 0 = never.")
    worker_max_rss_mb: int = Field(1500, ge=0, description="Memory before a worker is replaced; 0 = never.")
    segment_timeout_s: float = Field(60.0, gt=0)
    segment_attempts: int = Field(3, ge=1, le=10, description="Workers one segment may lose before it fails.")
    start_timeout_s: float = Field(60.0, gt=0)
    worker_wait_s: float = Field(
        30.0,
        gt=0,
        description="Segments wait so long for a worker while none can be started; then they end without text.",
    )
    drain_timeout_s: float = Field(30.0, ge=0, description="How long running uploads may finish on SIGTERM.")

    live_workers: int = Field(0, ge=0, le=256, description="Processes for live audio; 0 = one per CPU core.")
    live_worker_nice: int = Field(2, ge=0, le=19)
    live_worker_max_rss_mb: int = Field(4000, ge=0, description="As worker_max_rss_mb; each holds many segments.")
    live_slots: int = Field(64, ge=1, le=1024, description="Segments that one live worker holds at once.")
    live_warm_streams: int = Field(2, ge=1, description="Segments each live worker is ready for from the start.")
    live_max_sessions: int = Field(1000, ge=1, description="Whatever the measured load says.")
    live_max_per_key: int = Field(0, ge=0, description="Live sessions of one API key; more get 429. 0 = no limit.")
    live_load_limit: float = Field(0.9, gt=0, description="Of the CPU cores, above which sessions are refused.")
    live_max_speed: float = Field(4.0, ge=0, description="Audio seconds a second taken of one session; 0 = all.")
    live_max_buffer_s: float = Field(5.0, gt=0, description="Received of one session and not worked on.")
    live_idle_timeout_s: float = Field(10.0, gt=0, description="Without audio or KeepAlive before it is closed.")
    live_send_timeout_s: float = Field(20.0, gt=0, description="For a client to read what it is sent.")
    live_resume_s: float = Field(30.0, ge=0, description="How long a dropped connection may be resumed.")

    max_upload_bytes: int = Field(100 * 2**20, gt=0)
    max_audio_s: float = Field(4 * 3600.0, gt=0, description="Decoded seconds of one upload.")
    max_pending_s: float = Field(120.0, gt=0, description="Audio of one upload waiting for a recognizer.")
    upload_timeout_s: float = Field(600.0, gt=0, description="For the body of an upload to arrive.")
    upload_min_rate: int = Field(
        1024, ge=0, description="Bytes a second that the body of an upload must bring on average; 0 = any."
    )
    max_uploads_arriving: int = Field(
        0, ge=0, description="Uploads whose bodies are still arriving; one key may hold half. 0 = 4 x MAX_UPLOADS."
    )
    max_uploads: int = Field(16, ge=1, description="Uploads in progress at once; more get 503.")
    max_uploads_per_key: int = Field(0, ge=0, description="Of one API key; more get 429. 0 = no limit.")

    api_keys: list[str] = Field(default_factory=list, description="Empty = no authentication.")
    operator_keys: list[str] = Field(
        default_factory=list, description="Who may change rollouts; empty = whoever has an API key."
    )
    store_url: str = Field("", description="SQLAlchemy URL; empty = sqlite in the state directory.")
    store_queue: int = Field(10_000, ge=1, description="Records waiting for the store; more are counted lost.")
    keep_records_days: float = Field(30.0, gt=0, description="Records older than this are deleted.")
    keep_windows_days: float = Field(400.0, gt=0, description="What they were summed up to, and old alarms.")

    keep_audio_hours: float = Field(
        0.0, ge=0, description="Audio of sessions is kept so long, for replays; 0 = not at all."
    )
    keep_audio_share: float = Field(1.0, ge=0, le=1, description="Of the sessions, if audio is kept.")

    reviewer_keys: list[str] = Field(
        default_factory=list, description="Who reviews for all tenants; an API key alone reviews its own tenant's."
    )
    keep_reviews_days: float = Field(400.0, gt=0, description="Answered reviews are kept so long.")
    keep_review_audio_days: float = Field(30.0, gt=0, description="Audio of reviews; who has none by then expires.")
    callbacks: list[str] = Field(
        default_factory=list,
        description="URLs that clients may have called, and all below them: scheme, host, port, first segments of "
        "the path; empty = no calls.",
    )
    callback_networks: list[str] = Field(
        default_factory=list,
        description="Networks (CIDR) beside the public ones to which host names of callbacks may lead.",
    )
    signing_secret: str = Field(
        "",
        description="Signs callbacks and the alarm webhook; empty = made once, in signing.key of the state directory.",
    )

    enterprise_tenants: list[str] = Field(
        default_factory=list,
        description="Watched each for itself; everybody else is a consumer.",
    )
    metrics_off: list[str] = Field(default_factory=list, description="Metrics that are not read.")
    false_alarms_per_day: float = Field(0.1, gt=0, description="That wake somebody, over all that is watched.")
    false_looks_per_day: float = Field(1.0, gt=0, description="That somebody should look at in the morning.")
    traces: bool = Field(False, description="OpenTelemetry spans (the extra `otel`), configured by OTEL_*.")
    alarm_webhook: str = Field(
        "", pattern=r"^(https?://.+)?$", description="Gets alarms as Alertmanager would send them."
    )
    external_url: str = Field(
        "", pattern=r"^(https?://\S+)?$", description="Where people reach this server; links in alarms begin with it."
    )

    probes: Path | None = Field(None, description="Manifest of recordings that are sent through the cascade as probes.")
    probe_every_s: float = Field(300.0, gt=0, description="Seconds between two rounds of probes.")

    shadow_speed: float = Field(
        0.5, ge=0, description="Audio seconds a second that shadow hears while others are served; 0 = all it can."
    )

    retrain_policy: Path | None = Field(
        None, description="TOML that says when something is retrained by itself; empty = by hand only."
    )

    state_dir: Path = Path("var")

    @property
    def own_models_dir(self) -> Path:
        """Where cards and weights are that did not come with the package."""
        return self.models_dir or self.state_dir / "models"

    @property
    def cores(self) -> int:
        """The cores this process may use, not those of the machine: a container may own two of sixty-four."""
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @property
    def worker_count(self) -> int:
        """Recognizer processes for uploads and files."""
        return self.workers or self.cores

    @property
    def live_worker_count(self) -> int:
        """Recognizer processes for live audio."""
        return self.live_workers or self.cores

    def tenant_class(self, tenant: str) -> str:
        """How fast a tenant's data changes: `consumer` or `enterprise`."""
        return "enterprise" if tenant in self.enterprise_tenants else "consumer"

    @property
    def record_store_url(self) -> str:
        """Where records go."""
        return self.store_url or f"sqlite:///{self.state_dir / 'speechpipe.db'}"

    @property
    def preloaded_bundles(self) -> tuple[str, ...]:
        """Bundles that must be warm before the server says it is ready."""
        return tuple(dict.fromkeys([self.bundle, *self.preload]))
