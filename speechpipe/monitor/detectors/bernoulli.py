"""Log-likelihood-ratio CUSUM for a share that is rare (Reynolds and Stoumbos 1999, doi:10.1080/00224065.1999.11979926).

Optimal for one size of change; `mixture.py` is nearly as good and covers all sizes.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from speechpipe.foundation.stats.run_length import average_run_length, threshold_for
from speechpipe.foundation.stats.sketch import Distribution
from speechpipe.monitor.detectors import Verdict

LEAST_SHARE = 1e-4
"""The smallest reference share: an event that the reference never saw is still possible."""

KEPT = 2.0
"""Evidence is capped at this many thresholds, so that a recovery shows soon."""


def cautious_share(reference: Distribution) -> float:
    """Return the reference's share with one more event added, because a small sample may underestimate it.

    Raises:
        ValueError: the reference is empty.
    """
    if not reference.count:
        raise ValueError("the reference has no values")
    share = (reference.total + 1.0) / (reference.count + 2.0)
    return min(max(share, LEAST_SHARE), 1 - LEAST_SHARE)


@lru_cache(maxsize=256)
def _threshold(share: float, hit: float, miss: float, run_length: float) -> float:
    steps, weights = np.array([hit, miss]), np.array([share, 1 - share])
    # The grid must be as fine as the small step, or the chain would never move down.
    return threshold_for(
        run_length,
        lambda threshold: average_run_length(
            steps, weights, threshold, states=min(1500, max(60, math.ceil(4 * threshold / -miss)))
        ),
        least=hit * 0.5,
        most=40.0,
    )


class BernoulliCusum:
    """One-sided CUSUM: upwards, or downwards for a share that degrades by falling."""

    def __init__(self, reference: Distribution, run_length: float, ratio: float = 3.0, down: float = 0.0) -> None:
        """Be optimal for odds that are `ratio` times the reference's (for `down` != 0: a `ratio`-th of them)."""
        self._down = bool(down)
        share = cautious_share(reference)
        share = 1 - share if self._down else share
        odds = ratio * share / (1 - share)
        worse = odds / (1 + odds)
        self._hit, self._miss = math.log(worse / share), math.log((1 - worse) / (1 - share))
        self._threshold = _threshold(share, self._hit, self._miss, run_length)
        self.reset()

    def reset(self) -> None:
        """Start again from no evidence."""
        self._sum, self._age = 0.0, 0

    def update(self, value: float, place: int = 0) -> Verdict:
        """Take 0 or 1."""
        del place
        hit = (value > 0) != self._down
        self._sum = min(self._sum + (self._hit if hit else self._miss), KEPT * self._threshold)
        if self._sum <= 0:
            self._sum, self._age = 0.0, 0
        else:
            self._age += 1
        return Verdict(self._sum / self._threshold, -1 if self._down else 1, self._age)

    def state(self) -> dict[str, Any]:
        """Return the sum and its age."""
        return {"sum": self._sum, "age": self._age}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state` returned."""
        self._sum, self._age = float(state["sum"]), int(state["age"])
