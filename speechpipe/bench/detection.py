"""Comparison of change detectors on simulated streams: false alarms and delays.

A stream has zeros and ones at the rate `BASE`; at a known point the rate is multiplied. All detectors get the same
streams. Those of other libraries have their defaults; ours have `RUN_LENGTH` values between false alarms.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from speechpipe.foundation.stats.sketch import Distribution
from speechpipe.monitor.detectors import make

BASE = 0.02
RUN_LENGTH = 10_000.0
RATIOS = (2, 3, 10)
HEALTHY = 20_000
LONGEST = 5_000
BEFORE = 1_000
"""Healthy values before the change, for detectors that learn from them."""


class Watching(Protocol):
    """Protocol of the compared detectors."""

    def update(self, value: float) -> bool:
        """Take the next value; return whether there is an alarm."""
        ...


@dataclass(frozen=True)
class Row:
    """The figures of one detector."""

    name: str
    false_per_10k: float
    delays: Mapping[int, float]  # median, by ratio; infinity if most streams were missed
    missed: Mapping[int, float]


class Ours:
    """One of our detectors, reset after each alarm."""

    def __init__(self, name: str) -> None:
        values = np.zeros(20_000)
        values[: round(BASE * len(values))] = 1.0
        self._detector = make(name, Distribution.of(values, shape_only=True), RUN_LENGTH)

    def update(self, value: float) -> bool:
        """Take the next value; return whether there is an alarm."""
        if self._detector.update(value).alarm:
            self._detector.reset()
            return True
        return False


class ZTest:
    """The usual simple method: after every value, the last 200 against the known rate, at three standard errors."""

    SIZE = 200

    def __init__(self) -> None:
        self._last: list[float] = []

    def update(self, value: float) -> bool:
        """Take the next value; return whether there is an alarm."""
        self._last = [*self._last[-self.SIZE + 1 :], value]
        if len(self._last) < self.SIZE:
            return False
        share = sum(self._last) / self.SIZE
        rings = (share - BASE) / math.sqrt(BASE * (1 - BASE) / self.SIZE) > 3.0
        if rings:
            self._last = []
        return rings


class River:
    """A drift detector of `river` with its defaults."""

    def __init__(self, name: str) -> None:
        from river import drift  # the test extra

        of = drift.binary if name in ("DDM", "EDDM", "HDDMA", "HDDMW") else drift
        self._detector = getattr(of, name)()
        self._takes = bool if of is drift.binary else float

    def update(self, value: float) -> bool:
        """Take the next value; return whether there is an alarm."""
        self._detector.update(self._takes(value))
        return bool(self._detector.drift_detected)


def rows(makers: Mapping[str, Callable[[], Watching]], streams: int, seed: int = 0) -> list[Row]:
    """Return the figures of each detector over the same `streams`."""
    return [_row(name, make_one, streams, seed) for name, make_one in makers.items()]


def _row(name: str, make_one: Callable[[], Watching], streams: int, seed: int) -> Row:
    random = np.random.default_rng(seed)
    detector = make_one()
    rung = sum(detector.update(float(value)) for value in random.random(HEALTHY * max(1, streams // 10)) < BASE)
    delays: dict[int, float] = {}
    missed: dict[int, float] = {}
    for ratio in RATIOS:
        found = [_delay(make_one(), random, ratio) for _ in range(streams)]
        delays[ratio] = float(np.median(found))
        missed[ratio] = float(np.mean(np.isinf(found)))
    return Row(name, rung / (HEALTHY * max(1, streams // 10)) * 10_000, delays, missed)


def _delay(detector: Watching, random: np.random.Generator, ratio: int) -> float:
    for value in random.random(BEFORE) < BASE:
        detector.update(float(value))
    for index, value in enumerate(random.random(LONGEST) < BASE * ratio):
        if detector.update(float(value)):
            return index + 1.0
    return math.inf
