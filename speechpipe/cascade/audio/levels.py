"""Level of the loudest half second of a recording, to warn of audio that is too quiet."""

import math
from dataclasses import dataclass, field

import numpy as np

from speechpipe.types import SAMPLE_RATE_HZ, Notice, Samples

WINDOW = SAMPLE_RATE_HZ // 10
LOUDEST_WINDOWS = 5
QUIET_DBFS = -65.0
"""Limit of the warning. The Silero VAD finds all of a sentence at -61 dBFS, and nothing of one at -71 dBFS."""


@dataclass
class Loudest:
    """Keeps the loudest windows of 0.1 s. A click fills one of them, speech fills several."""

    seconds: float = 0.0
    _power: list[float] = field(default_factory=list)

    def feed(self, samples: Samples) -> None:
        """Take (n,) samples at 16 kHz; an incomplete window at the end of a block is not counted."""
        self.seconds += len(samples) / SAMPLE_RATE_HZ
        count = len(samples) // WINDOW
        if count:
            power = np.mean(np.square(samples[: count * WINDOW].reshape(count, WINDOW)), axis=1)
            self._power = sorted([*self._power, *map(float, power)], reverse=True)[:LOUDEST_WINDOWS]

    @property
    def dbfs(self) -> float | None:
        """RMS of the quietest of the loudest windows; None for less than half a second, -inf for digital silence."""
        if len(self._power) < LOUDEST_WINDOWS:
            return None
        return 10 * math.log10(self._power[-1]) if self._power[-1] > 0 else -math.inf

    @property
    def notices(self) -> list[Notice]:
        """A notice `very_quiet` if the recording is too quiet for speech to be found; else empty."""
        level = self.dbfs
        if level is None or level >= QUIET_DBFS:
            return []
        if level == -math.inf:
            return [Notice("very_quiet", "the audio is digital silence: all samples are zero, except perhaps clicks")]
        message = f"the loudest half second is at {level:.0f} dBFS; speech below {QUIET_DBFS:.0f} dBFS may not be found"
        return [Notice("very_quiet", message)]
