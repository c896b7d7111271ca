"""Two-sided CUSUM of values standardised by the reference's median and interquartile range.

Values are clipped, so that one outlier is not a change. The threshold is computed for the reference's own
distribution (`run_length.py`): for skewed values, a normal one would cause far more false alarms than promised.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from speechpipe.foundation.stats.run_length import average_run_length, threshold_for
from speechpipe.foundation.stats.sketch import Distribution
from speechpipe.monitor.detectors import Verdict

LEAST_REFERENCE = 30
ATOMS = 200
CLIP = 4.0
IQR_TO_SIGMA = 1.349
MOST = 60.0
KEPT = 2.0
"""Evidence is capped at this many thresholds, so that a recovery shows soon."""


@lru_cache(maxsize=4096)
def _threshold(steps: tuple[float, ...], run_length: float) -> float:
    """Return the threshold for equally likely steps. Cached: it takes about 20 ms, and restarts build all detectors."""
    found, weights = np.array(steps), np.full(len(steps), 1 / len(steps))
    return threshold_for(
        run_length, lambda threshold: average_run_length(found, weights, threshold), least=0.5, most=MOST
    )


class RobustCusum:
    """CUSUM that is optimal for a change of `shift` standard deviations."""

    def __init__(
        self,
        reference: Distribution,
        run_length: float,
        shift: float = 0.75,
        down: float = 0.5,
        least: float = 0.0,
        wobble: float = 0.0,
    ) -> None:
        """Watch upwards, downwards (`down` 1), or both (`down` 0.5); ignore changes smaller than `least`.

        `wobble`: how much the mean of healthy values differs from that of the reference, in standard deviations.

        Raises:
            ValueError: the reference has too few values.
        """
        if reference.count < LEAST_REFERENCE or not reference.sketched:
            raise ValueError(f"the reference has {reference.count} values; {LEAST_REFERENCE} are needed")
        atoms = np.array(reference.quantiles([(step + 0.5) / ATOMS for step in range(ATOMS)]), np.float64)
        self._median = float(np.median(atoms))
        spread = float(np.quantile(atoms, 0.75) - np.quantile(atoms, 0.25)) / IQR_TO_SIGMA
        self._scale = max(spread, reference.deviation * 0.1, abs(self._median) * 1e-6, 1e-12)
        self._drift = max(shift / 2, least / self._scale / 2) + wobble
        steps = self._standardised(atoms)
        self._centre = float(steps.mean())  # the mean of skewed values is not their median
        sides = 2 if 0 < down < 1 else 1
        self._up = self._down = np.inf
        if down < 1:
            self._up = _threshold(tuple(steps - self._centre - self._drift), run_length * sides)
        if down > 0:
            self._down = _threshold(tuple(-(steps - self._centre) - self._drift), run_length * sides)
        self.reset()

    def _standardised(self, values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
        return np.clip((values - self._median) / self._scale, -CLIP, CLIP)

    def reset(self) -> None:
        """Start again from no evidence."""
        self._high = self._low = 0.0
        self._age_high = self._age_low = 0

    def update(self, value: float, place: int = 0) -> Verdict:
        """Take the next value."""
        del place
        step = min(max((value - self._median) / self._scale, -CLIP), CLIP) - self._centre
        self._high = min(max(0.0, self._high + step - self._drift), KEPT * self._up)
        self._low = min(max(0.0, self._low - step - self._drift), KEPT * self._down)
        self._age_high = self._age_high + 1 if self._high else 0
        self._age_low = self._age_low + 1 if self._low else 0
        high, low = self._high / self._up, self._low / self._down
        return Verdict(high, 1, self._age_high) if high >= low else Verdict(low, -1, self._age_low)

    def state(self) -> dict[str, Any]:
        """Return the two sums and their ages."""
        return {"high": self._high, "low": self._low, "ages": [self._age_high, self._age_low]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state` returned."""
        self._high, self._low = float(state["high"]), float(state["low"])
        self._age_high, self._age_low = (int(age) for age in state["ages"])
