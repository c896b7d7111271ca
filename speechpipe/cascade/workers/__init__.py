"""Worker processes that run recognizers. `RecognizerPool.open` begins a segment and returns its `Job`.

A decode can hold Python's lock for seconds, and native code can crash, so no recognizer runs in the server's process.
A job keeps its audio until its result is final; if its worker dies, the audio is fed to another worker.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from speechpipe.types import DecodeStats, ModelFile, Scalar, Transcript


@dataclass(frozen=True)
class RecognizerSpec:
    """The recognizer of a job. Jobs with equal specs share one loaded model in each worker."""

    implementation: str
    options: Mapping[str, Scalar] = field(default_factory=dict)
    files: tuple[ModelFile, ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """A hashable value that is equal for equal specs."""
        return (self.implementation, tuple(sorted(self.options.items())), self.files)


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Size and limits of a pool."""

    workers: int = 2
    slots: int = 1  # segments in one worker at once: 1 for uploads, many for live audio, which mostly waits
    warm_streams: int = 1  # streams that each worker opens and decodes before it reports ready
    live: bool = False  # warm up with live streams instead of offline ones
    gentle: bool = False  # start and warm up one worker at a time, with pauses, because other pools are serving
    nice: int = 5  # see `system.give_way`
    max_jobs: int = 2000  # segments after which a worker is replaced; 0: never
    max_rss_mb: int = 1500  # resident memory above which a worker is replaced; 0: never
    segment_timeout_s: float = 60.0
    attempts: int = 3  # workers that a segment may lose before it fails
    start_timeout_s: float = 60.0
    threads: int = 1  # of numerical libraries in each worker
    wait_s: float = 30.0  # time that segments wait while no worker can be started


@dataclass(frozen=True, slots=True)
class Decoded:
    """The final result of a job."""

    transcript: Transcript
    stats: DecodeStats
    context: str = ""  # recognizer state for the session's next segment


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A partial result: the text of the first `samples` samples of a segment.

    Its first `stable` characters begin every later partial result of the segment (see `agreement.py`).
    """

    text: str
    samples: int
    stable: int = 0


PLANNED = "recycled"
"""What the causes of planned restarts begin with."""


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """State of a pool at one moment, for health pages and metrics."""

    ready_workers: int
    workers: int
    queued: int
    active: int
    queued_s: float
    backlog_s: float  # seconds of audio sent to workers and not processed yet
    cpu_s: float  # CPU time of the current workers
    restarts: Mapping[str, int]
    rss_mb: tuple[float, ...]
    failure: str = ""  # why the last start failed; empty once a worker has started since
    spare_cpu_s: float = 0.0  # part of `cpu_s`: work that is done on idle capacity only, see `DecodeStats`
    hung: int = 0  # workers that have owed an answer for more than half of `segment_timeout_s`
    live_cost: float = 0.0  # CPU seconds per second of audio, measured when the workers were warmed up; 0: unknown

    @property
    def unplanned_restarts(self) -> int:
        """Restarts other than those after so many jobs or so much memory."""
        return sum(count for cause, count in self.restarts.items() if not cause.startswith(PLANNED))
