"""Two-sided CUSUM of values standardised by the reference's median and interquartile range.

Values far out are pulled in: one absurd session is not a change. The threshold is that of the reference's own
distribution (`run_length.py`), because a normal one would promise far fewer false alarms than skewed values give.
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
"""Times the threshold: how much evidence is kept, so that a recovery shows before long."""


@lru_cache(maxsize=4096)
def _threshold(steps: tuple[float, ...], run_length: float) -> float:
    """Return the threshold for steps of equal weight. Costs some 20 ms: detectors are made anew after each restart."""
    found, weights = np.array(steps), np.full(len(steps), 1 / len(steps))
    return threshold_for(
        run_length, lambda threshold: average_run_length(found, weights, threshold), least=0.5, most=MOST
    )


class RobustCusum:
    """`shift`: the change, in standard deviations, that it is best against."""

    def __init__(
        self, reference: Distribution, run_length: float, shift: float = 0.75, down: float = 0.5, least: float = 0.0
    ) -> None:
        """Watch upwards, downwards (`down` 1), or both (`down` 0.5); ignore changes smaller than `least`.

        Raises:
            ValueError: the reference has too few values.
        """
        if reference.count < LEAST_REFERENCE or not reference.sketched:
            raise ValueError(f"a reference of {reference.count} values; {LEAST_REFERENCE} are needed")
        atoms = np.array(reference.quantiles([(step + 0.5) / ATOMS for step in range(ATOMS)]), np.float64)
        self._median = float(np.median(atoms))
        spread = float(np.quantile(atoms, 0.75) - np.quantile(atoms, 0.25)) / IQR_TO_SIGMA
        self._scale = max(spread, reference.deviation * 0.1, abs(self._median) * 1e-6, 1e-12)
        self._drift = max(shift / 2, least / self._scale / 2)
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
        """Begin anew."""
        self._high = self._low = 0.0
        self._age_high = self._age_low = 0

    def update(self, value: float) -> Verdict:
        """Take the next value."""
        step = min(max((value - self._median) / self._scale, -CLIP), CLIP) - self._centre
        self._high = min(max(0.0, self._high + step - self._drift), KEPT * self._up)
        self._low = min(max(0.0, self._low - step - self._drift), KEPT * self._down)
        self._age_high = self._age_high + 1 if self._high else 0
        self._age_low = self._age_low + 1 if self._low else 0
        high, low = self._high / self._up, self._low / self._down
        return Verdict(high, 1, self._age_high) if high >= low else Verdict(low, -1, self._age_low)

    def state(self) -> dict[str, Any]:
        """Return what must be kept."""
        return {"high": self._high, "low": self._low, "ages": [self._age_high, self._age_low]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._high, self._low = float(state["high"]), float(state["low"])
        self._age_high, self._age_low = (int(age) for age in state["ages"])
