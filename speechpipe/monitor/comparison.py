"""Comparison of a metric over a period with its reference: significance, size of the change, distances.

Used by the report only. Alarms come from the detectors, which see every value once; here a whole period is compared
whenever a report is requested.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

from speechpipe.foundation.stats.sketch import Distribution
from speechpipe.monitor.spec import Direction, Metric, MetricKind

SURE = 4.0
"""Standard errors: about one in ten thousand by chance, because a report compares some fifty metrics."""

LEAST_COUNT = 20
MATTERS_SIGMA = 0.3
FAILS_SIGMA = 3.0
MATTERS_SHARE, MATTERS_RATIO = 0.02, 1.5
FAILS_SHARE, FAILS_RATIO = 0.3, 5.0
BINS = 10
FLOOR = 1e-4
"""The smallest share of a bin, because the PSI of an empty bin would be infinite."""


class Grade(IntEnum):
    """The state of a metric, stage or cascade; the highest of its parts counts."""

    NO_DATA = 0
    OK = 1
    NOT_WATCHED = 2  # there is traffic, and no reference to compare it with
    DEGRADED = 3
    FAILING = 4

    @property
    def label(self) -> str:
        """The grade as it is displayed."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True)
class Drift:
    """Distances between two distributions; None for shares, whose difference is enough."""

    psi: float | None  # population stability index over the reference's deciles
    jensen_shannon: float | None  # divergence in bits, 0..1, over the same bins
    wasserstein: float | None  # in standard deviations of the reference


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of comparing one metric of one group."""

    grade: Grade
    change: float | None = None  # in the metric's unit
    reason: str = ""


def sigma(reference: Distribution) -> float:
    """Return a robust standard deviation: from the interquartile range where possible."""
    if reference.sketched:
        low, high = reference.quantiles([0.25, 0.75])
        if high > low:
            return (high - low) / 1.349
    return reference.deviation


def compare(metric: Metric, current: Distribution, reference: Distribution | None) -> Comparison:
    """Compare a period with its reference; without one (None), only the metric's fixed limit is watched."""
    if not current.count or current.mean is None:
        return Comparison(Grade.NO_DATA)
    if metric.limit is not None and (crossed := _limit(metric, current)) is not None:
        return crossed
    if reference is None or reference.mean is None or metric.value_kind is MetricKind.SUM:
        compared = reference is not None or metric.value_kind is MetricKind.SUM
        return Comparison(Grade.OK if compared else Grade.NOT_WATCHED)
    change = current.mean - reference.mean
    few = current.count < LEAST_COUNT or reference.count < LEAST_COUNT
    if few or not _worse(metric, change) or metric.mix:  # the mix explains other metrics and is no fault by itself
        return Comparison(Grade.OK, change)
    grade = _share(current, reference) if metric.value_kind is MetricKind.SHARE else _real(metric, current, reference)
    if grade is Grade.OK:
        return Comparison(grade, change)
    way = "rose" if change > 0 else "fell"
    reason = f"{metric.help} {way} from {reference.mean:.4g} to {current.mean:.4g} {metric.unit}".rstrip()
    return Comparison(grade, change, reason)


def _worse(metric: Metric, change: float) -> bool:
    return metric.direction is Direction.BOTH or (change > 0) == (metric.direction is Direction.UP)


def _limit(metric: Metric, current: Distribution) -> Comparison | None:
    assert metric.limit is not None
    if metric.value_kind is MetricKind.SUM and metric.limit:
        return None  # a count of the last minutes, not of a period of any length: the alarm says it
    value = current.total if metric.value_kind is MetricKind.SUM else current.total / current.count
    beyond = value < metric.limit if metric.direction is Direction.DOWN else value > metric.limit
    if not beyond or (metric.limit != 0 and current.count < LEAST_COUNT):
        return None
    reason = f"{metric.help}: {value:.4g} {metric.unit}".rstrip()
    return Comparison(Grade.FAILING, None, f"{reason}, limit {metric.limit:.4g}")


def _share(current: Distribution, reference: Distribution) -> Grade:
    before, now = reference.total / reference.count, current.total / current.count
    pooled = (reference.total + current.total) / (reference.count + current.count)
    error = math.sqrt(max(pooled * (1 - pooled), 1e-12) * (1 / reference.count + 1 / current.count))
    change, ratio = abs(now - before), max(now, FLOOR) / max(before, FLOOR)
    ratio = max(ratio, 1 / ratio)
    if change < SURE * error or change < MATTERS_SHARE or ratio < MATTERS_RATIO:
        return Grade.OK if change < SURE * error or change < 5 * MATTERS_SHARE else Grade.DEGRADED
    return Grade.FAILING if change >= FAILS_SHARE and ratio >= FAILS_RATIO else Grade.DEGRADED


def _real(metric: Metric, current: Distribution, reference: Distribution) -> Grade:
    spread = max(sigma(reference), 1e-12)
    error = max(spread, reference.deviation) * math.sqrt(1 / reference.count + 1 / current.count)
    change = abs(current.total / current.count - reference.total / reference.count)
    if change < SURE * error or change < max(metric.least, MATTERS_SIGMA * spread):
        return Grade.OK
    return Grade.FAILING if change >= max(FAILS_SIGMA * spread, 2 * metric.least) else Grade.DEGRADED


def drift(current: Distribution, reference: Distribution | None) -> Drift:
    """Return the distances between two distributions."""
    if reference is None or not (current.sketched and reference.sketched):
        return Drift(None, None, None)
    edges = sorted(set(reference.quantiles([step / BINS for step in range(1, BINS)])))
    before = [max(share, FLOOR) for share in reference.histogram(edges)]
    now = [max(share, FLOOR) for share in current.histogram(edges)]
    psi = sum((b - a) * math.log(b / a) for a, b in zip(before, now, strict=True))
    middle = [(a + b) / 2 for a, b in zip(before, now, strict=True)]
    jensen = sum(
        0.5 * (a * math.log2(a / m) + b * math.log2(b / m)) for a, b, m in zip(before, now, middle, strict=True)
    )
    grid = [(step + 0.5) / 100 for step in range(100)]
    apart = [abs(x - y) for x, y in zip(current.quantiles(grid), reference.quantiles(grid), strict=True)]
    spread = sigma(reference)
    return Drift(psi, max(0.0, jensen), sum(apart) / len(apart) / spread if spread > 0 else None)
