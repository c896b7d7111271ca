"""Word error rates from a sample of reviews: unbiased, whatever the chance of being reviewed was.

Hajek's ratio estimator (Sarndal, Swensson & Wretman, 1992, ch. 5): every review counts for one over its chance. The
interval is by linearisation over sessions with the leverage correction CR3, and Satterthwaite's degrees of freedom
(Bell & McCaffrey, Survey Methodology 28, 2002): where a few long recordings hold most of the words it must be wide.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEAST_CHANCE = 1e-4

MOST_LEVERAGE = 0.9
"""Where one session holds more of the words than this, nothing is known."""


@dataclass(frozen=True)
class Reviewed:
    """What a person wrote down of one segment. `chance`: with which it was drawn; `session`: what was drawn at once."""

    edits: int
    words: int  # of the person's text
    chance: float = 1.0
    session: str = ""  # empty: for itself


@dataclass(frozen=True)
class Rate:
    """Word errors a word, with a 95 % interval."""

    value: float | None
    low: float
    high: float
    reviewed: int


def word_error_rate(found: Sequence[Reviewed]) -> Rate:
    """Return the rate of all traffic from those that were reviewed."""
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
    # No correction for a finite population: what is asked is how good the cascade is, not how good it was.
    variance = float(((residuals / (1 - leverage)) ** 2).sum())
    freedom = float((leverage**2).sum()) ** 2 / float((leverage**4).sum())
    half = _t(freedom) * math.sqrt(variance)
    return Rate(value, max(0.0, value - half), value + half, len(found))


def _t(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's t, by Cornish and Fisher's expansion; wide below 3 degrees."""
    z, n = 1.959964, max(freedom, 1.5)
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)


def by(found: Mapping[str, Sequence[Reviewed]]) -> dict[str, Rate]:
    """Return the rate of each group."""
    return {name: word_error_rate(mine) for name, mine in found.items()}
