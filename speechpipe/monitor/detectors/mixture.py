"""A mixture e-detector for shares: no calibration, and its run length is guaranteed.

For each size of change a Shiryaev-Roberts statistic R = (R + 1) x likelihood ratio is kept; their weighted mean M has
the property that M_n - n is a martingale while nothing changes, so that the average run length until M reaches A is at
least A (Shin, Ramdas, Rinaldo 2023, "E-detectors", https://arxiv.org/abs/2203.03532). Mixing over sizes makes it quick
against a doubling and against a flood alike.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from speechpipe.foundation.stats.sketch import Distribution
from speechpipe.monitor.detectors import Verdict
from speechpipe.monitor.detectors.bernoulli import cautious_share

RATIOS = np.array([1.5, 2.0, 3.0, 5.0, 10.0, 20.0])
WEIGHTS = np.array([0.1, 0.2, 0.35, 0.2, 0.1, 0.05])
"""Most on a tripling: a flood is seen at once with little weight, and a half more takes long with any."""

CAP = 100.0
"""Times what is needed for an alarm: how much evidence is kept, so that a recovery shows before long."""


class MixtureDetector:
    """One-sided, or both if `down` is 0.5: half the weight on each direction."""

    def __init__(self, reference: Distribution, run_length: float, down: float = 0.0) -> None:
        share = cautious_share(reference)
        odds = share / (1 - share)
        up, lower = odds * RATIOS, odds / RATIOS
        sides = [(up, 1.0 - down)] if down < 1 else []
        if down > 0:
            sides.append((lower, down))
        shares, weights, directions = [], [], []
        for index, (changed, weight) in enumerate(sides):
            shares.append(changed / (1 + changed))
            weights.append(weight * WEIGHTS)
            directions.append(np.full(len(RATIOS), -1 if (down >= 1 or index == 1) else 1))
        self._weights, self._directions = np.concatenate(weights), np.concatenate(directions)
        alternatives = np.concatenate(shares)
        self._hit, self._miss = alternatives / share, (1 - alternatives) / (1 - share)
        self._needed = run_length
        self._most = CAP * run_length
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._sums = np.zeros(len(self._weights))
        self._age = 0

    def update(self, value: float) -> Verdict:
        """Take 0 or 1."""
        self._sums = np.minimum((self._sums + 1.0) * (self._hit if value > 0 else self._miss), self._most)
        weighted = self._sums * self._weights
        total = float(weighted.sum())
        self._age = self._age + 1 if total > 1.0 else 0
        return Verdict(total / self._needed, int(self._directions[int(weighted.argmax())]), self._age)

    def state(self) -> dict[str, Any]:
        """Return what must be kept."""
        return {"sums": self._sums.tolist(), "age": self._age}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        sums = np.array(state["sums"], np.float64)
        if sums.shape == self._sums.shape:
            self._sums, self._age = sums, int(state["age"])
