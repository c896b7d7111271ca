"""Fixed limits of metrics, which hold without a reference, such as audio that is unaccounted for."""

from collections.abc import Sequence

from speechpipe.monitor.alarms import Condition
from speechpipe.monitor.profiles import profile_of
from speechpipe.monitor.spec import CascadeSpec, Direction, Metric, MetricKind
from speechpipe.monitor.windows import Group, Window

LEAST_VALUES = 20
"""Values that a share or mean needs before it is compared, unless its limit is 0."""
HOLD_S = 60.0
"""How long a limit must be crossed before its alarm fires, unless the limit is 0."""
MOST_S = 900.0
"""The longest time that a profile looks back."""


class LimitWatch:
    """Holds the windows of the last minutes and compares them with the limits."""

    def __init__(self, spec: CascadeSpec, windows: Sequence[Window] = ()) -> None:
        self._metrics = [metric for metric in spec.metrics if metric.limit is not None]
        self._windows = list(windows)

    @property
    def windows(self) -> Sequence[Window]:
        """The windows of the last `MOST_S` seconds, at the last call of `conditions`."""
        return self._windows

    def take(self, windows: Sequence[Window]) -> None:
        """Add newly aggregated windows."""
        self._windows += windows

    def conditions(self, now: float) -> list[Condition]:
        """Return a condition for each limit that is crossed now (unix seconds)."""
        self._windows = [window for window in self._windows if window.start > now - MOST_S]
        found: list[Condition] = []
        for group in sorted({window.group for window in self._windows}):
            length_s = profile_of(group.tenant_class).limit_window_s
            mine = [one for one in self._windows if one.group == group and one.start > now - length_s]
            found += [c for metric in self._metrics if (c := crossed(metric, mine, group)) is not None]
        return found


def crossed(metric: Metric, windows: Sequence[Window], group: Group) -> Condition | None:
    """Return the condition if a metric has crossed its limit in these windows together, else None."""
    # Sums only: this is done at every tick, and to merge the sketches takes most of it.
    parts = [part for window in windows if (part := window.metrics.get(metric.name)) is not None]
    count, total = sum(part.count for part in parts), sum(part.total for part in parts)
    if metric.limit is None or count == 0:
        return None
    value = total if metric.value_kind is MetricKind.SUM else total / count
    if metric.value_kind is not MetricKind.SUM and metric.limit != 0 and count < LEAST_VALUES:
        return None
    low = metric.direction is Direction.DOWN
    if (value >= metric.limit) if low else (value <= metric.limit):
        return None
    reason = f"{metric.help} is {'below' if low else 'above'} its limit: {value:.4g} {metric.unit}".rstrip()
    return Condition(
        "limit",
        metric.name,
        metric.stage,
        "page",
        group.label,
        reason + f", limit {metric.limit:.4g}",
        value=value,
        expected=metric.limit,
        for_s=0.0 if metric.limit == 0 else HOLD_S,
    )
