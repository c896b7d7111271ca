"""The changes in a run of cases: where the likelihood ratio favours a split, not when an alarm fired.

The likelihood ratio of one shift of the mean at an unknown point (Hinkley, "Inference about the change-point in a
sequence of random variables", Biometrika 57, 1970) is computed for each metric; the largest gain decides. What lies on
either side of a split is split again (binary segmentation; Scott and Knott, Biometrics 30, 1974), so that faults which
follow each other, overlap or come back are told apart.
"""

import numpy as np

from speechpipe.monitor.blame.normal import WINSOR, Matrix, Normal
from speechpipe.monitor.cases import Cases
from speechpipe.monitor.spec import MetricKind

MOST_SHARE = 8.0
LEAST_AFTER = 20
"""The fewest cases after a change, and between two."""

LEAST_GAIN = 10.0
"""Log-likelihood that a split must gain; smaller gains are noise over the points and metrics that are tried."""

MOST_CHANGES = 32


def scores(normal: Normal, cases: Cases) -> Matrix:
    """Return (reference + cases, metrics) residuals in standard deviations, winsorised; 0 where unknown.

    The reference comes first, so that a change before the first case is recognised as such.
    """
    columns = []
    for known in normal.metrics:
        if known.metric.mix:
            continue
        spread, most = known.spread, WINSOR
        if known.metric.value_kind is MetricKind.SHARE:
            spread = max(spread, (1.0 / max(len(normal.cases), 1)) ** 0.5)  # a single event is possible
            most = MOST_SHARE
        values = np.concatenate([known.residuals, normal.residuals(cases, known)]) / spread
        columns.append(np.clip(np.where(np.isfinite(values), values, 0.0), -most, most))
    return np.stack(columns, axis=1)


def changes(normal: Normal, cases: Cases) -> list[int]:
    """Return the indices of the first cases after each change, ascending; 0 is a change before all cases."""
    count, before = len(cases), len(normal.cases)
    if count < LEAST_AFTER:
        return []
    rows = scores(normal, cases)
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0)])
    squares = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows**2, axis=0)])
    found: list[int] = []
    waiting = [(0, before + count)]
    while waiting and len(found) < MOST_CHANGES:
        first, last = waiting.pop()
        split = _split(sums, squares, first, last, before)
        if split is not None:
            found.append(split - before)
            waiting += [(first, split), (split, last)]
    return sorted(found)


def _split(sums: Matrix, squares: Matrix, first: int, last: int, before: int) -> int | None:
    """Return where the rows from `first` to `last` are best split, not within the reference; None if nowhere.

    The scores of the whole have the reference's variance, 1 or less. Cases of a fault may vary more, so what a split
    of a part gains is measured in the variance that remains.
    """
    low = before if first < before else first + LEAST_AFTER
    splits = np.arange(low, last - LEAST_AFTER + 1)
    if not len(splits):
        return None
    left, right = (splits - first)[:, None], (last - splits)[:, None]
    then, now = sums[splits] - sums[first], sums[last] - sums[splits]
    gains = (left * right / (last - first)) * (now / right - then / left) ** 2 / 2.0
    if first:
        within = (squares[last] - squares[first]) - then**2 / left - now**2 / right
        gains /= np.maximum(within / (last - first), 1.0)
    best = int(np.argmax(gains.max(axis=1)))
    return int(splits[best]) if gains[best].max() >= LEAST_GAIN else None
