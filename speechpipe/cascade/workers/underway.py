"""A partial result that a thread of the recognizer's library makes while the worker does other things."""

import time
from collections.abc import Callable, Generator


class Underway:
    """One partial result that has been begun. Used on the worker's thread."""

    def __init__(
        self, number: int, samples: int, steps: Generator[None, None, str], clock: Callable[[], float]
    ) -> None:
        """Begin it: of the first `samples` samples of the stream `number`. `clock` returns wall time in seconds."""
        self.number, self.samples = number, samples
        self.text = ""
        self._steps, self._clock = steps, clock
        self._at, self._cpu_s = clock(), time.process_time()

    def is_done(self) -> bool:
        """Return whether `text` is there now.

        Raises:
            Exception: what the recognizer raised.
        """
        try:
            next(self._steps)
        except StopIteration as end:
            self.text = end.value
            return True
        return False

    def charged(self, cpu_s: float) -> None:
        """CPU seconds of the process since the beginning belong to something else."""
        self._cpu_s += cpu_s

    def spent(self) -> tuple[float, float]:
        """Return its CPU and wall seconds so far."""
        return max(0.0, time.process_time() - self._cpu_s), self._clock() - self._at

    def give_up(self) -> None:
        """Drop it. The library may still be at it for a moment."""
        self._steps.close()
