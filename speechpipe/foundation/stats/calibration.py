"""From a recognizer's confidence to the chance that a word is right, and to what may be delivered unseen.

Isotonic regression by pool-adjacent-violators (Ayer et al., 1955); expected calibration error (Naeini et al., AAAI
2015); a threshold with a promise by fixed-sequence testing (Angelopoulos et al., "Learn then Test", 2021), by betting.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from speechpipe.foundation.stats.eprocess import Betting

Values = npt.NDArray[np.float64]

BINS = 10
STEPS = 50
"""Thresholds that are tried, by share of the utterances, the most confident first."""

FIRST = 3
"""The first threshold accepts so many times what it takes without an error."""

LEAST = 20
"""Reviewed utterances below which nothing is promised."""


@dataclass(frozen=True)
class Calibration:
    """A step function that does not fall: `levels[i]` from `edges[i]` on."""

    edges: tuple[float, ...]
    levels: tuple[float, ...]

    def __call__(self, confidence: npt.ArrayLike) -> Values:
        """Return the calibrated values; below the first edge the first level."""
        values = np.asarray(confidence, float)
        if not self.edges:
            return values
        index = np.clip(np.searchsorted(self.edges, values, side="right") - 1, 0, None)
        return np.asarray(np.array(self.levels)[index])


def isotonic(
    confidence: Sequence[float], right: Sequence[float], weights: Sequence[float] | None = None
) -> Calibration:
    """Fit the share that is right (0..1) as a function of confidence that does not fall; least squares.

    Args:
        confidence: (n,) as the recognizer says.
        right: (n,) share of the words that were right.
        weights: (n,) positive, such as one over the chance of being reviewed; None: all alike.
    """
    if not len(confidence):
        return Calibration((), ())
    shares = np.ones(len(confidence)) if weights is None else np.asarray(weights, float)
    values, index = np.unique(np.asarray(confidence, float), return_inverse=True)  # one level for one confidence
    totals = np.bincount(index, shares)
    means = np.bincount(index, shares * np.asarray(right, float)) / totals
    blocks: list[list[float]] = []  # first confidence, mean, weight
    for value, mean, total in zip(values.tolist(), means.tolist(), totals.tolist(), strict=True):
        blocks.append([value, mean, total])
        while len(blocks) > 1 and blocks[-2][1] >= blocks[-1][1]:
            last = blocks.pop()
            blocks[-1] = _pooled(blocks[-1], last)
    return Calibration(tuple(block[0] for block in blocks), tuple(block[1] for block in blocks))


def _pooled(first: list[float], second: list[float]) -> list[float]:
    weight = first[2] + second[2]
    return [first[0], (first[1] * first[2] + second[1] * second[2]) / weight, weight]


def calibration_error(confidence: Sequence[float], right: Sequence[float], bins: int = BINS) -> float:
    """Return the expected calibration error: |share right - mean confidence| over equal-width bins, by their size."""
    values, targets = np.asarray(confidence, float), np.asarray(right, float)
    if not len(values):
        return math.nan
    index = np.minimum((values * bins).astype(int), bins - 1)
    found = 0.0
    for number in range(bins):
        mine = index == number
        if mine.any():
            found += mine.mean() * abs(float(targets[mine].mean() - values[mine].mean()))
    return found


@dataclass(frozen=True)
class Promise:
    """Deliver what is at least this confident: its mean error is `bound` at most, with probability 1 - `delta`."""

    threshold: float | None  # None: nothing can be promised on what was reviewed
    bound: float
    delta: float
    share: float  # of the reviewed utterances that would be delivered
    error: float | None  # of those, as reviewed
    reviewed: int
    high: float | None = None  # the most that their mean error can be, with probability 1 - `delta`


def promise(confidence: Sequence[float], errors: Sequence[float], bound: float, delta: float = 0.05) -> Promise:
    """Return the lowest threshold whose accepted set keeps the bound.

    Thresholds are tested from the most confident down, each at `delta`, until the first that cannot be shown to keep
    it: the order is fixed beforehand, so the chance that the chosen one breaks its promise is `delta` at most. The
    sample must be drawn with the same probability for all utterances.

    Args:
        confidence: (n,) of the reviewed utterances.
        errors: (n,) of each, 0..1: edits over words, at most 1.
        bound: of the mean error of what is accepted.
        delta: chance of a broken promise.
    """
    values, wrong = np.asarray(confidence, float), np.clip(np.asarray(errors, float), 0.0, 1.0)
    chosen: float | None = None
    if len(values) >= LEAST and 0 < bound < 1:
        grid = np.unique(np.quantile(values, np.linspace(0, 1, STEPS + 1)[:-1]))[::-1]
        least = FIRST * _least(bound, delta)
        for threshold in grid.tolist():
            mine = values >= threshold
            if mine.sum() < least:
                continue  # too few to bear an error: where the sequence begins is decided without looking at any
            if not _kept(wrong[mine], bound, delta):
                break
            chosen = threshold
    accepted = values >= chosen if chosen is not None else np.zeros(len(values), bool)
    error = float(wrong[accepted].mean()) if accepted.any() else None
    share = float(accepted.mean()) if len(values) else 0.0
    high = _most(wrong[accepted], delta) if accepted.any() else None
    return Promise(chosen, bound, delta, share, error, len(values), high)


def _most(errors: Values, delta: float) -> float:
    """Return the upper end of the one-sided interval of a mean: what the bets do not refute (by halving)."""
    low, high = float(errors.mean()), 1.0
    for _ in range(12):
        middle = (low + high) / 2
        if middle < 1 and _kept(errors, middle, delta):
            high = middle
        else:
            low = middle
    return high


def _least(bound: float, delta: float) -> int:
    """Return how many utterances without an error it takes."""
    test, count = Betting(bound, 0.0, 1.0), 0
    while test.log_e < math.log(1 / delta):
        test.update(0.0)
        count += 1
    return count


def _kept(errors: Values, bound: float, delta: float) -> bool:
    """Whether "the mean error is `bound` or more" is refuted."""
    test = Betting(bound, 0.0, 1.0)
    for error in errors.tolist():
        test.update(error)
    return test.log_e >= math.log(1 / delta)
