"""E-processes: sequential tests that may be evaluated after every session.

If a hypothesis is true, an e-process against it ever exceeds 1/alpha with probability at most alpha (Ville, 1939), so
the time of the decision need not be fixed in advance. Counts are tested by the conditional binomial of Lindon & Malek
(NeurIPS 2022): if both arms are alike, each event falls on the candidate with the probability of routing, however the
rate of events changes over the day. Bounded values and pairs are tested by betting (Waudby-Smith & Ramdas, JRSS-B
2024). Alternatives are mixed over a grid with prior weights.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

CONCENTRATION = 40.0
"""Weight of the prior around equality, in events: K of the Beta prior."""

GRID = 96
MEANS: Values = np.linspace(0.0025, 0.9975, 200)

BETS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
"""Bets that are mixed, as shares of the largest bet that keeps the wealth positive."""


@lru_cache(maxsize=256)
def _prior(centre: float, low: float, high: float, *, far: bool) -> tuple[Values, Values]:
    """Return (points, log weights) of Beta(K centre, K (1 - centre)) truncated to low..high.

    With `far`, half of the weight is uniform, so that an arm that fails on every session is detected within a few.
    """
    edges = np.linspace(low, high, GRID + 1)
    points = (edges[1:] + edges[:-1]) / 2
    density = (CONCENTRATION * centre - 1) * np.log(points) + (CONCENTRATION * (1 - centre) - 1) * np.log1p(-points)
    weights = density - np.logaddexp.reduce(density)
    return points, np.logaddexp(weights, -math.log(GRID)) - math.log(2) if far else weights


def share_with_ratio(weight: float, ratio: float) -> float:
    """Return the expected share of events on an arm with `weight` of the traffic and `ratio` times the other's rate."""
    return ratio * weight / (ratio * weight + 1 - weight)


def log_e_worse(on_candidate: Values, events: Values, weight: float) -> Values:
    """Return log E against "the candidate's rate is not higher", given `events`, `on_candidate` of them on it."""
    return _log_e(on_candidate, events, weight, weight, weight, 1.0, far=True)


def log_e_not_inferior(on_candidate: Values, events: Values, weight: float, margin: float) -> Values:
    """Return log E against "the candidate's rate is `margin` times the champion's, or more"."""
    limit = share_with_ratio(weight, margin)
    return _log_e(on_candidate, events, limit, weight, 0.0, limit)


def log_e_unequal(on_candidate: Values, events: Values, weight: float) -> Values:
    """Return log E against "each event is on the candidate with probability `weight`" (sample-ratio mismatch)."""
    return _log_e(on_candidate, events, weight, weight, 0.0, 1.0, far=True)


def log_e_above(events: Values, sessions: Values, rate: float) -> Values:
    """Return log E against "the rate is `rate` at most"."""
    return _log_e(events, sessions, rate, rate, rate, 1.0, far=True)


def log_e_below(events: Values, sessions: Values, rate: float) -> Values:
    """Return log E against "the rate is `rate` or more"."""
    return _log_e(events, sessions, rate, rate / 3, 0.0, rate)


def _log_e(
    hits: Values, trials: Values, null: float, centre: float, low: float, high: float, *, far: bool = False
) -> Values:
    hits, trials = np.asarray(hits, float), np.asarray(trials, float)
    points, weights = _prior(centre, low, high, far=far)
    won, lost = np.log(points / null), np.log1p(-points) - math.log1p(-null)
    terms = hits[..., None] * won + (trials - hits)[..., None] * lost + weights
    return np.asarray(np.logaddexp.reduce(terms, axis=-1))


@dataclass
class Betting:
    """E-process against "the mean of values in low..high is `limit` or more"; with `above`, against "or less".

    Each value is bet to be below (above) the limit; the evidence is the wealth of a mixture of bets.
    """

    limit: float
    low: float
    high: float
    above: bool = False
    count: int = 0
    total: float = 0.0
    _wealth: Values = field(default_factory=lambda: np.zeros(len(BETS)))

    def update(self, value: float) -> None:
        """Add one value; given the hypothesis, it must be independent of the earlier ones."""
        self.count += 1
        self.total += value
        value = min(self.high, max(self.low, value))
        gain = value - self.limit if self.above else self.limit - value
        most_lost = self.limit - self.low if self.above else self.high - self.limit
        self._wealth = self._wealth + np.log1p(np.array(BETS) * gain / most_lost)

    @property
    def mean(self) -> float | None:
        """Mean of the values; None without any."""
        return self.total / self.count if self.count else None

    @property
    def log_e(self) -> float:
        """Logarithm of the evidence; reject at level alpha when it exceeds log(1 / alpha)."""
        return float(np.logaddexp.reduce(self._wealth) - math.log(len(BETS)))


@dataclass
class Bounded:
    """Confidence sequence for the mean of values in 0..1: covers the mean at all times, with chance 1 - alpha."""

    alpha: float = 0.05
    count: int = 0
    _total: float = 0.0
    _squares: float = 0.25
    _up: Values = field(default_factory=lambda: np.zeros(len(MEANS)))
    _down: Values = field(default_factory=lambda: np.zeros(len(MEANS)))

    def update(self, value: float) -> None:
        """Add one value. The bet depends on the earlier values only (predictable plug-in)."""
        mean = (0.5 + self._total) / (1 + self.count)
        variance = self._squares / (1 + self.count)
        size = math.sqrt(2 * math.log(2 / self.alpha) / (variance * (1 + self.count) * math.log(2 + self.count)))
        self._up += np.log1p(np.minimum(size, 0.5 / MEANS) * (value - MEANS))
        self._down += np.log1p(-np.minimum(size, 0.5 / (1 - MEANS)) * (value - MEANS))
        self.count += 1
        self._total += value
        self._squares += (value - mean) ** 2

    @property
    def interval(self) -> tuple[float, float]:
        """The confidence interval now, (low, high)."""
        alive = MEANS[np.maximum(self._up, self._down) + math.log(0.5) < math.log(1 / self.alpha)]
        return (float(alive.min()), float(alive.max())) if len(alive) else (0.0, 1.0)

    @property
    def mean(self) -> float | None:
        """Mean of the values; None without any."""
        return self._total / self.count if self.count else None
