"""What pieces of work take, if one of them may run beside another: CPU time is counted once, for one of the two."""

import time
from collections.abc import Callable

REMEMBERED = 16
"""Spans of work that has ended and may have run beside one that goes on."""


class CpuCounter:
    """The CPU time of the process that belongs to work that has ended. Used on the worker's thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns wall time in seconds."""
        self.clock = clock
        self.counted: list[tuple[float, float]] = []
        """Spans of the process's CPU time, in seconds; they do not overlap, and the oldest come first."""

    def begin(self) -> "Spent":
        """Begin a piece of work."""
        return Spent(self)


class Spent:
    """CPU and wall time since it was made."""

    def __init__(self, counter: CpuCounter) -> None:
        self._counter = counter
        self._cpu_s, self._at = time.process_time(), counter.clock()

    def take(self) -> tuple[float, float]:
        """End the work; return its CPU and wall seconds. What others have counted of its span is theirs."""
        now, begin, own = time.process_time(), self._cpu_s, []
        for first, last in (*self._counter.counted, (now, now)):
            if first > begin:
                own.append((begin, first))
            begin = max(begin, last)
        self._counter.counted = sorted([*self._counter.counted, *own])[-REMEMBERED:]
        return sum(last - first for first, last in own), self._counter.clock() - self._at
