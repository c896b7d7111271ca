"""How much healthy traffic varies from hour to hour, as far as a reference of some hours tells.

Values of one hour are alike: the same people speak, the load is the same. So an hour's mean differs from that of the
whole reference by more than the number of its values tells, and a detector that counts values alone rings at every hour
of the day. The standard deviation of the true means of hours is estimated by the method of moments: the variance
of the observed means, less what is due to the values within each (one-way random effects; Searle, Casella and
McCulloch, "Variance Components", 1992, chapter 3).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, pvariance

from speechpipe.monitor.profiles import is_watched
from speechpipe.monitor.reference import Reference
from speechpipe.monitor.spec import CascadeSpec, Metric, MetricKind
from speechpipe.monitor.windows import Group, Window

HOUR_S = 3_600

LEAST_HOURS = 6
"""Hours that a reference needs."""

LEAST_VALUES = 20
"""Values that an hour needs to count."""

Sums = tuple[int, float, float]
"""Count, sum and sum of squares of an hour's values."""


class Wobbles:
    """The wobbles of pinned references, computed once for each. Used on the watcher's thread."""

    def __init__(self, spec: CascadeSpec, windows: Callable[[Group, float, float], Sequence[Window]]) -> None:
        """Read the windows of a group between two times (unix seconds) by `windows`."""
        self._metrics = [metric for metric in spec.metrics if is_watched(metric)]
        self._windows = windows
        self._known: dict[int, Mapping[str, float]] = {}

    def of(self, pinned: Mapping[Group, Reference]) -> Mapping[int, Mapping[str, float]]:
        """Return the wobbles by reference and metric, as `wobbles` does.

        Raises:
            SQLAlchemyError, OSError: the store cannot be read.
        """
        self._known = {one.id: self._of(one) for one in pinned.values()}
        return self._known

    def _of(self, reference: Reference) -> Mapping[str, float]:
        if reference.id in self._known:
            return self._known[reference.id]
        if reference.until - reference.since < LEAST_HOURS * HOUR_S:
            return {}
        return wobbles(self._metrics, self._windows(reference.group, reference.since, reference.until))


def wobbles(metrics: Iterable[Metric], windows: Iterable[Window]) -> dict[str, float]:
    """Return the standard deviation of the hours' means of each metric, in standard deviations of one value.

    Of a share: of the log odds. A metric that does not vary, or is known in too few hours, is left out.
    """
    hours: dict[str, dict[int, Sums]] = {}
    for window in windows:
        hour = int(window.start // HOUR_S)
        for name, found in window.metrics.items():
            count, total, squares = hours.setdefault(name, {}).get(hour, (0, 0.0, 0.0))
            hours[name][hour] = count + found.count, total + found.total, squares + found.squares
    result = {}
    for metric in metrics:
        mine = [one for one in hours.get(metric.name, {}).values() if one[0] >= LEAST_VALUES]
        if len(mine) >= LEAST_HOURS:
            between = _of_share(mine) if metric.value_kind is MetricKind.SHARE else _of_real(mine)
            if between > 0:
                result[metric.name] = between
    return result


def _of_real(hours: Sequence[Sums]) -> float:
    count, total, squares = (sum(hour[place] for hour in hours) for place in range(3))
    variance = squares / count - (total / count) ** 2
    if variance <= 0:
        return 0.0
    within = fmean(max(0.0, s / n - (t / n) ** 2) / n for n, t, s in hours)
    between = pvariance([t / n for n, t, _ in hours]) * len(hours) / (len(hours) - 1) - within
    return math.sqrt(max(0.0, between) / variance)


def _of_share(hours: Sequence[Sums]) -> float:
    odds = [math.log((t + 0.5) / (n - t + 0.5)) for n, t, _ in hours if 0 <= t <= n]
    within = fmean(1 / (t + 0.5) + 1 / (n - t + 0.5) for n, t, _ in hours if 0 <= t <= n)
    if len(odds) < LEAST_HOURS:
        return 0.0
    return math.sqrt(max(0.0, pvariance(odds) * len(odds) / (len(odds) - 1) - within))
