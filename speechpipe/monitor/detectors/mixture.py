"""A mixture e-detector for shares, whose run length is guaranteed without calibration.

For each size of change it keeps a Shiryaev-Roberts statistic R = (R + 1) x likelihood ratio. For their weighted mean M,
M_n - n is a martingale while nothing changes, so that the average run length until M reaches A is at least A (Shin,
Ramdas, Rinaldo 2023, "E-detectors", https://arxiv.org/abs/2203.03532). The mixture over sizes makes it quick to detect
small and large changes alike.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from speechpipe.foundation.stats.sketch import Distribution
from speechpipe.monitor.detectors import Verdict
from speechpipe.monitor.detectors.bernoulli import cautious_share

RATIOS = np.array([1.5, 2.0, 3.0, 5.0, 10.0, 20.0])
WEIGHTS = np.array([0.1, 0.2, 0.35, 0.2, 0.1, 0.05])
"""Most weight is on a tripling: a large change needs little weight, and a small one takes long with any weight."""

CAP = 100.0
"""Evidence is capped at this many alarm thresholds, so that a recovery shows soon."""


class MixtureDetector:
    """One-sided, or two-sided if `down` is 0.5, with half the weight on each direction.

    The usual share may differ from value to value, as by the hour: the martingale holds if each value is compared with
    its own.
    """

    def __init__(
        self,
        reference: Distribution,
        run_length: float,
        down: float = 0.0,
        shares: Sequence[float] = (),
        wobble: float = 0.0,
    ) -> None:
        """Watch against the reference's share or, with `shares`, against the one of each value's place.

        `wobble`: how much the logarithm of the odds of healthy values differs from that of the shares.
        """
        usual = np.array(shares or [cautious_share(reference)])[:, None]
        odds = usual / (1 - usual)
        sides = [(1.0, 1.0 - down)] if down < 1 else []
        if down > 0:
            sides.append((-1.0, down))
        signs = np.repeat([sign for sign, _ in sides], len(RATIOS))
        self._weights = np.concatenate([weight * WEIGHTS for _, weight in sides])
        self._directions = signs.astype(np.int64)
        # The worst that is healthy: higher on the side that watches upwards, lower on the other.
        healthy = odds * np.exp(wobble * signs)
        changed = healthy * np.concatenate([RATIOS**sign for sign, _ in sides])
        before, after = healthy / (1 + healthy), changed / (1 + changed)
        self._hit, self._miss = after / before, (1 - after) / (1 - before)
        self._needed = run_length
        self._most = CAP * run_length
        self.reset()

    def reset(self) -> None:
        """Start again from no evidence."""
        self._sums = np.zeros(len(self._weights))
        self._age = 0

    def update(self, value: float, place: int = 0) -> Verdict:
        """Take 0 or 1, of the share number `place`."""
        ratios = self._hit if value > 0 else self._miss
        self._sums = np.minimum((self._sums + 1.0) * ratios[place if len(ratios) > 1 else 0], self._most)
        weighted = self._sums * self._weights
        total = float(weighted.sum())
        self._age = self._age + 1 if total > 1.0 else 0
        return Verdict(total / self._needed, int(self._directions[int(weighted.argmax())]), self._age)

    def state(self) -> dict[str, Any]:
        """Return the statistics and their age."""
        return {"sums": self._sums.tolist(), "age": self._age}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state` returned."""
        sums = np.array(state["sums"], np.float64)
        if sums.shape == self._sums.shape:
            self._sums, self._age = sums, int(state["age"])
