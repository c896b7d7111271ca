"""How loud the loudest half second of a recording is."""

import math
from dataclasses import dataclass, field

import numpy as np

from speechpipe.types import SAMPLE_RATE_HZ, Notice, Samples

WINDOW = SAMPLE_RATE_HZ // 10
LOUDEST_WINDOWS = 5
QUIET_DBFS = -65.0
"""Of a sentence whose loudest half second is at -61 dBFS all is heard, of one at -71 dBFS nothing (Silero's VAD)."""


@dataclass
class Loudest:
    """Keeps the loudest windows of 0.1 s; a click is one of them, speech fills more."""

    seconds: float = 0.0
    _power: list[float] = field(default_factory=list)

    def feed(self, samples: Samples) -> None:
        """Take (n,) samples at 16 kHz; what is left of a window at a block's end is not counted."""
        self.seconds += len(samples) / SAMPLE_RATE_HZ
        whole = len(samples) // WINDOW
        if whole:
            power = np.mean(np.square(samples[: whole * WINDOW].reshape(whole, WINDOW)), axis=1)
            self._power = sorted([*self._power, *map(float, power)], reverse=True)[:LOUDEST_WINDOWS]

    @property
    def dbfs(self) -> float | None:
        """RMS of the quietest of the loudest windows; None for less than half a second, -inf for digital silence."""
        if len(self._power) < LOUDEST_WINDOWS:
            return None
        return 10 * math.log10(self._power[-1]) if self._power[-1] > 0 else -math.inf

    @property
    def notices(self) -> list[Notice]:
        """Say it if nobody can be heard because nothing is loud enough."""
        level = self.dbfs
        if level is None or level >= QUIET_DBFS:
            return []
        if level == -math.inf:
            return [Notice("very_quiet", "the audio is digital silence: every sample is zero, but for clicks at most")]
        message = f"the loudest half second is at {level:.0f} dBFS; speech below {QUIET_DBFS:.0f} dBFS may not be heard"
        return [Notice("very_quiet", message)]
