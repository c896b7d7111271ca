"""Voice-activity detectors. A VAD only scores frames; `segmenter.py` decides what is speech, and the
segmenters of `fixed.py` are told.

A new VAD is one file and one row of `VADS`.
"""

from typing import NamedTuple, Protocol, cast

from speechpipe.foundation.registry import Registry
from speechpipe.types import Samples, Scalar, Segment

__all__ = [
    "VADS",
    "Closed",
    "Opened",
    "Segmenting",
    "Vad",
    "VadStream",
    "load_vad",
]


class VadStream(Protocol):
    """The state of one session; never shared."""

    def probabilities(self, frames: Samples) -> Samples:
        """Score consecutive frames.

        Args:
            frames: (n, frame_samples) float32 at 16 kHz; n = 1 live, up to 512 for uploads. How the frames are
                grouped into calls does not change the scores.

        Returns:
            (n,) float32 in [0, 1]: the probability that each frame holds speech.
        """
        ...


class Vad(Protocol):
    """A loaded detector: immutable and shared by all sessions and threads."""

    frame_samples: int

    def open(self) -> VadStream:
        """Return a stream with fresh state."""
        ...


class Opened(NamedTuple):
    """Speech began at sample `speech`; the recognizer hears from `start` on. Decided when `at` samples had been
    scored. `continued`: the segment before was cut because it became too long.
    """

    start: int
    at: int
    speech: int
    continued: bool = False


class Closed(NamedTuple):
    """The segment is complete and will not change. Decided when `at` samples had been scored."""

    segment: Segment
    at: int


class Segmenting(Protocol):
    """What turns scores into segments: the decision machine, or one that was told where they are.

    Positions are samples on the session's audio clock; whatever was said of a sample is never taken back.
    """

    flips: int
    speech_samples: int

    @property
    def is_open(self) -> bool:
        """Whether a segment is being spoken."""
        ...

    @property
    def settled(self) -> int:
        """Samples before this position will not be needed again, unless a segment is open."""
        ...

    @property
    def certain_end(self) -> int:
        """While open: samples up to here belong to the segment whatever comes next."""
        ...

    @property
    def is_pausing(self) -> bool:
        """Whether the open segment may end soon: nothing was said for a moment."""
        ...

    def push(self, scores: Samples, levels_db: Samples) -> list[Opened | Closed]:
        """Take the (n,) scores and levels of the next frames; return what was decided, in order."""
        ...

    def flush(self) -> list[Opened | Closed]:
        """End the open segment now."""
        ...

    def clear(self) -> None:
        """Forget the open segment."""
        ...

    def finish(self, received: int) -> list[Opened | Closed]:
        """End the session at sample `received`."""
        ...


VADS = Registry(
    "VAD",
    {
        "silero": "speechpipe.cascade.vad.silero:SileroVad",
        "webrtc": "speechpipe.cascade.vad.webrtc:WebrtcVad",
        "energy": "speechpipe.cascade.vad.energy:EnergyVad",
    },
)


def load_vad(name: str, **options: Scalar) -> Vad:
    """Load the VAD `name` with the options of its card.

    Raises:
        UnknownName: no such row.
        ImportError: its library is missing.
    """
    return cast("Vad", VADS.load(name)(**options))
