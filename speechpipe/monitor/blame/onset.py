"""Since when? The change point is where splitting the cases explains the most, not where the alarm rang.

The likelihood ratio of one shift of the mean at an unknown point (Hinkley, "Inference about the change-point in a
sequence of random variables", Biometrika 57, 1970), for each metric; the metric that gains most says when.
"""

import numpy as np

from speechpipe.monitor.blame.normal import WINSOR, Matrix, Normal
from speechpipe.monitor.cases import Cases
from speechpipe.monitor.spec import MetricKind

MOST_SHARE = 8.0
LEAST_AFTER = 20
"""A shift is at least so many cases old before it is looked for."""

LEAST_GAIN = 10.0
"""Log-likelihood that a change must win; less is noise over all the points and metrics that are tried."""


def scores(normal: Normal, cases: Cases) -> Matrix:
    """Return (reference + cases, metrics) residuals in standard deviations, real ones winsorised; 0 where unknown.

    The reference goes first: it is what was before, whatever the cases begin with.
    """
    columns = []
    for known in normal.metrics:
        if known.metric.mix:
            continue
        spread, most = known.spread, WINSOR
        if known.metric.value_kind is MetricKind.SHARE:
            spread = max(spread, (1.0 / max(len(normal.cases), 1)) ** 0.5)  # what was never seen may be seen once
            most = MOST_SHARE
        values = np.concatenate([known.residuals, normal.residuals(cases, known)]) / spread
        columns.append(np.clip(np.where(np.isfinite(values), values, 0.0), -most, most))
    return np.stack(columns, axis=1)


def onset(normal: Normal, cases: Cases) -> int | None:
    """Return the first case after the change; None if there was none, or if it was before all of them."""
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
