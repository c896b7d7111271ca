"""Recognizer processes. `RecognizerPool.open` begins a segment on some worker and hands back a `Job`.

A decode holds Python's lock for seconds and native code may crash, so no recognizer ever runs in the server's
process. A job keeps its audio until its result is final; if its worker dies the audio is fed to another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from speechpipe.types import DecodeStats, ModelFile, Scalar, Transcript


@dataclass(frozen=True)
class RecognizerSpec:
    """Which recognizer a job wants; equal specs share one loaded model in each worker."""

    implementation: str
    options: Mapping[str, Scalar] = field(default_factory=dict)
    files: tuple[ModelFile, ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """A hashable identity."""
        return (self.implementation, tuple(sorted(self.options.items())), self.files)


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """How many workers, how many segments each may hold at once, and when one has had enough."""

    workers: int = 2
    slots: int = 1  # segments in one worker at once: 1 for uploads, many for live audio, which is mostly waiting
    warm_streams: int = 1  # segments that each worker has made ready for before it says it is ready
    live: bool = False  # what the warm-up is like
    gentle: bool = False  # warm up one after another and with pauses: others are being served meanwhile
    nice: int = 5  # `machine.NOBODY_ELSE`: only what nobody else wants
    max_jobs: int = 2000  # 0: never recycled for age
    max_rss_mb: int = 1500  # 0: never recycled for size
    segment_timeout_s: float = 60.0
    attempts: int = 3
    start_timeout_s: float = 60.0
    wait_s: float = 30.0  # segments wait so long for a worker while none can be started


@dataclass(frozen=True, slots=True)
class Decoded:
    """The one terminal answer for a job."""

    transcript: Transcript
    stats: DecodeStats
    carried: str = ""  # what the session's next segment begins with


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a running decode says so far of the first `samples` samples of its segment."""

    text: str
    samples: int


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A snapshot for health pages and metrics."""

    ready_workers: int
    workers: int
    queued: int
    active: int
    queued_s: float
    backlog_s: float  # audio given to workers and not yet worked on
    cpu_s: float  # of the workers that run now
    restarts: Mapping[str, int]
    rss_mb: tuple[float, ...]
    failure: str = ""  # why the last start failed; empty once a worker has started since
