"""Calibration of confidences, and confidence thresholds with a guaranteed error rate.

Isotonic regression by pool-adjacent-violators (Ayer et al., 1955). Expected calibration error (Naeini et al., AAAI
2015). Thresholds by fixed-sequence testing (Angelopoulos et al., "Learn then Test", 2021) with tests by betting.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

BINS = 10
STEPS = 50
"""Number of thresholds that are tried, at equal steps of the share of utterances, the highest first."""

FIRST = 3
"""The first threshold tried accepts at least this many times the utterances that a test without errors needs."""

BETS = (0.3, 0.9)
"""Bets of a test, as shares of the largest that keeps the wealth positive. The high one wins most against a small
bound, unless most errors are whole utterances."""

LEAST = 20
"""With fewer reviewed utterances no threshold is returned."""

GROUPS = 20
"""A shipped calibration is fitted on at most this many groups of like confidence, equally large."""

PRIOR = 50.0
"""A shipped calibration counts as much as this many reviewed utterances, spread over its steps as it was measured."""


@dataclass(frozen=True)
class Calibration:
    """A non-decreasing step function from confidence to probability: `levels[i]` from `edges[i]` on."""

    edges: tuple[float, ...]
    levels: tuple[float, ...]

    def __call__(self, confidence: npt.ArrayLike) -> Values:
        """Return the calibrated values; below the first edge the first level, without edges the input."""
        values = np.asarray(confidence, float)
        if not self.edges:
            return values
        index = np.clip(np.searchsorted(self.edges, values, side="right") - 1, 0, None)
        return np.asarray(np.array(self.levels)[index])


def isotonic(
    confidence: Sequence[float], right: Sequence[float], weights: Sequence[float] | None = None
) -> Calibration:
    """Fit the share of right words (0..1) as a non-decreasing function of confidence, by least squares.

    Args:
        confidence: (n,) of the recognizer.
        right: (n,) share of the words that were right.
        weights: (n,) positive, for example the inverse of the probability of review; None: all equal.
    """
    if not len(confidence):
        return Calibration((), ())
    shares = np.ones(len(confidence)) if weights is None else np.asarray(weights, float)
    values, index = np.unique(np.asarray(confidence, float), return_inverse=True)  # equal confidences get one level
    totals = np.bincount(index, shares)
    means = np.bincount(index, shares * np.asarray(right, float)) / totals
    blocks: list[list[float]] = []  # first confidence, mean, weight
    for value, mean, total in zip(values.tolist(), means.tolist(), totals.tolist(), strict=True):
        blocks.append([value, mean, total])
        while len(blocks) > 1 and blocks[-2][1] >= blocks[-1][1]:
            last = blocks.pop()
            blocks[-1] = _pooled(blocks[-1], last)
    return Calibration(tuple(block[0] for block in blocks), tuple(block[1] for block in blocks))


@dataclass(frozen=True)
class Prior:
    """A calibration measured before there were reviews. `shares[i]` of what it was measured on lay at step i."""

    calibration: Calibration = Calibration((), ())
    shares: tuple[float, ...] = ()

    def refined(self, confidence: Sequence[float], right: Sequence[float]) -> Calibration:
        """Return the calibration of reviewed utterances that starts from this one; without one, that of the reviews.

        Each level is the mean of the reviewed utterances at its step and of the prior's, which count as `PRIOR` in all.
        So a few reviews move it little, and hundreds replace it.

        Args:
            confidence: (n,) of the recognizer, of utterances that had equal chances of review.
            right: (n,) share of the words that were right.
        """
        if not self.calibration.edges or not len(confidence):
            return isotonic(confidence, right) if not self.calibration.edges else self.calibration
        edges = self.calibration.edges
        steps = np.clip(np.searchsorted(edges, np.asarray(confidence, float), side="right") - 1, 0, None)
        before = PRIOR * np.array(self.shares)
        totals = before + np.bincount(steps, minlength=len(edges))
        sums = before * np.array(self.calibration.levels) + np.bincount(steps, right, minlength=len(edges))
        return isotonic(edges, (sums / totals).tolist(), totals.tolist())


@dataclass(frozen=True)
class ConfidenceTable:
    """What a recognizer's confidences mean, measured on recordings with known texts.

    `utterances`: expected share of the words that are right. `words`: probability that a word is right. Without a
    table both are empty.
    """

    utterances: Prior = Prior()
    words: Prior = Prior()


NO_TABLE = ConfidenceTable()


def grouped(confidence: Sequence[float], right: Sequence[float], groups: int = GROUPS) -> Prior:
    """Return the calibration of measured confidences, fitted on groups of equal size so that no step is a few values.

    Half a right and half a wrong observation are added to each group: no level is 0 or 1.

    Args:
        confidence: (n,) of the recognizer, at least one.
        right: (n,) 0..1.
        groups: most groups; fewer where many confidences are equal.
    """
    values, targets = np.asarray(confidence, float), np.asarray(right, float)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, groups + 1)[:-1], method="lower"))
    index = np.searchsorted(edges, values, side="right") - 1
    counts = np.bincount(index, minlength=len(edges))
    means = (np.bincount(index, targets, minlength=len(edges)) + 0.5) / (counts + 1)
    found = isotonic(edges.tolist(), means.tolist(), counts.tolist())
    steps = np.searchsorted(found.edges, values, side="right") - 1
    shares = np.bincount(steps, minlength=len(found.edges)) / len(values)
    return Prior(found, tuple(shares.tolist()))


def _pooled(first: list[float], second: list[float]) -> list[float]:
    weight = first[2] + second[2]
    return [first[0], (first[1] * first[2] + second[1] * second[2]) / weight, weight]


def calibration_error(confidence: Sequence[float], right: Sequence[float], bins: int = BINS) -> float:
    """Return the expected calibration error: mean |share right - mean confidence| of equal-width bins, by size."""
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
    """A threshold: utterances at least as confident have a mean error of at most `bound`, with chance 1 - `delta`."""

    threshold: float | None  # None: the reviewed utterances support no threshold
    bound: float
    delta: float
    share: float  # share of the reviewed utterances at or above the threshold
    error: float | None  # their mean error
    reviewed: int
    high: float | None = None  # upper confidence bound of their mean error, at 1 - `delta`


def promise(confidence: Sequence[float], errors: Sequence[float], bound: float, delta: float = 0.05) -> Promise:
    """Return the lowest threshold for which the mean error of the accepted utterances is shown to be below `bound`.

    Thresholds are tested from the highest down, each at level `delta`, until the first that fails. The order is fixed
    beforehand, so the chance that the chosen threshold exceeds the bound is at most `delta`. The utterances must have
    been sampled with equal probability.

    Args:
        confidence: (n,) of the reviewed utterances.
        errors: (n,) of each, 0..1: edits over words, at most 1.
        bound: largest mean error of the accepted utterances.
        delta: largest chance that the bound does not hold.
    """
    values, wrong = np.asarray(confidence, float), np.clip(np.asarray(errors, float), 0.0, 1.0)
    chosen: float | None = None
    if len(values) >= LEAST and 0 < bound < 1:
        grid = np.unique(np.quantile(values, np.linspace(0, 1, STEPS + 1)[:-1]))[::-1]
        least = FIRST * _least(bound, delta)
        for threshold in grid.tolist():
            mine = values >= threshold
            if mine.sum() < least:
                continue  # one error among so few would fail the test; this depends on counts only, so it is fixed too
            if not _below(wrong[mine], bound, delta):
                break
            chosen = threshold
    accepted = values >= chosen if chosen is not None else np.zeros(len(values), bool)
    error = float(wrong[accepted].mean()) if accepted.any() else None
    share = float(accepted.mean()) if len(values) else 0.0
    high = _most(wrong[accepted], delta) if accepted.any() else None
    return Promise(chosen, bound, delta, share, error, len(values), high)


def _most(errors: Values, delta: float) -> float:
    """Return the upper confidence bound of a mean at 1 - `delta`, by bisection of the test."""
    low, high = float(errors.mean()), 1.0
    for _ in range(12):
        middle = (low + high) / 2
        if middle < 1 and _below(errors, middle, delta):
            high = middle
        else:
            low = middle
    return high


def _least(bound: float, delta: float) -> int:
    """Return how many utterances without an error the test needs to show that the mean is below `bound`."""
    gains = np.log1p(np.array(BETS) * bound / (1.0 - bound))
    count = math.ceil(math.log(1 / delta) / float(gains.max()))  # fewer cannot suffice even at the best bet
    while np.logaddexp.reduce(count * gains) - math.log(len(BETS)) < math.log(1 / delta):
        count += 1
    return count


def _below(errors: Values, bound: float, delta: float) -> bool:
    """Whether the hypothesis "the mean error is `bound` or more" is rejected at level `delta`.

    The evidence is the mean wealth of the `BETS` (Waudby-Smith & Ramdas, 2023), whatever the order of the errors.
    """
    gains = (bound - errors) / (1.0 - bound)
    wealth = [np.log1p(bet * gains).sum() for bet in BETS]
    return float(np.logaddexp.reduce(wealth)) - math.log(len(BETS)) >= math.log(1 / delta)
