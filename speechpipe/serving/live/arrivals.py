"""When audio came, and whether it has stopped: a client whose microphone is muted sends nothing, and nobody knows.

The audio clock stands still while nothing comes, so silence on it never becomes long enough to end a segment. What is
said here is on the wall clock (time.monotonic()).
"""

from collections import deque
from statistics import median

GAPS = 8
GAP_FACTOR = 1.5
MOST_PATIENCE_S = 10.0
"""However rarely a client sends, its open segment is ended after this."""


class Arrivals:
    """Used from one thread; read from any.

    Some clients send a piece every few seconds (MediaRecorder with a long `timeslice`): the time between two of their
    pieces is no pause. So patience is `limit_s`, or one and a half times what usually lies between two pieces.
    """

    def __init__(self, limit_s: float) -> None:
        """Take nothing for `limit_s` seconds for a pause."""
        self._limit_s = limit_s
        self._last_at: float | None = None
        self._gaps: deque[float] = deque(maxlen=GAPS)
        self._patience_s = limit_s

    def note(self, now: float) -> None:
        """Audio came."""
        if self._last_at is not None:
            self._gaps.append(now - self._last_at)
            usual_s = GAP_FACTOR * median(self._gaps)
            self._patience_s = max(self._limit_s, min(usual_s, MOST_PATIENCE_S))
        self._last_at = now

    def restart(self, now: float) -> None:
        """The client is back after a dropped connection: the time without it was no pause."""
        if self._last_at is not None:
            self._last_at = now

    def pause_s(self, now: float) -> float:
        """Return for how long nothing has come, once that is a pause; else 0."""
        last = self._last_at
        silent_s = now - last if last is not None else 0.0
        return silent_s if silent_s > self._patience_s else 0.0
