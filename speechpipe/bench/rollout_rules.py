"""Rollout rules on a stream of canary and champion sessions: ours, a repeated z-test, Flagger's, Kayenta's.

All use the same counts. Flagger and Kayenta are implemented from their documentation, in their favour where it leaves a
choice. Flagger's static limits are those that a healthy canary exceeds in one check of a thousand at the day's peak,
which assumes that its rate is known. Kayenta's canary has a baseline of the same size, and is judged on all intervals
so far, after every sixty of them (one value a minute, judged every hour).

Sources: https://docs.flagger.app/usage/how-it-works (canary analysis), Kayenta's `NetflixACAJudge` (at 98 %).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speechpipe.foundation.stats.eprocess import log_e_below, log_e_not_inferior, log_e_worse

INTERVAL = 100
"""Canary sessions in one interval, which Flagger and Kayenta judge at once."""

FLAGGER_FAILURES, FLAGGER_STEPS = 5, 10
KAYENTA_EVERY, KAYENTA_P = 60, 0.02
PEAK = 1.5
"""The daily peak of the rates, as a multiple of their mean (`bench/rollout.py`)."""

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Stream:
    """A simulated rollout: sessions with an event on each arm, by guard (row) and interval."""

    canary: Counts  # (guards, intervals)
    champion: Counts
    rates: tuple[float, ...]  # the champion's true rates
    weight: float
    order: np.random.Generator

    @property
    def champion_sessions(self) -> float:
        """The champion's sessions in one interval."""
        return INTERVAL * (1 - self.weight) / self.weight


@dataclass(frozen=True)
class Stop:
    """How a rule ended, and after how many canary sessions; `hold`: no decision until the end."""

    what: str  # roll_back | promote | hold
    sessions: int


Rule = Callable[[Stream], Stop]


def _events(stream: Stream, guard: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], Counts]:
    """Return for each event in order: canary events so far, all events so far, canary sessions so far."""
    marks, places = [], []
    for interval in range(stream.canary.shape[1]):
        mine, others = int(stream.canary[guard, interval]), int(stream.champion[guard, interval])
        row = np.zeros(mine + others)
        row[:mine] = 1
        marks.append(stream.order.permutation(row))
        places.append(np.sort(stream.order.integers(0, INTERVAL, mine + others)) + interval * INTERVAL + 1)
    hits = np.concatenate(marks).cumsum()
    return hits, np.arange(1.0, len(hits) + 1), np.concatenate(places)


def _first(reached: npt.NDArray[np.bool_], at: Counts) -> float:
    return float(at[int(reached.argmax())]) if reached.any() else math.inf


def ours(alpha: float = 0.01, alpha_promote: float = 0.05, margin: float = 0.0, harmless: float = 0.02) -> Rule:
    """Return the rule of `rollout/analysis.py`, applied after every event; without a margin it never promotes."""

    def rule(stream: Stream) -> Stop:
        guards = len(stream.rates)
        back, forward = math.inf, 0.0
        for guard in range(guards):
            hits, events, at = _events(stream, guard)
            if not len(events):
                continue
            back = min(back, _first(log_e_worse(hits, events, stream.weight) >= math.log(guards / alpha), at))
            if not margin:
                forward = math.inf
                continue
            near = log_e_not_inferior(hits, events, stream.weight, margin)
            rare = log_e_below(hits, at.astype(float), harmless)
            fine = np.logaddexp(near, rare) - math.log(2) >= math.log(1 / alpha_promote)
            # All guards must be fine at the same time; that each has been is nearly the same, and favours promotion.
            forward = max(forward, _first(fine, at))
        end = stream.canary.shape[1] * INTERVAL
        if min(back, forward) == math.inf:
            return Stop("hold", end)
        return Stop("roll_back", int(back)) if back <= forward else Stop("promote", int(forward))

    return rule


def peeked_z(alpha: float = 0.01) -> Rule:
    """Return a two-proportion z-test at alpha divided by the number of guards, applied after every event."""

    def rule(stream: Stream) -> Stop:
        limit = _normal_quantile(1 - alpha / len(stream.rates))
        back = math.inf
        for guard in range(len(stream.rates)):
            hits, events, at = _events(stream, guard)
            sessions = at.astype(float)
            others = sessions * (1 - stream.weight) / stream.weight
            pooled = events / (sessions + others)
            error = np.sqrt(pooled * (1 - pooled) * (1 / sessions + 1 / others))
            z = (hits / sessions - (events - hits) / others) / np.maximum(error, 1e-12)
            back = min(back, _first((z > limit) & (hits >= 5), at))
        return _or_hold(back, stream)

    return rule


def _limits(stream: Stream) -> Counts:
    """Return the number of events that a healthy canary exceeds in one of 1000 intervals at the peak, (guards, 1)."""
    found = []
    for rate in stream.rates:
        p, share, total, count = min(rate * PEAK, 1.0), 0.0, 0.0, -1
        while total < 0.999:
            count += 1
            share = math.comb(INTERVAL, count) * p**count * (1 - p) ** (INTERVAL - count)
            total += share
        found.append(count)
    return np.array(found, np.int64)[:, None]


def flagger(stream: Stream) -> Stop:
    """Apply static limits: `FLAGGER_FAILURES` intervals above a limit roll back, `FLAGGER_STEPS` others promote."""
    limits = _limits(stream)
    failed: list[bool] = np.any(stream.canary > limits, axis=0).tolist()
    failures = rounds = 0
    for interval, bad in enumerate(failed, 1):
        failures += bad
        rounds += not bad
        if failures >= FLAGGER_FAILURES:
            return Stop("roll_back", interval * INTERVAL)
        if rounds >= FLAGGER_STEPS:
            return Stop("promote", interval * INTERVAL)
    return Stop("hold", len(failed) * INTERVAL)


def flagger_watching(stream: Stream) -> Stop:
    """Apply the same limits without promotion, to measure how often a healthy canary is stopped in the long run."""
    limits = _limits(stream)
    failed = np.any(stream.canary > limits, axis=0).cumsum()
    reached = failed >= FLAGGER_FAILURES
    return _or_hold(float((reached.argmax() + 1) * INTERVAL) if reached.any() else math.inf, stream)


def kayenta(stream: Stream) -> Stop:
    """Apply the Mann-Whitney test to the rates of all intervals so far, after every `KAYENTA_EVERY` intervals."""
    # A baseline of the canary's size, as Kayenta requires: a sample of the champion's sessions.
    share = INTERVAL / stream.champion_sessions
    baseline = stream.order.binomial(stream.champion, min(1.0, share))
    for interval in range(KAYENTA_EVERY, stream.canary.shape[1] + 1, KAYENTA_EVERY):
        for guard in range(len(stream.rates)):
            if _mann_whitney(stream.canary[guard, :interval], baseline[guard, :interval]) < KAYENTA_P / 2:
                return Stop("roll_back", interval * INTERVAL)
    return Stop("hold", stream.canary.shape[1] * INTERVAL)


def _mann_whitney(first: Counts, second: Counts) -> float:
    """Return the one-sided p value of `first` being larger (normal approximation with ties)."""
    both = np.concatenate([first, second])
    values, inverse, ties = np.unique(both, return_inverse=True, return_counts=True)
    if len(values) < 2:
        return 1.0
    ranks = (ties.cumsum() - (ties - 1) / 2)[inverse]
    n, m = len(first), len(second)
    u = ranks[:n].sum() - n * (n + 1) / 2
    variance = n * m / 12 * (n + m + 1 - (ties**3 - ties).sum() / ((n + m) * (n + m - 1)))
    z = (u - n * m / 2 - 0.5) / math.sqrt(variance)
    return 0.5 * math.erfc(z / math.sqrt(2))


def _or_hold(back: float, stream: Stream) -> Stop:
    end = stream.canary.shape[1] * INTERVAL
    return Stop("hold", end) if back == math.inf else Stop("roll_back", int(back))


def _normal_quantile(p: float) -> float:
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 * math.erfc(-middle / math.sqrt(2)) < p else (low, middle)
    return low


WATCHING: Mapping[str, Rule] = {
    "e-process (ours)": ours(),
    "z-test, peeked": peeked_z(),
    "Flagger: static limits": flagger_watching,
    "Kayenta: Mann-Whitney": kayenta,
}
"""Rules that only roll back."""
