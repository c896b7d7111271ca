"""What the pool and a worker process say to each other: pickled over a socket pair, both ends ours.

Every request about a stream is answered by exactly one reply of that stream, in order.
"""

from dataclasses import dataclass

from speechpipe.asr import DecodeOptions
from speechpipe.types import Samples, Transcript
from speechpipe.workers import RecognizerSpec


@dataclass(frozen=True, slots=True)
class Load:
    """Load and warm a recognizer; answered by Loaded."""

    spec: RecognizerSpec


@dataclass(frozen=True, slots=True)
class Loaded:
    """The recognizer is warm, or `error` says why it is not."""

    spec: RecognizerSpec
    error: str = ""


@dataclass(frozen=True, slots=True)
class Open:
    """Begin a stream."""

    stream: int
    spec: RecognizerSpec
    options: DecodeOptions


@dataclass(frozen=True, slots=True)
class Feed:
    """Audio of a stream: (n,) float32."""

    stream: int
    samples: Samples


@dataclass(frozen=True, slots=True)
class Finish:
    """End a stream; answered by Final."""

    stream: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Forget a stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A request of this stream is done."""

    stream: int


@dataclass(frozen=True, slots=True)
class Final:
    """The stream's transcript and the CPU seconds it took, all requests together."""

    stream: int
    transcript: Transcript
    cpu_s: float


Request = Load | Open | Feed | Finish | Cancel
Reply = Loaded | Progress | Final
