"""Settings: the only reader of the environment (`SPEECHPIPE_*`)."""

import difflib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from speechpipe.errors import BadInput, said
from speechpipe.foundation.state_files import make_folder

PREFIX = "SPEECHPIPE_"

LARGEST = 1e15
"""Of a number: bytes of a disk are fewer, and no wait is longer."""

NO_SETTINGS = {"KEY", "FUZZ", "BENCH_DATA"}
"""Names that begin with `SPEECHPIPE_` and are read by somebody else: a flag's variable, tests, benchmarks."""

OF_OTHERS = re.compile(r"TEST_\w+|(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
"""Of the tests; and what Kubernetes puts into every container of a namespace with a Service named `speechpipe...`."""

KUBERNETES_PORT = "tcp://"
"""How the value begins that Kubernetes gives to `SPEECHPIPE_PORT` where a Service is named `speechpipe`."""


def _items(value: object) -> object:
    """Read a list out of the environment: JSON where it begins with a bracket, else items between commas."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"not a JSON list ({error}); or write the items with commas between them") from None
    if text.startswith(("{", '"')):
        raise ValueError("not a list; write the items with commas between them, or a JSON list")
    return [item.strip() for item in text.split(",")] if text else []


def _complete(items: list[str]) -> list[str]:
    if any(not item.strip() for item in items):
        raise ValueError("an item is empty")
    return items


def _keys(value: object) -> object:
    """Refuse a list of keys that was set and holds nothing: it would let everybody in."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("set, but empty; unset it, or write [] for no keys")
    return value


def _sendable(items: list[str]) -> list[str]:
    if any(not re.fullmatch(r"[!-~]+", item) for item in items):
        raise ValueError("a key may have letters, digits and marks of ASCII only: it travels in a header")
    return items


def _store(url: str) -> str:
    if url and not re.match(r"(sqlite|postgresql)(\+\w+)?://", url):
        raise ValueError("must begin with sqlite:/// or postgresql:// (or be empty: SQLite in the state directory)")
    if url.startswith("postgresql"):
        _parts(url)
    return url


def _parts(url: str) -> SplitResult:
    """Return the parts of a URL that has a host, or none that could be wrong."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError as error:
        raise ValueError(f"no URL: {str(error).lower()}") from None
    return parts


def _web(url: str) -> str:
    if url and not _parts(url).hostname:
        raise ValueError("a URL without a host")
    return url


def _origins(items: list[str]) -> list[str]:
    for item in items:
        parts = _parts(item)
        if item != "*" and (not parts.scheme or not parts.hostname or parts.path not in ("", "/") or parts.query):
            raise ValueError(f"{item!r} is no origin: scheme://host or scheme://host:port, or *")
    return items


def _file(path: Path | None) -> Path | None:
    if path is not None and not _asked(path, path.is_file):
        raise ValueError(f"there is no file {path}")
    return path


def _folder(path: Path | None) -> Path | None:
    if path is not None and _asked(path, path.exists) and not path.is_dir():
        raise ValueError(f"{path} is not a folder")
    return path


def _asked(path: Path, question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError as error:  # a name that is too long, a loop of links
        raise ValueError(f"{path} cannot be looked up: {said(error)}") from None


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


Items = Annotated[list[str], NoDecode, AfterValidator(_complete), BeforeValidator(_items)]
"""A list of texts: `a,b` or `["a", "b"]`."""

Keys = Annotated[
    list[str],
    NoDecode,
    AfterValidator(_complete),
    AfterValidator(_sendable),
    BeforeValidator(_items),
    BeforeValidator(_keys),
]


class Settings(BaseSettings):
    """Everything an operator can set. Durations in seconds, sizes in bytes unless the name says more."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, allow_inf_nan=False)

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    log_level: Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)] = "info"
    insecure: bool = Field(
        False, description="Serve on an address that is not loopback although there are no API keys."
    )
    allowed_hosts: Items = Field(
        default_factory=list,
        description="Host names that requests may carry besides loopback, addresses and names without a dot; "
        "`.example.com` means all below it, `*` any.",
    )
    allowed_origins: Annotated[Items, AfterValidator(_origins)] = Field(
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
    preload: Items = Field(
        default_factory=list, description="Bundles loaded before the server is ready; empty = the champion."
    )
    models_dir: Annotated[Path | None, AfterValidator(_folder)] = Field(
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
    live_max_buffer_s: float = Field(5.0, ge=0.2, description="Received of one session and not worked on.")
    live_max_held_bytes: int = Field(
        32 * 2**20, gt=0, description="Messages and audio held for all sessions together, beyond 64 KiB each."
    )
    live_pause_s: float = Field(
        1.5, gt=0, description="Without audio, on the wall clock, before an open segment is ended."
    )
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

    api_keys: Keys = Field(default_factory=list, description="Empty = no authentication.")
    operator_keys: Keys = Field(
        default_factory=list, description="Who may change rollouts; empty = whoever has an API key."
    )
    store_url: Annotated[str, AfterValidator(_store)] = Field(
        "", description="SQLAlchemy URL; empty = sqlite in the state directory."
    )
    store_queue: int = Field(10_000, ge=1, description="Records waiting for the store; more are counted lost.")
    keep_records_days: float = Field(30.0, gt=0, description="Records older than this are deleted.")
    keep_windows_days: float = Field(400.0, gt=0, description="What they were summed up to, and old alarms.")

    keep_audio_hours: float = Field(
        0.0, ge=0, description="Audio of sessions is kept so long, for replays; 0 = not at all."
    )
    keep_audio_share: float = Field(1.0, ge=0, le=1, description="Of the sessions, if audio is kept.")

    reviewer_keys: Keys = Field(
        default_factory=list, description="Who reviews for all tenants; an API key alone reviews its own tenant's."
    )
    keep_reviews_days: float = Field(400.0, gt=0, description="Answered reviews are kept so long.")
    keep_review_audio_days: float = Field(30.0, gt=0, description="Audio of reviews; who has none by then expires.")
    callbacks: Items = Field(
        default_factory=list,
        description="URLs that clients may have called, and all below them: scheme, host, port, first segments of "
        "the path; empty = no calls.",
    )
    default_degree: Literal["human_only", "shadow", "assist", "partial", "full"] = Field(
        "full", description="Degree of automation of tenants for whom nobody has set one."
    )
    callback_networks: Items = Field(
        default_factory=list,
        description="Networks (CIDR) beside the public ones to which host names of callbacks may lead.",
    )
    signing_secret: str = Field(
        "",
        description="Signs callbacks and the alarm webhook; empty = made once, in signing.key of the state directory.",
    )

    enterprise_tenants: Items = Field(
        default_factory=list,
        description="Watched each for itself; everybody else is a consumer.",
    )
    metrics_off: Items = Field(default_factory=list, description="Metrics that are not read.")
    false_alarms_per_day: float = Field(0.1, gt=0, description="That wake somebody, over all that is watched.")
    false_looks_per_day: float = Field(1.0, gt=0, description="That somebody should look at in the morning.")
    traces: bool = Field(False, description="OpenTelemetry spans (the extra `otel`), configured by OTEL_*.")
    alarm_webhook: Annotated[str, AfterValidator(_web)] = Field(
        "", pattern=r"^(https?://.+)?$", description="Gets alarms as Alertmanager would send them."
    )
    external_url: Annotated[str, AfterValidator(_web)] = Field(
        "", pattern=r"^(https?://\S+)?$", description="Where people reach this server; links in alarms begin with it."
    )

    probes: Annotated[Path | None, AfterValidator(_file)] = Field(
        None, description="Manifest of recordings that are sent through the cascade as probes."
    )
    probe_every_s: float = Field(300.0, gt=0, description="Seconds between two rounds of probes.")

    shadow_speed: float = Field(
        0.5, ge=0, description="Audio seconds a second that shadow hears while others are served; 0 = all it can."
    )

    retrain_policy: Annotated[Path | None, AfterValidator(_file)] = Field(
        None, description="TOML that says when something is retrained by itself; empty = by hand only."
    )

    state_dir: Annotated[Path, AfterValidator(_folder)] = Path("var")

    @field_validator("*")
    @classmethod
    def _imaginable(cls, value: object) -> object:
        if isinstance(value, int | float) and abs(value) > LARGEST:
            raise ValueError(f"more than {LARGEST:g} is a mistake")
        return value

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


def check_state_dir(settings: Settings) -> None:
    """Make the state directory if it is not there, and try whether a file can be written in it.

    Raises:
        BadInput: it cannot be made or written to.
    """
    try:
        make_folder(settings.state_dir)
        with tempfile.TemporaryFile(dir=settings.state_dir):
            pass
    except OSError as error:
        raise BadInput(f"{PREFIX}STATE_DIR: cannot write to {settings.state_dir}: {said(error)}") from error


def load(**flags: Any) -> Settings:
    """Return the settings of the environment, with `flags` (by the name of the field) in their place.

    Raises:
        BadInput: a value does not fit, or a variable is unknown; one line that names each of them.
    """
    try:
        wrong = list(_unknown(os.environ))
        settings = Settings(**flags)
    except ValidationError as error:
        wrong += [_sentence(item, flags) for item in error.errors()]
    if wrong:
        raise BadInput("; ".join(wrong))
    return settings


def _unknown(variables: Iterable[str]) -> Iterable[str]:
    """Yield a sentence for every variable that looks like a setting and is none."""
    known = [name.upper() for name in Settings.model_fields]
    for variable in sorted(variables):
        name = variable.upper().removeprefix(PREFIX)
        if not variable.upper().startswith(PREFIX) or name in known or name in NO_SETTINGS or OF_OTHERS.fullmatch(name):
            continue
        near = difflib.get_close_matches(name, known, 1)
        meant = f"did you mean {PREFIX}{near[0]}?" if near else "docs/api.md lists them"
        yield f"{variable} is no setting; {meant}"


def _sentence(item: Any, flags: dict[str, Any]) -> str:
    name = str(item["loc"][0]) if item["loc"] else ""
    said = str(item["msg"]).removeprefix("Value error, ")
    if name == "port" and str(item.get("input")).startswith(KUBERNETES_PORT):
        said += " (Kubernetes sets it for a Service named `speechpipe`: enableServiceLinks: false)"
    return f"--{name.replace('_', '-')}: {said}" if name in flags else f"{PREFIX}{name.upper()}: {said}"
