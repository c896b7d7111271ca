"""The onset of a change: the split of the cases that the likelihood ratio favours, not the time of the alarm.

The likelihood ratio of one shift of the mean at an unknown point (Hinkley, "Inference about the change-point in a
sequence of random variables", Biometrika 57, 1970) is computed for each metric. The largest gain decides.
"""

import numpy as np

from speechpipe.monitor.blame.normal import WINSOR, Matrix, Normal
from speechpipe.monitor.cases import Cases
from speechpipe.monitor.spec import MetricKind

MOST_SHARE = 8.0
LEAST_AFTER = 20
"""The fewest cases after an onset."""

LEAST_GAIN = 10.0
"""Log-likelihood that a split must gain; smaller gains are noise over the points and metrics that are tried."""


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


def onset(normal: Normal, cases: Cases) -> int | None:
    """Return the index of the first case after the change; None if there is no change, 0 if it precedes all cases."""
    count, before = len(cases), len(normal.cases)
    if count < LEAST_AFTER:
        return None
    sums = np.cumsum(scores(normal, cases), axis=0)
    splits = np.arange(before, before + count - LEAST_AFTER + 1)
    then = sums[splits - 1] / splits[:, None]
    lengths = (before + count - splits)[:, None]
    now = (sums[-1] - sums[splits - 1]) / lengths
    gains = (splits[:, None] * lengths / (before + count)) * (now - then) ** 2 / 2.0
    best = int(np.argmax(gains.max(axis=1)))
    return best if gains[best].max() >= LEAST_GAIN else None
