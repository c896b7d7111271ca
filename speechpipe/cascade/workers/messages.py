"""Messages between the pool and a worker process, pickled over a socket pair.

Each step of a stream (`Open`, `Feed`, `Finish`) is answered by exactly one reply, in order.
"""

from dataclasses import dataclass

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.workers import RecognizerSpec
from speechpipe.types import Samples, Transcript


@dataclass(frozen=True, slots=True)
class Load:
    """Load a recognizer and warm it up with `streams` streams at once; answered by Loaded."""

    spec: RecognizerSpec
    streams: int = 1
    offline: bool = True
    gentle: bool = False  # with pauses


@dataclass(frozen=True, slots=True)
class Loaded:
    """The recognizer is loaded and warmed up, or `error` says why not.

    `batch_s`: as of `BatchRecognizer`; 0 if it is none. `cost`: CPU seconds per second of live audio; 0: not measured.
    """

    spec: RecognizerSpec
    error: str = ""
    batch_s: float = 0.0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Open:
    """Begin a stream; answered by Opened."""

    stream: int
    spec: RecognizerSpec
    options: DecodeOptions


@dataclass(frozen=True, slots=True)
class Feed:
    """Audio of a stream, (n,) float32; answered by Progress.

    `endpoint_near`: all of it is silence, by the VAD, so the segment may end soon: decode it before other streams.
    """

    stream: int
    samples: Samples
    endpoint_near: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """End a stream; answered by Final."""

    stream: int


@dataclass(frozen=True, slots=True)
class Together:
    """Steps of complete segments. None of the segments is decoded before the steps of all are scheduled."""

    steps: "tuple[Step, ...]"


@dataclass(frozen=True, slots=True)
class RequestPartial:
    """Ask for a partial result.

    Answered by Partial when something new was said, the worker is idle and the stream's budget allows it; not at all if
    the stream ends before.
    """

    stream: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Drop a stream; answered by Cancelled."""

    stream: int


@dataclass(frozen=True, slots=True)
class Opened:
    """The stream is open. `buffered`: it is decoded at its end, not while it is fed. `batch_s`: as in Loaded."""

    stream: int
    buffered: bool = False
    batch_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of this stream is done; `samples` have been processed so far."""

    stream: int
    samples: int


@dataclass(frozen=True, slots=True)
class Partial:
    """The partial text of the first `samples` samples; its first `stable` characters will not change.

    `spare_cpu_s`: as in Final. `requested`: answers a RequestPartial.
    """

    stream: int
    text: str
    samples: int
    stable: int = 0
    spare_cpu_s: float = 0.0
    requested: bool = True


@dataclass(frozen=True, slots=True)
class Effort:
    """The work of a worker on one stream; the fields are those of `DecodeStats`."""

    cpu_s: float = 0.0
    work_s: float = 0.0
    spare_cpu_s: float = 0.0
    speculations: int = 0
    speculated: bool = False


NO_EFFORT = Effort()


@dataclass(frozen=True, slots=True)
class Final:
    """The stream's transcript and the work on it. `spare_cpu_s`: of all streams of this worker since its start."""

    stream: int
    transcript: Transcript
    effort: Effort = NO_EFFORT
    context: str = ""
    spare_cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The stream was dropped, and its step in progress has ended."""

    stream: int


Step = Open | Feed | Finish
Request = Load | Step | Together | RequestPartial | Cancel
Reply = Loaded | Opened | Progress | Partial | Final | Cancelled
