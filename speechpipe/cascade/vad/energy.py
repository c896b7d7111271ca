"""VAD by level above an adaptive noise floor: cheap, and easy to predict in tests.

The floor follows quieter frames at once and louder ones slowly (minimum statistics, R. Martin, IEEE Trans.
Speech and Audio Processing 9(5), 2001, in its simplest form).
"""

import math

import numpy as np

from speechpipe.types import Samples

FRAME = 512
START_FLOOR_DB = -60.0
LOWEST_FLOOR_DB = -80.0
RISE_DB_PER_FRAME = 0.05  # about 1.6 dB a second


class EnergyVad:
    """The options; each stream has its own noise floor."""

    frame_samples = FRAME

    def __init__(self, margin_db: float = 12.0, slope_db: float = 2.0, least_dbfs: float = -50.0) -> None:
        """Set the options.

        Args:
            margin_db: level above the floor at which the score is 0.5.
            slope_db: width of the logistic step from 0 to 1.
            least_dbfs: frames at or below this level score 0.
        """
        self._margin_db = float(margin_db)
        self._slope_db = float(slope_db)
        self._least_dbfs = float(least_dbfs)

    def open(self) -> "EnergyStream":
        """Return a stream whose floor starts at `START_FLOOR_DB`."""
        return EnergyStream(self._margin_db, self._slope_db, self._least_dbfs)


class EnergyStream:
    """The noise floor of one session."""

    def __init__(self, margin_db: float, slope_db: float, least_dbfs: float) -> None:
        self._margin_db = margin_db
        self._slope_db = slope_db
        self._least_dbfs = least_dbfs
        self._floor_db = START_FLOOR_DB

    def probabilities(self, frames: Samples) -> Samples:
        """Score (n, 512) frames; shape (n,)."""
        power = np.einsum("ij,ij->i", frames, frames) / FRAME
        levels = 10 * np.log10(np.maximum(power, 1e-10))
        scores = np.empty(len(frames), np.float32)
        for index, level in enumerate(levels.tolist()):
            self._floor_db = max(LOWEST_FLOOR_DB, min(level, self._floor_db + RISE_DB_PER_FRAME))
            above = level - self._floor_db - self._margin_db
            audible = level > self._least_dbfs
            scores[index] = 1 / (1 + math.exp(-max(-50.0, min(50.0, above / self._slope_db)))) if audible else 0.0
        return scores
