"""Settings: the only reader of the environment (`SPEECHPIPE_*`)."""

import difflib
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from speechpipe.errors import BadInput, reason_of
from speechpipe.foundation import setting_checks as checks
from speechpipe.foundation.state_files import make_folder

PREFIX = "SPEECHPIPE_"

LARGEST = 1e15
"""Largest absolute value of a numeric setting; larger ones are typing mistakes."""

LONGEST = {"_s": 2e6, "_hours": 876_600.0, "_days": 36_525.0}
"""Longest durations, by the end of the setting's name: 23 days, because the system's calls wait at most 2^31
milliseconds, and a hundred years, because dates have a beginning."""

SHORTEST_S = 0.001
"""Shortest duration in seconds that is not 0; nothing can be done in less."""

NO_SETTINGS = {"KEY", "FUZZ", "BENCH_DATA"}
"""Variables with our prefix that are not settings: read by a command-line flag, the tests and the benchmarks."""

OF_OTHERS = re.compile(r"TEST_\w+|(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
"""Variables of the tests, and those that Kubernetes sets in a namespace with a Service named `speechpipe...`."""

KUBERNETES_PORT = "tcp://"
"""Prefix of the value that Kubernetes gives to `SPEECHPIPE_PORT` if a Service is named `speechpipe`."""


def _file(path: Path | None) -> Path | None:
    if path is not None and not _checked(path, path.is_file):
        raise ValueError(f"there is no file {path}")
    return path


def _folder(path: Path | None) -> Path | None:
    if path is not None and _checked(path, path.exists) and not path.is_dir():
        raise ValueError(f"{path} is not a folder")
    return path


def _checked(path: Path, check: Callable[[], bool]) -> bool:
    try:
        return check()
    except OSError as error:  # for example a name that is too long, or a loop of links
        raise ValueError(f"{path} cannot be looked up: {reason_of(error)}") from None


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


Items = Annotated[list[str], NoDecode, AfterValidator(checks.complete), BeforeValidator(checks.items)]
"""A list of strings, written `a,b` or `["a", "b"]`."""

Keys = Annotated[
    list[str],
    NoDecode,
    AfterValidator(checks.complete),
    AfterValidator(checks.sendable),
    BeforeValidator(checks.items),
    BeforeValidator(checks.not_emptied),
]

OptionalPath = Annotated[Path | None, BeforeValidator(checks.unset_if_empty)]


class Settings(BaseSettings):
    """All settings of a server, frozen. Durations are in seconds and sizes in bytes unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, allow_inf_nan=False)

    host: Annotated[str, BeforeValidator(checks.not_empty)] = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    log_level: Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)] = "info"
    insecure: bool = Field(False, description="Allow serving on an address other than loopback without API keys.")
    allowed_hosts: Annotated[Items, AfterValidator(checks.host_names)] = Field(
        default_factory=list,
        description="Host names that requests may carry besides loopback, IP addresses and names without a dot. "
        "`.example.com` = all of its subdomains, `*` = any.",
    )
    allowed_origins: Annotated[Items, AfterValidator(checks.origins)] = Field(
        default_factory=list,
        description="Origins (`https://app.example.com`) besides this server's own whose pages may send requests "
        "and open websockets. `*` = any.",
    )
    root_path: Annotated[str, AfterValidator(checks.path_prefix)] = Field(
        "", description="Prefix under which a proxy serves this server."
    )
    max_connections: int = Field(
        0, ge=0, description="Open connections; 0 = LIVE_MAX_SESSIONS + 1000, within the limit of open files."
    )
    max_connections_per_address: int = Field(0, ge=0, description="Open connections of one address; 0 = no limit.")
    header_timeout_s: float = Field(10.0, gt=0, description="Time for the head of a request to arrive.")
    body_timeout_s: float = Field(30.0, gt=0, description="Time for the body of a request to arrive; not of an upload.")
    send_timeout_s: float = Field(60.0, gt=0, description="Time without progress while a response is sent.")

    bundle: Annotated[str, BeforeValidator(checks.not_empty)] = Field(
        "default", description="The champion: the bundle that `default` and `whisper-1` stand for."
    )
    preload: Items = Field(
        default_factory=list, description="Bundles loaded before the server is ready; empty = the champion."
    )
    models_dir: Annotated[OptionalPath, AfterValidator(_folder)] = Field(
        None,
        description="Folder of your own cards and weights, beside the package's; empty = `models` in STATE_DIR.",
    )
    weights_dir: Annotated[OptionalPath, AfterValidator(_folder)] = Field(
        None, description="Folder for fetched weights, which several servers may share; empty = in MODELS_DIR."
    )
    models_mirror: Annotated[str, AfterValidator(checks.folder_or_url)] = Field(
        "", description="Folder or URL that is asked for weights first: CARD-VERSION/FILE below it; empty = none."
    )
    models_pull: bool = Field(True, description="Fetch missing weights at first use; false: by `models pull` only.")
    offline: bool = Field(False, description="Never fetch weights over the network. A mirror that is a folder is read.")

    workers: int = Field(0, ge=0, le=256, description="Recognizer processes; 0 = one per CPU core.")
    worker_nice: int = Field(10, ge=0, le=19, description="Nice value of upload workers: live audio goes first.")
    worker_max_jobs: int = Field(2000, ge=0, description="Segments after which a worker is replaced; 0 = never.")
    worker_max_rss_mb: int = Field(1500, ge=0, description="MiB of memory above which a worker is replaced; 0 = never.")
    segment_timeout_s: float = Field(60.0, gt=0, description="Time for one segment to be decoded.")
    segment_attempts: int = Field(3, ge=1, le=10, description="Workers that one segment may lose before it fails.")
    start_timeout_s: float = Field(60.0, gt=0, description="Time for a worker process to start and to load.")
    worker_wait_s: float = Field(
        30.0, gt=0, description="Time a segment waits for a worker while none can be started; then it fails."
    )
    drain_timeout_s: float = Field(30.0, ge=0, description="Time for running uploads to finish after SIGTERM.")

    live_workers: int = Field(0, ge=0, le=256, description="Processes for live audio; 0 = one per CPU core.")
    live_worker_nice: int = Field(2, ge=0, le=19, description="Nice value of the live workers.")
    live_worker_max_rss_mb: int = Field(4000, ge=0, description="As WORKER_MAX_RSS_MB; each holds many segments.")
    live_slots: int = Field(64, ge=1, le=1024, description="Segments that one live worker holds at once.")
    live_warm_streams: int = Field(2, ge=1, description="Segments each live worker is warmed up for at its start.")
    live_max_sessions: int = Field(1000, ge=1, description="Most live sessions, whatever the measured load is.")
    live_max_per_key: int = Field(0, ge=0, description="Live sessions of one API key; more get 429. 0 = no limit.")
    live_load_limit: float = Field(0.9, gt=0, description="Share of the CPU cores above which sessions are refused.")
    live_max_speed: float = Field(4.0, ge=0, description="Seconds of audio per second taken from a session; 0 = all.")
    live_max_buffer_s: float = Field(5.0, ge=0.2, description="Unprocessed audio of a session, before reading pauses.")
    live_max_held_bytes: int = Field(
        32 * 2**20, gt=0, description="Messages and audio held for all sessions together, beyond 64 KiB each."
    )
    live_pause_s: float = Field(1.5, gt=0, description="Wall-clock time without audio that ends an open segment.")
    live_idle_timeout_s: float = Field(10.0, gt=0, description="Time without audio or KeepAlive that ends a session.")
    live_send_timeout_s: float = Field(20.0, gt=0, description="Time for a client to read what it is sent.")
    live_resume_s: float = Field(30.0, ge=0, description="Time in which a dropped connection can be resumed.")

    max_upload_bytes: int = Field(100 * 2**20, gt=0, description="Most bytes of one upload.")
    max_audio_s: float = Field(4 * 3600.0, gt=0, description="Most decoded seconds of one upload.")
    max_pending_s: float = Field(120.0, gt=0, description="Audio of one upload that may wait for a recognizer.")
    upload_timeout_s: float = Field(600.0, gt=0, description="Time for the body of an upload to arrive.")
    upload_min_rate: int = Field(1024, ge=0, description="Average bytes per second that an upload must reach; 0 = any.")
    max_uploads_arriving: int = Field(
        0, ge=0, description="Uploads whose bodies are still arriving; one key may hold half. 0 = 4 x MAX_UPLOADS."
    )
    max_uploads: int = Field(32, ge=1, description="Uploads in progress at once; more get 503.")
    max_uploads_per_key: int = Field(0, ge=0, description="Uploads in progress of one key; more get 429. 0 = no limit.")

    profanity_words: Annotated[OptionalPath, AfterValidator(_file)] = Field(
        None, description="TOML file with words that `profanity_filter` masks or leaves, by tenant; empty = none."
    )

    api_keys: Keys = Field(default_factory=list, description="Keys of clients; empty = no authentication.")
    operator_keys: Keys = Field(
        default_factory=list, description="Keys that may change rollouts; empty = every API key may."
    )
    store_url: Annotated[str, AfterValidator(checks.store_url)] = Field(
        "", description="SQLAlchemy URL; empty = sqlite in the state directory."
    )
    store_queue: int = Field(10_000, ge=1, description="Records that wait for the store; more are counted as lost.")
    keep_records_days: float = Field(30.0, gt=0, description="Age at which records are deleted.")
    keep_windows_days: float = Field(400.0, gt=0, description="Age at which windows and resolved alarms are deleted.")

    keep_audio_hours: float = Field(0.0, ge=0, description="Time that audio of sessions is kept for replays; 0 = not.")
    keep_audio_share: float = Field(
        1.0, ge=0, le=1, description="Share of the sessions whose audio is kept, if any is."
    )

    reviewer_keys: Keys = Field(
        default_factory=list,
        description="Keys of reviewers for all tenants; an API key reviews the sessions of its own tenant only.",
    )
    keep_reviews_days: float = Field(400.0, gt=0, description="Age at which answered reviews are deleted.")
    keep_review_audio_days: float = Field(
        30.0, gt=0, description="Age at which audio of reviews is deleted; tasks still unanswered then expire."
    )
    callbacks: Annotated[Items, AfterValidator(checks.url_prefixes)] = Field(
        default_factory=list,
        description="URL prefixes (scheme, host, port, first path segments) that clients may name as callbacks; "
        "empty = no callbacks.",
    )
    default_degree: Literal["human_only", "shadow", "assist", "partial", "full"] = Field(
        "full", description="Degree of automation of tenants without a policy of their own."
    )
    callback_networks: Annotated[Items, AfterValidator(checks.networks)] = Field(
        default_factory=list,
        description="Networks (CIDR), besides public ones, to which host names of callbacks may resolve.",
    )
    signing_secret: Annotated[str, AfterValidator(checks.not_blank)] = Field(
        "",
        description="Signs callbacks and the alarm webhook; empty = generated once into signing.key in STATE_DIR.",
    )

    enterprise_tenants: Items = Field(
        default_factory=list,
        description="Tenants that are watched one by one; all others are watched together as consumers.",
    )
    metrics_off: Items = Field(default_factory=list, description="Metrics that are not watched.")
    false_alarms_per_day: float = Field(0.1, gt=0, description="Budget of false alarms of severity `page`, in all.")
    false_looks_per_day: float = Field(1.0, gt=0, description="Budget of false alarms of severity `investigate`.")
    traces: bool = Field(False, description="OpenTelemetry spans (the extra `otel`), configured by OTEL_*.")
    alarm_webhook: Annotated[str, AfterValidator(checks.web_url)] = Field(
        "", description="URL to which alarms are posted, in Alertmanager's webhook format."
    )
    external_url: Annotated[str, AfterValidator(checks.base_url)] = Field(
        "", description="Public URL of this server; links in alarms begin with it."
    )

    probes: Annotated[OptionalPath, AfterValidator(_file)] = Field(
        None, description="Manifest of recordings to send through the cascade as probes; empty = none."
    )
    probe_every_s: float = Field(300.0, gt=0, description="Seconds between two rounds of probes.")

    shadow_speed: float = Field(
        0.5, ge=0, description="Seconds of audio per second that shadow decodes while sessions run; 0 = no limit."
    )

    retrain_policy: Annotated[OptionalPath, AfterValidator(_file)] = Field(
        None, description="TOML file with the policy of automatic retraining; empty = by hand only."
    )

    state_dir: Annotated[Path, AfterValidator(_folder), BeforeValidator(checks.not_empty)] = Path("var")

    @field_validator("*")
    @classmethod
    def _within_bounds(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, int | float):
            return value
        name = str(info.field_name)
        most = next((most for end, most in LONGEST.items() if name.endswith(end)), LARGEST)
        if abs(value) > most:
            raise ValueError(f"must not be more than {most:.15g}")
        if name.endswith("_s") and 0 < value < SHORTEST_S:
            raise ValueError(f"a duration is at least {SHORTEST_S:g} s, if it is not 0")
        return value

    @property
    def own_models_dir(self) -> Path:
        """Folder of cards and weights that did not come with the package."""
        return self.models_dir or self.state_dir / "models"

    @property
    def weights_folder(self) -> Path:
        """Folder of the weights of recognizers, absolute, as a value for WEIGHTS_DIR of another server."""
        return (self.weights_dir or self.own_models_dir / "asr" / "files").absolute()

    @property
    def cores(self) -> int:
        """CPU cores that this process may use, which can be fewer than the machine has (containers, taskset)."""
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
        """Return how a tenant's data is expected to change: `consumer` (slowly) or `enterprise` (abruptly)."""
        return "enterprise" if tenant in self.enterprise_tenants else "consumer"

    @property
    def record_store_url(self) -> str:
        """SQLAlchemy URL of the store: STORE_URL, or a SQLite file in the state directory."""
        if self.store_url:
            return self.store_url
        from speechpipe.foundation.storage.urls import sqlite_url  # SQLAlchemy takes long to import

        return sqlite_url(self.state_dir / "speechpipe.db")

    @property
    def preloaded_bundles(self) -> tuple[str, ...]:
        """Names of the bundles that are loaded before the server reports ready."""
        return tuple(dict.fromkeys([self.bundle, *self.preload]))


def hub_access() -> tuple[str, str]:
    """Return the URL of the model hub, empty for the usual one, and the token for it.

    They are in `HF_ENDPOINT` and `HF_TOKEN`, which the hub's own tools read too.

    Raises:
        BadInput: `HF_ENDPOINT` is not a URL to which paths can be added.
    """
    endpoint, token = (os.environ.get(name, "").strip() for name in ("HF_ENDPOINT", "HF_TOKEN"))
    try:
        return checks.base_url(endpoint), "".join(checks.sendable([token] if token else []))
    except ValueError as error:
        raise BadInput(f"HF_ENDPOINT or HF_TOKEN: {error}") from error


def check_state_dir(settings: Settings) -> None:
    """Create the state directory if it is missing, and check that files can be written in it.

    Raises:
        BadInput: it cannot be created or written to.
    """
    try:
        make_folder(settings.state_dir)
        with tempfile.TemporaryFile(dir=settings.state_dir):
            pass
    except OSError as error:
        raise BadInput(f"{PREFIX}STATE_DIR: cannot write to {settings.state_dir}: {reason_of(error)}") from error


def load(**flags: Any) -> Settings:
    """Return the settings from the environment, overridden by `flags` (field name to value).

    Raises:
        BadInput: a value is invalid or a variable is unknown. The message is one line that names all of them.
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
    """Yield a sentence for every variable with our prefix that is not a setting."""
    known = [name.upper() for name in Settings.model_fields]
    for variable in sorted(variables):
        name = variable.upper().removeprefix(PREFIX)
        if not variable.upper().startswith(PREFIX) or name in known or name in NO_SETTINGS or OF_OTHERS.fullmatch(name):
            continue
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {PREFIX}{near[0]}?" if near else "docs/api.md lists them"
        yield f"{variable} is not a setting; {hint}"


def _sentence(item: Any, flags: dict[str, Any]) -> str:
    name = str(item["loc"][0]) if item["loc"] else ""
    message = str(item["msg"]).removeprefix("Value error, ")
    if name == "port" and str(item.get("input")).startswith(KUBERNETES_PORT):
        message += " (Kubernetes sets it for a Service named `speechpipe`; switch it off by enableServiceLinks: false)"
    return f"--{name.replace('_', '-')}: {message}" if name in flags else f"{PREFIX}{name.upper()}: {message}"
