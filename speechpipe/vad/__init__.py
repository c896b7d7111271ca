"""DOOR: voice-activity detectors. A VAD only scores frames; `segmenter.py` decides what is speech.

A new VAD is one file and one row of `VADS`.
"""

from typing import Protocol, cast

from speechpipe.registry import Registry
from speechpipe.types import Samples, Scalar


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


VADS = Registry(
    "VAD",
    {
        "silero": "speechpipe.vad.silero:SileroVad",
        "webrtc": "speechpipe.vad.webrtc:WebrtcVad",
        "energy": "speechpipe.vad.energy:EnergyVad",
    },
)


def load_vad(name: str, **options: Scalar) -> Vad:
    """Load the VAD `name` with the options of its card.

    Raises:
        UnknownName: no such row.
        ImportError: its library is missing.
    """
    return cast("Vad", VADS.load(name)(**options))
