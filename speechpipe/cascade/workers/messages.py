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
    """The recognizer is loaded and warmed up, or `error` says why not."""

    spec: RecognizerSpec
    error: str = ""


@dataclass(frozen=True, slots=True)
class Open:
    """Begin a stream; answered by Progress."""

    stream: int
    spec: RecognizerSpec
    options: DecodeOptions


@dataclass(frozen=True, slots=True)
class Feed:
    """Audio of a stream, (n,) float32; answered by Progress. `endpoint_near`: decode it before other streams."""

    stream: int
    samples: Samples
    endpoint_near: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """End a stream; answered by Final."""

    stream: int


@dataclass(frozen=True, slots=True)
class RequestPartial:
    """Ask for a partial result; answered by Partial once no steps are waiting, or not at all if the stream ends."""

    stream: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Drop a stream; answered by Cancelled."""

    stream: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of this stream is done; `samples` have been processed so far."""

    stream: int
    samples: int


@dataclass(frozen=True, slots=True)
class Partial:
    """The partial text of the first `samples` samples."""

    stream: int
    text: str
    samples: int


@dataclass(frozen=True, slots=True)
class Final:
    """The stream's transcript, and the CPU seconds of all its steps."""

    stream: int
    transcript: Transcript
    cpu_s: float
    context: str = ""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The stream was dropped, and its step in progress has ended."""

    stream: int


Step = Open | Feed | Finish
Request = Load | Step | RequestPartial | Cancel
Reply = Loaded | Progress | Partial | Final | Cancelled
