"""Whether a metric that has drifted is back: a sequential test of the reference against the changed level.

A detector's own evidence falls slowly after a change, because it asks for changes of all sizes: after nulls of 30 %, a
hundred values without a null still fit nulls of 4 %. Here the alternative is the level that rang the alarm, so that a
few values decide (Wald 1945, "Sequential Tests of Statistical Hypotheses", doi:10.1214/aoms/1177731118).
"""

import math
from collections.abc import Mapping
from typing import Any

from speechpipe.foundation.stats.sketch import Distribution
from speechpipe.monitor.detectors.bernoulli import LEAST_SHARE, cautious_share

NEEDED = math.log(2_000.0)
"""Logarithm of the likelihood ratio that ends an alarm: the values fit the reference so many times better."""

MOST_STEP = NEEDED / 10
"""The most that one real value counts, so that a few that are as before end no alarm: the changed ones may scatter."""

LEAST_SHIFT = 0.5
"""Smaller changes, in standard deviations, are left to the detector's own evidence."""

MOST_SHIFT = 4.0
IQR_TO_SIGMA = 1.349


class Recovery:
    """The test for one alarm. Used on the watcher's thread."""

    def __init__(self, reference: Distribution, level: float, *, share: bool) -> None:
        """Test values against `reference`, and against the mean `level` that they have had since the change.

        `share`: values are 0 or 1.
        """
        self.level = level
        self.sum = 0.0
        self._share = share
        if share:
            was = cautious_share(reference)
            now = min(max(level, LEAST_SHARE), 1 - LEAST_SHARE)
            self._hit, self._miss = math.log(was / now), math.log((1 - was) / (1 - now))
            return
        low, self._centre, high = reference.quantiles([0.25, 0.5, 0.75])
        self._scale = max((high - low) / IQR_TO_SIGMA, reference.deviation * 0.1, abs(self._centre) * 1e-6, 1e-12)
        self._shift = self._standardised(level)

    def _standardised(self, value: float) -> float:
        return min(max((value - self._centre) / self._scale, -MOST_SHIFT), MOST_SHIFT)

    def update(self, value: float) -> bool:
        """Take the next value; return whether the metric has recovered."""
        if self._share:
            step = self._hit if value > 0 else self._miss
        elif abs(self._shift) < LEAST_SHIFT:
            return False
        else:
            step = min(self._shift * (self._shift / 2 - self._standardised(value)), MOST_STEP)
        self.sum = max(0.0, self.sum + step)
        return self.sum >= NEEDED

    def state(self) -> dict[str, Any]:
        """Return the level and the evidence so far."""
        return {"level": self.level, "sum": self.sum}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue with the evidence of a state that `state` returned."""
        self.sum = float(state["sum"])
