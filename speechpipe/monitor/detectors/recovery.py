"""Whether a metric that has drifted is back: a sequential test of the reference against the changed level.

A detector's own evidence falls slowly after a change, because it asks for changes of all sizes: after nulls of 30 %, a
hundred values without a null still fit nulls of 4 %. Here the alternative is the level that rang the alarm, so that a
few values decide (Wald 1945, "Sequential Tests of Statistical Hypotheses", doi:10.1214/aoms/1177731118).
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from speechpipe.foundation.stats.sketch import Distribution
from speechpipe.monitor.detectors.bernoulli import LEAST_SHARE, cautious_share

NEEDED = math.log(2_000.0)
"""Logarithm of the likelihood ratio that ends an alarm: the values fit the reference so many times better."""

MOST_STEP = NEEDED / 30
"""The most that one real value counts: of a change that not all values have, many in a row are as before."""

MOST_OF_A_SHARE = NEEDED / 20
"""The same for a share that has risen."""

LEAST_SHIFT = 0.5
"""Smaller changes, in standard deviations, are left to the detector's own evidence."""

MOST_SHIFT = 4.0
IQR_TO_SIGMA = 1.349


CERTAIN = 1.645
"""Standard deviations: of few values, the level is taken that is nearest to the reference of those that fit."""

LEAST_RATIO = 1.5


def _nearest(events: int, count: int, was: float) -> float:
    """Return the level nearest to the share `was` that so many events fit (the interval of Wilson 1927)."""
    seen, spread = events / count, CERTAIN**2 / count
    half = CERTAIN * math.sqrt(seen * (1 - seen) / count + spread / (4 * count))
    if seen >= was:
        return max((seen + spread / 2 - half) / (1 + spread), LEAST_RATIO * was)
    return min((seen + spread / 2 + half) / (1 + spread), was / LEAST_RATIO)


class Recovery:
    """The test for one alarm. Used on the watcher's thread."""

    def __init__(
        self, reference: Distribution, values: Sequence[float], *, share: bool, was: float | None = None
    ) -> None:
        """Test values against `reference`, and against the level that they have had while the evidence grew.

        Args:
            reference: what is usual.
            values: those with which the evidence grew; at least one.
            share: they are 0 or 1.
            was: the share that was usual for them, if it is another one than the reference's.
        """
        self.values = tuple(values)
        self.sum = 0.0
        self._share = share
        if share:
            was = cautious_share(reference) if was is None else was
            now = _nearest(sum(value > 0 for value in values), len(values), was)
            now = min(max(now, LEAST_SHARE), 1 - LEAST_SHARE)
            self._was, self._ratio = was, now / (1 - now) / (was / (1 - was))
            return
        low, self._centre, high = reference.quantiles([0.25, 0.5, 0.75])
        self._scale = max((high - low) / IQR_TO_SIGMA, reference.deviation * 0.1, abs(self._centre) * 1e-6, 1e-12)
        # The mean of the clipped values: a few that are far away are a small shift, which takes many values to refute.
        self._shift = fmean(self._standardised(value) for value in values)

    def _standardised(self, value: float) -> float:
        return min(max((value - self._centre) / self._scale, -MOST_SHIFT), MOST_SHIFT)

    def update(self, value: float, was: float | None = None) -> bool:
        """Take the next value; return whether the metric has recovered.

        `was`: the share that is usual for this value, if it is another one than the reference's. The changed one has
        the same ratio to it.
        """
        if self._share:
            was = self._was if was is None else was
            odds = was / (1 - was) * self._ratio
            now = odds / (1 + odds)
            step = math.log(was / now) if value > 0 else min(math.log((1 - was) / (1 - now)), MOST_OF_A_SHARE)
        elif abs(self._shift) < LEAST_SHIFT:
            return False
        else:
            step = self._shift * (self._shift / 2 - self._standardised(value))
            step = min(max(step, -8 * MOST_STEP), MOST_STEP)  # a usual value in the tail does not refute thirty others
        self.sum = max(0.0, self.sum + step)
        return self.sum >= NEEDED

    def state(self) -> dict[str, Any]:
        """Return the values and the evidence so far."""
        return {"values": list(self.values), "sum": self.sum}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue with the evidence of a state that `state` returned."""
        self.sum = float(state["sum"])
