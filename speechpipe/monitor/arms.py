"""Comparison of arms: the key metrics of each bundle on each arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from speechpipe.foundation.stats.sketch import Distribution
from speechpipe.monitor.spec import CascadeSpec, Metric, MetricKind
from speechpipe.monitor.windows import Window


@dataclass(frozen=True)
class ArmRow:
    """A bundle on an arm. `values` holds its key metrics by name, None where there are no values."""

    bundle: str
    arm: str
    sessions: int
    units: int
    null_share: float | None
    values: Mapping[str, float | None]


def arms(spec: CascadeSpec, windows: Sequence[Window], seconds: float) -> tuple[ArmRow, ...]:
    """Return one row for each bundle and arm with traffic. `seconds` is the length of the period."""
    found: dict[tuple[str, str], Window] = {}
    for window in windows:
        group = window.group
        if group.bundle:
            found.setdefault((group.bundle, group.arm), Window(0, group, 0)).merge(window)
    key = [metric for metric in spec.metrics if metric.key and metric.kind != "system"]
    rows = []
    for (bundle, arm), window in sorted(found.items()):
        units = sum(window.outcomes.values())
        nulls = units - window.outcomes.get("ok", 0)
        values = {metric.name: value_of(metric, window.get(metric.name), seconds) for metric in key}
        rows.append(ArmRow(bundle, arm, window.sessions, units, nulls / units if units else None, values))
    return tuple(rows)


def value_of(metric: Metric, known: Distribution, seconds: float) -> float | None:
    """Return the figure shown for a metric over `seconds`: its mean, share, sum, or rate (units that end in /s)."""
    if metric.value_kind is MetricKind.SUM:
        if not known.count:
            return None
        return known.total / max(seconds, 1.0) if metric.unit.endswith("/s") else known.total
    if metric.late and known.count:
        return min(1.0, known.total / known.count)
    return known.mean
