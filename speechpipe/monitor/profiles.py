"""Profiles of tenant classes: consumers drift slowly, enterprises change abruptly and announce it.

Operators set the false alarms a day. They are split evenly over all metrics of a severity and turned into an average
run length for each detector, given how many values a day it sees.
"""

from dataclasses import dataclass

from speechpipe.monitor.spec import Direction, Metric, MetricKind, Severity

DAY_S = 86_400.0
LEAST_RUN_LENGTH = 200.0
MOST_RUN_LENGTH = 1e8


@dataclass(frozen=True, slots=True)
class Profile:
    """`shift`: the change, in standard deviations, that detectors of real values are optimal for."""

    name: str
    per_tenant: bool
    shift: float
    limit_window_s: float  # how far fixed limits look back
    reference_units: int  # units that a proposed reference needs


CONSUMER = Profile("consumer", per_tenant=False, shift=0.5, limit_window_s=900.0, reference_units=500)
ENTERPRISE = Profile("enterprise", per_tenant=True, shift=1.0, limit_window_s=300.0, reference_units=200)


def profile_of(tenant_class: str) -> Profile:
    """Return the profile of a class of tenants."""
    return ENTERPRISE if tenant_class == "enterprise" else CONSUMER


@dataclass(frozen=True, slots=True)
class Budget:
    """Accepted false alarms a day by severity, over all detectors."""

    page: float = 0.1
    investigate: float = 1.0

    def run_length(self, severity: Severity, values_a_day: float, watched: int) -> float:
        """Return the average run length, in values, of each of `watched` detectors of a severity."""
        a_day = self.page if severity is Severity.PAGE else self.investigate
        length = values_a_day * max(watched, 1) / max(a_day, 1e-6)
        return min(max(length, LEAST_RUN_LENGTH), MOST_RUN_LENGTH)


def down_share(metric: Metric) -> float:
    """Return the share of a detector's weight that is on falling values."""
    return {Direction.UP: 0.0, Direction.DOWN: 1.0, Direction.BOTH: 0.5}[metric.direction]


def is_watched(metric: Metric) -> bool:
    """Whether a metric has a detector."""
    return metric.severity is not Severity.SHOWN and metric.value_kind is not MetricKind.SUM
