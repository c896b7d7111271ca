"""Estimates of word error rates from a sample of reviews with unequal sampling chances.

Hajek's ratio estimator (Sarndal, Swensson & Wretman, 1992, ch. 5) weights each review by the inverse of its chance.
Intervals use linearisation over sessions with the leverage correction CR3 and Satterthwaite's degrees of freedom
(Bell & McCaffrey, Survey Methodology 28, 2002), so that they are wide if a few long recordings hold most words.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEAST_CHANCE = 1e-4

MOST_LEVERAGE = 0.9
"""If one session has more than this share of the words, the interval is as wide as possible."""


@dataclass(frozen=True)
class Reviewed:
    """The edits of one reviewed segment. `chance`: its sampling chance; `session`: the cluster it was sampled with."""

    edits: int
    words: int  # of the reviewer's text
    chance: float = 1.0
    session: str = ""  # empty: a cluster of its own


@dataclass(frozen=True)
class Rate:
    """Word errors divided by words, with a 95 % interval."""

    value: float | None
    low: float
    high: float
    reviewed: int


def word_error_rate(found: Sequence[Reviewed]) -> Rate:
    """Return the rate of all traffic, estimated from its reviewed part."""
    if not found:
        return Rate(None, 0.0, 1.0, 0)
    chances = np.maximum([one.chance for one in found], LEAST_CHANCE)
    edits = np.array([one.edits for one in found], float) / chances
    words = np.array([one.words for one in found], float) / chances
    total = float(words.sum())
    if total <= 0:
        return Rate(None, 0.0, 1.0, len(found))
    value = float(edits.sum()) / total
    names = [one.session or f" {number}" for number, one in enumerate(found)]
    _, of = np.unique(names, return_inverse=True)
    leverage = np.bincount(of, words) / total
    residuals = np.bincount(of, (edits - value * words) / total)
    if len(leverage) < 2 or leverage.max() > MOST_LEVERAGE:
        return Rate(value, 0.0, max(1.0, value), len(found))
    # No correction for a finite population: the estimate is of the cascade, not of this period's traffic.
    variance = float(((residuals / (1 - leverage)) ** 2).sum())
    freedom = float((leverage**2).sum()) ** 2 / float((leverage**4).sum())
    half = _t(freedom) * math.sqrt(variance)
    return Rate(value, max(0.0, value - half), value + half, len(found))


def _t(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's t by the Cornish-Fisher expansion, which is too wide below 3 degrees."""
    z, n = 1.959964, max(freedom, 1.5)
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)


def by(found: Mapping[str, Sequence[Reviewed]]) -> dict[str, Rate]:
    """Return the rate of each group."""
    return {name: word_error_rate(mine) for name, mine in found.items()}
