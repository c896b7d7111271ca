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

    bundle: str = Field("default", description="The champion: what `default` and `whisper-1` mean.")
    preload: list[str] = Field(
        default_factory=list, description="Bundles loaded before the server is ready; empty = the champion."
    )
    models_dir: Path | None = Field(None, description="Cards of your own, read after those of the package.")

    workers: int = Field(0, ge=0, le=256, description="Recognizer processes; 0 = one per CPU core.")
    worker_nice: int = Field(5, ge=0, le=19, description="So that the event loop answers while they decode.")
    worker_max_jobs: int = Field(2000, ge=0, description="Segments before a worker is replaced; 0 = never.")
    worker_max_rss_mb: int = Field(1500, ge=0, description="Memory before a worker is replaced; 0 = never.")
    segment_timeout_s: float = Field(60.0, gt=0)
    segment_attempts: int = Field(3, ge=1, le=10, description="Workers one segment may lose before it fails.")
    start_timeout_s: float = Field(60.0, gt=0)
    drain_timeout_s: float = Field(30.0, ge=0, description="How long running uploads may finish on SIGTERM.")

    max_upload_bytes: int = Field(100 * 2**20, gt=0)
    max_audio_s: float = Field(4 * 3600.0, gt=0, description="Decoded seconds of one upload.")
    max_pending_s: float = Field(120.0, gt=0, description="Audio of one upload waiting for a recognizer.")
    upload_timeout_s: float = Field(600.0, gt=0, description="For the body of an upload to arrive.")
    max_uploads: int = Field(16, ge=1, description="Uploads in progress at once; more get 503.")
    max_uploads_per_key: int = Field(0, ge=0, description="Of one API key; more get 429. 0 = no limit.")

    api_keys: list[str] = Field(default_factory=list, description="Empty = no authentication.")
    store_url: str = Field("", description="SQLAlchemy URL; empty = sqlite in the state directory.")
    store_queue: int = Field(10_000, ge=1, description="Records waiting for the store; more are counted lost.")
    state_dir: Path = Path("var")

    @property
    def worker_count(self) -> int:
        """Recognizer processes to run."""
        if self.workers:
            return self.workers
        # The cores this process may use, not those of the machine: a container may own two of sixty-four.
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @property
    def record_store_url(self) -> str:
        """Where records go."""
        return self.store_url or f"sqlite:///{self.state_dir / 'speechpipe.db'}"

    @property
    def preloaded_bundles(self) -> tuple[str, ...]:
        """Bundles that must be warm before the server says it is ready."""
        return tuple(dict.fromkeys([self.bundle, *self.preload]))
