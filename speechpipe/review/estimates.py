"""Word error rates from a sample of reviews: unbiased, whatever the chance of being reviewed was.

Hajek's ratio estimator (Sarndal, Swensson & Wretman, 1992, ch. 5): every review counts for one over its chance. The
interval is by linearisation, with a t quantile on the effective number of reviews.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEAST_CHANCE = 1e-4


@dataclass(frozen=True)
class Reviewed:
    """One utterance that a person wrote down. `chance` is that with which it came to be reviewed."""

    edits: int
    words: int  # of the person's text
    chance: float = 1.0


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
    weights = 1 / np.maximum([one.chance for one in found], LEAST_CHANCE)
    edits = np.array([one.edits for one in found], float)
    words = np.array([one.words for one in found], float)
    total = float((weights * words).sum())
    if total <= 0:
        return Rate(None, 0.0, 1.0, len(found))
    value = float((weights * edits).sum()) / total
    if len(found) < 2:
        return Rate(value, 0.0, 1.0, 1)
    residuals = weights * (edits - value * words) / total
    effective = float(weights.sum()) ** 2 / float((weights**2).sum())
    # A share of the traffic was reviewed for sure: it adds no doubt (finite population).
    doubt = 1 - np.array([one.chance for one in found])
    variance = float((residuals**2 * np.maximum(doubt, 0.0)).sum()) * len(found) / (len(found) - 1)
    half = _t(effective - 1) * math.sqrt(max(variance, 0.0))
    return Rate(value, max(0.0, value - half), value + half, len(found))


def _t(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's t, by Cornish and Fisher's expansion; wide below 3 degrees."""
    z, n = 1.959964, max(freedom, 1.5)
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)


def by(found: Mapping[str, Sequence[Reviewed]]) -> dict[str, Rate]:
    """Return the rate of each group."""
    return {name: word_error_rate(mine) for name, mine in found.items()}
