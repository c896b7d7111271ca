"""Windows: the records of one group over a period, aggregated to a distribution for each metric.

Windows are additive: two of the same period and group can be merged. So they are written as records come, and merged
when they are read or compacted.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from speechpipe.foundation.stats.sketch import Distribution
from speechpipe.foundation.storage.record import Record
from speechpipe.monitor.spec import CascadeSpec, Metric, MetricKind

WIDTH_S = 60
MAX_TENANTS = 50
"""At most this many enterprise tenants have groups of their own."""
OTHER_TENANTS = "(other)"
"""The tenant of the group that the remaining enterprises share."""


class Group(NamedTuple):
    """What is watched separately. `tenant` is empty for consumers, who are watched as a class."""

    tenant_class: str
    tenant: str
    channel: str
    bundle: str  # name@version
    arm: str

    @property
    def label(self) -> str:
        """The group's parts in one string, for display."""
        return " ".join(part for part in self if part) or "server"


SERVER = Group("", "", "", "", "")
"""The group of the server's own records."""


def all_traffic(bundle: str, arm: str) -> Group:
    """Return the group that stands for all traffic of a bundle on an arm. No record and no window belongs to it."""
    return Group("", "", "", bundle, arm)


UNSERVED = "shadow"
"""The arm whose results no client received: left out of totals and alarms."""


class Grouping:
    """Assigns records to groups. The first `most` enterprise tenants have groups of their own, the others share one.

    The store keeps which ones those are: `known` are from earlier, `fresh` have been added since.
    """

    def __init__(self, most: int = MAX_TENANTS, known: Iterable[str] = ()) -> None:
        self._most = most
        self._tenants = set(known)
        self.fresh: list[str] = []

    def forget_fresh(self) -> None:
        """Note that those in `fresh` are in the store now."""
        self.fresh = []

    def group(self, record: Record) -> Group:
        """Return the group of a record."""
        if record.kind == "system":
            return SERVER
        tenant = ""
        if record.tenant_class == "enterprise":
            tenant = record.tenant
            if tenant not in self._tenants:
                if len(self._tenants) < self._most:
                    self._tenants.add(tenant)
                    self.fresh.append(tenant)
                else:
                    tenant = OTHER_TENANTS
        bundle = f"{record.bundle}@{record.bundle_version}"
        return Group(record.tenant_class, tenant, record.channel, bundle, record.arm)


@dataclass
class Window:
    """An aggregate of one period and group. `outcomes` counts units by outcome."""

    start: int
    group: Group
    width_s: int = WIDTH_S
    records: int = 0
    sessions: int = 0
    metrics: dict[str, Distribution] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)

    @property
    def units(self) -> int:
        """The number of units."""
        return sum(self.outcomes.values())

    def merge(self, other: "Window") -> None:
        """Add another window of the same group."""
        self.records += other.records
        self.sessions += other.sessions
        for name, distribution in other.metrics.items():
            mine = self.metrics.get(name)
            if mine is None:
                self.metrics[name] = mine = Distribution()
            mine.merge(distribution)
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count

    def get(self, name: str) -> Distribution:
        """Return the distribution of a metric, empty if there is none."""
        return self.metrics.get(name) or Distribution()


def reading(metric: Metric, record: Record) -> float | None:
    """Return the value of `metric` in `record`; None if it has none, or none that is a finite number."""
    if record.kind not in (metric.kind, metric.late):
        return None
    try:
        value = metric.read(record)
        return value if value is not None and math.isfinite(value) else None
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError):
        return None


def aggregate(spec: CascadeSpec, records: Iterable[Record], grouping: Grouping, width_s: int = WIDTH_S) -> list[Window]:
    """Return the windows that aggregate these records."""
    values: dict[tuple[int, Group], dict[str, list[float]]] = {}
    late: dict[tuple[int, Group], dict[str, float]] = {}
    windows: dict[tuple[int, Group], Window] = {}
    by_kind = metrics_by_kind(spec)
    for record in records:
        start = int(record.at // width_s) * width_s
        key = (start, grouping.group(record))
        window = windows.get(key)
        if window is None:
            window = windows[key] = Window(start, key[1], width_s)
            values[key], late[key] = {}, {}
        window.records += 1
        window.sessions += record.kind == "session"
        if record.kind == "unit":
            window.outcomes[record.outcome] = window.outcomes.get(record.outcome, 0) + 1
        for metric in by_kind.get(record.kind, ()):
            value = reading(metric, record)
            if value is None:
                continue
            if record.kind == metric.late:
                late[key][metric.name] = late[key].get(metric.name, 0.0) + value
            else:
                values[key].setdefault(metric.name, []).append(value)
    kinds = {metric.name: metric.value_kind for metric in spec.metrics}
    for key, window in windows.items():
        for name, found in values[key].items():
            window.metrics[name] = Distribution.of(found, shape_only=kinds[name] is not MetricKind.REAL)
        for name, total in late[key].items():
            window.metrics.setdefault(name, Distribution()).add_to_total(total)
    return list(windows.values())


def metrics_by_kind(spec: CascadeSpec) -> Mapping[str, list[Metric]]:
    """Return the metrics that are read from each kind of record."""
    found: dict[str, list[Metric]] = {}
    for metric in spec.metrics:
        for kind in {metric.kind, metric.late} - {""}:
            found.setdefault(kind, []).append(metric)
    return found


def merged(windows: Iterable[Window], width_s: int | None = None) -> list[Window]:
    """Merge windows of the same group, in periods of `width_s` or (None) over all time; sorted by time."""
    found: dict[tuple[int, Group], Window] = {}
    for window in windows:
        start = window.start // width_s * width_s if width_s else 0
        mine = found.get((start, window.group))
        if mine is None:
            mine = found[start, window.group] = Window(start, window.group, width_s or 0)
        mine.merge(window)
    return sorted(found.values(), key=lambda window: (window.start, window.group))


def merge_all(windows: Iterable[Window]) -> Window:
    """Merge windows of all groups and times into one."""
    found = Window(0, SERVER, 0)
    for window in windows:
        found.merge(window)
    return found
