"""Many channels to one, without losing speech that is in opposite phase on two of them."""

from dataclasses import dataclass, field

import numpy as np

from speechpipe.types import Samples

CANCELLED_SHARE = 0.25
"""A mix is called cancelled when it keeps less than this share of what uncorrelated channels would keep
(power 1/channels of the channels' mean power)."""

AUDIBLE_POWER = 1e-8
"""-80 dBFS: below it there is nothing to cancel."""


@dataclass
class Mixdown:
    """Averages channels; where the average cancels, takes the loudest channel instead.

    A call with one leg inverted sounds fine on headphones and mixes to silence: what a plain average then
    gives VAD is nothing, and the transcript is empty for no visible reason.
    """

    mixed: int = 0  # frames seen
    cancelled: int = 0  # frames where the loudest channel was taken
    _cross: float = field(default=0.0, repr=False)
    _power: list[float] = field(default_factory=lambda: [0.0, 0.0], repr=False)

    def feed(self, block: Samples, slice_frames: int = 8192) -> Samples:
        """Return the (frames,) mix of a (frames, channels) block; the choice is made per slice."""
        frames, channels = block.shape
        self.mixed += frames
        if channels == 1:
            return np.ascontiguousarray(block[:, 0])
        self._correlate(block)
        mix: Samples = block.mean(axis=1, dtype=np.float32)
        for start in range(0, frames, slice_frames):
            part = block[start : start + slice_frames]
            power = np.mean(np.square(part), axis=0)
            mean_power = float(power.mean())
            kept = float(np.mean(np.square(mix[start : start + slice_frames])))
            if mean_power > AUDIBLE_POWER and kept < CANCELLED_SHARE / channels * mean_power:
                mix[start : start + slice_frames] = part[:, int(power.argmax())]
                self.cancelled += len(part)
        return mix

    def _correlate(self, block: Samples) -> None:
        left, right = block[:, 0], block[:, 1]
        self._cross += float(np.dot(left, right))
        self._power[0] += float(np.dot(left, left))
        self._power[1] += float(np.dot(right, right))

    @property
    def correlation(self) -> float | None:
        """Correlation of the first two channels so far, -1..1; None for mono or silence."""
        scale = (self._power[0] * self._power[1]) ** 0.5
        return self._cross / scale if scale > 0 else None
