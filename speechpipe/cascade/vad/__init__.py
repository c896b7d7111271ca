"""Voice-activity detectors: protocols, the table of implementations, and the protocol of segmenters.

A VAD scores frames. `segmenter.py` turns scores into segments; the segmenters of `fixed.py` use given boundaries. A new
VAD is one file and one row of `VADS`.
"""

from typing import NamedTuple, Protocol, cast

from speechpipe.foundation.registry import Registry
from speechpipe.types import Component, Samples, Scalar, Segment

__all__ = [
    "VADS",
    "Closed",
    "Opened",
    "Segmenting",
    "Vad",
    "VadStream",
    "load_component",
    "load_vad",
]


class VadStream(Protocol):
    """The VAD's state for one session. Used by one thread at a time."""

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
    """A segment begins. Speech begins at sample `speech`, and the recognizer's audio at `start`, with pre-roll.

    Decided when `at` samples had been scored. `continued`: the previous segment was cut because it was too long.
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
    """Protocol of segmenters: threshold-based, or with given boundaries.

    Positions are samples on the session's audio clock. Decisions are final.
    """

    flips: int
    speech_samples: int

    @property
    def is_open(self) -> bool:
        """Whether a segment is open."""
        ...

    @property
    def settled(self) -> int:
        """While no segment is open: position before which no further segment can begin."""
        ...

    @property
    def certain_end(self) -> int:
        """While a segment is open: position up to which samples certainly belong to it."""
        ...

    @property
    def speech_end(self) -> int:
        """While a segment is open: end of its speech so far."""
        ...

    @property
    def endpoint_near(self) -> bool:
        """Whether the open segment may end soon, because the last frames were silence."""
        ...

    def push(self, scores: Samples, levels_db: Samples) -> list[Opened | Closed]:
        """Take the (n,) scores and levels (dBFS) of the next frames; return the decisions in order."""
        ...

    def flush(self) -> list[Opened | Closed]:
        """End the open segment now."""
        ...

    def clear(self) -> None:
        """Drop the open segment."""
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
        UnknownName: no VAD has this name.
        ImportError: its library is not installed.
    """
    return cast("Vad", VADS.load(name)(**options))


def load_component(vad: Component) -> Vad:
    """Load a bundle's VAD: with its options and, as `files` (role to path), the files of its card that have a role.

    Raises:
        UnknownName: no VAD has this name.
        ImportError: its library is not installed.
    """
    files = {"files": {file.role: file.path for file in vad.files}} if vad.files else {}
    return cast("Vad", VADS.load(vad.implementation)(**files, **vad.options))
