"""Detection of pauses in the arrival of audio, on the wall clock (time.monotonic()).

A client with a muted microphone may send nothing. The audio clock then stands still, so that silence on it would never
become long enough to end a segment.
"""

from collections import deque
from statistics import median

GAPS = 8
GAP_FACTOR = 1.5
MOST_PATIENCE_S = 10.0
"""Largest time without audio that does not count as a pause, however rarely the client sends."""


class Arrivals:
    """Arrival times of audio. Changed on one thread, read on any.

    Some clients send a piece every few seconds (MediaRecorder with a long `timeslice`), and the time between two pieces
    is not a pause. A pause is therefore longer than `limit_s` and than 1.5 times the median time between pieces.
    """

    def __init__(self, limit_s: float) -> None:
        """Count more than `limit_s` seconds without audio as a pause."""
        self._limit_s = limit_s
        self._last_at: float | None = None
        self._gaps: deque[float] = deque(maxlen=GAPS)
        self._patience_s = limit_s

    def note(self, now: float) -> None:
        """Audio has arrived at `now`."""
        if self._last_at is not None:
            self._gaps.append(now - self._last_at)
            usual_s = GAP_FACTOR * median(self._gaps)
            self._patience_s = max(self._limit_s, min(usual_s, MOST_PATIENCE_S))
        self._last_at = now

    def restart(self, now: float) -> None:
        """The client has reconnected: the time without a connection does not count."""
        if self._last_at is not None:
            self._last_at = now

    def pause_s(self, now: float) -> float:
        """Return the seconds without audio if they are a pause, else 0."""
        last = self._last_at
        silent_s = now - last if last is not None else 0.0
        return silent_s if silent_s > self._patience_s else 0.0
