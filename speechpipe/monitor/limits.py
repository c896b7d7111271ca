"""Fixed limits of metrics, which hold without a reference, such as audio that is unaccounted for.

A limit must be crossed in a long window and in a short one at its end: the long one keeps single events quiet, the
short one ends the alarm soon after they have ended (Beyer et al., "The Site Reliability Workbook", 2018, chapter 5).
"""

from collections.abc import Sequence

from speechpipe.monitor.alarms import Condition
from speechpipe.monitor.profiles import profile_of
from speechpipe.monitor.spec import CascadeSpec, Direction, Metric, MetricKind
from speechpipe.monitor.windows import Group, Window

LEAST_VALUES = 20
"""Values that a share or mean needs before it is compared, unless its limit is 0."""
HOLD_S = 60.0
"""How long a limit must be crossed before its alarm fires, unless the limit is 0."""
RECENT_S, LEAST_RECENT = 240.0, 10
"""The short window: with whole minutes it holds the last three minutes at least. The values that it needs."""
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
            recent = [one for one in mine if one.start > now - RECENT_S]
            for metric in self._metrics:
                condition = crossed(metric, mine, group)
                if condition is not None and _goes_on(metric, recent, RECENT_S / length_s):
                    found.append(condition)
        return found


def _goes_on(metric: Metric, recent: Sequence[Window], share: float) -> bool:
    """Whether a limit is still crossed in the last windows, whose time is this share of all; unknown: it is.

    What must never happen is told for the whole time, also by a watcher that reads it late.
    """
    count, total = _sums(metric, recent)
    assert metric.limit is not None
    if metric.limit == 0:
        return True
    if metric.value_kind is MetricKind.SUM:
        return total > metric.limit * min(share, 1.0)
    if count < LEAST_RECENT:
        return True
    return _is_beyond(metric, total / count)


def _sums(metric: Metric, windows: Sequence[Window]) -> tuple[int, float]:
    """Return the number of values and their sum. The sketches are not merged: this is done at every tick."""
    parts = [part for window in windows if (part := window.metrics.get(metric.name)) is not None]
    return sum(part.count for part in parts), sum(part.total for part in parts)


def _is_beyond(metric: Metric, value: float) -> bool:
    assert metric.limit is not None
    return value < metric.limit if metric.direction is Direction.DOWN else value > metric.limit


def crossed(metric: Metric, windows: Sequence[Window], group: Group) -> Condition | None:
    """Return the condition if a metric has crossed its limit in these windows together, else None."""
    count, total = _sums(metric, windows)
    if metric.limit is None or count == 0:
        return None
    value = total if metric.value_kind is MetricKind.SUM else total / count
    if metric.value_kind is not MetricKind.SUM and metric.limit != 0 and count < LEAST_VALUES:
        return None
    if not _is_beyond(metric, value):
        return None
    low = metric.direction is Direction.DOWN
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
