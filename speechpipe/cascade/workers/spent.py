"""What pieces of work take, if one of them may run beside another: CPU time is counted once, for one of the two."""

import time
from collections.abc import Callable


class CpuCounter:
    """The CPU time of the process that belongs to work that has ended. Used on the worker's thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns wall time in seconds."""
        self.clock = clock
        self.counted_s = 0.0

    def begin(self) -> "Spent":
        """Begin a piece of work."""
        return Spent(self)


class Spent:
    """CPU and wall time since it was made."""

    def __init__(self, counter: CpuCounter) -> None:
        self._counter = counter
        self._counted_s = counter.counted_s
        self._cpu_s, self._at = time.process_time(), counter.clock()

    def take(self) -> tuple[float, float]:
        """End the work; return its CPU and wall seconds. What ended meanwhile has its own CPU time."""
        others_s = self._counter.counted_s - self._counted_s
        cpu_s = max(0.0, time.process_time() - self._cpu_s - others_s)
        self._counter.counted_s += cpu_s
        return cpu_s, self._counter.clock() - self._at
