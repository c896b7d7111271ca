"""What the pool and a worker process say to each other: pickled over a socket pair, both ends ours.

Every step of a stream is answered by exactly one reply of that stream, in order.
"""

from dataclasses import dataclass

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.workers import RecognizerSpec
from speechpipe.types import Samples, Transcript


@dataclass(frozen=True, slots=True)
class Load:
    """Load a recognizer and warm it with `streams` segments at once; answered by Loaded."""

    spec: RecognizerSpec
    streams: int = 1
    whole: bool = True
    gentle: bool = False  # with pauses


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
    """Audio of a stream: (n,) float32. Its speaker pauses: what is left may be wanted at once."""

    stream: int
    samples: Samples
    pausing: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """End a stream; answered by Final."""

    stream: int


@dataclass(frozen=True, slots=True)
class Peek:
    """Ask for a partial result; answered by Partial when nothing else is left to do, or not at all."""

    stream: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Forget a stream; answered by Cancelled."""

    stream: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A request of this stream is done; `samples` have been worked on so far."""

    stream: int
    samples: int


@dataclass(frozen=True, slots=True)
class Partial:
    """The text of the first `samples` samples, as it stands."""

    stream: int
    text: str
    samples: int


@dataclass(frozen=True, slots=True)
class Final:
    """The stream's transcript and the CPU seconds it took, all requests together."""

    stream: int
    transcript: Transcript
    cpu_s: float
    carried: str = ""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The stream is forgotten; the step that was in hand is over."""

    stream: int


Step = Open | Feed | Finish
Request = Load | Step | Peek | Cancel
Reply = Loaded | Progress | Partial | Final | Cancelled
