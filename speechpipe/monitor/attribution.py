"""Attribution of an alarm to a single tenant."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.alarms import Alarm, Condition
from speechpipe.monitor.spec import CascadeSpec, Direction, Metric

BEFORE_S = 900.0
"""Records are read from this long before an alarm, because it begins some time after the change that caused it."""

MOST = 5000
"""At most this many of the newest records are read."""
LEAST_OTHERS = 20
"""Values that the other tenants must have together before they are compared."""


def source(spec: CascadeSpec, store: Store, alarm: Alarm, now: float) -> str:
    """Return the tenant without whose sessions the alarm would not hold, or an empty string.

    The string is empty if other tenants are affected too, and if the group has only one tenant.

    Raises:
        SQLAlchemyError, OSError: the store cannot be read.
    """
    condition = alarm.condition
    metric = next((metric for metric in spec.metrics if metric.name == condition.metric), None)
    label = condition.group.split()
    bundle = next((part for part in label if "@" in part), "")
    if metric is None or not bundle:
        return ""
    name, _, version = bundle.partition("@")
    found = store.latest(MOST, alarm.pending_at - BEFORE_S, now + 1, name, version)
    values = _by_tenant(metric, [record for record in found if {record.channel, record.arm} <= set(label)])
    if len(values) < 2:
        return ""
    counts = {tenant: len(mine) for tenant, mine in values.items()}
    overall = _mean(values.values())
    first = max(counts, key=lambda tenant: abs(overall - _mean(_without(values, tenant))))
    others = _without(values, first)
    if sum(map(len, others)) < LEAST_OTHERS:  # too few values to compare with
        return first if counts[first] >= LEAST_OTHERS else ""
    return "" if _stands(condition, metric, overall, _mean(others)) else first


def _by_tenant(metric: Metric, records: Iterable[Record]) -> Mapping[str, Sequence[float]]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for record in records:
        if (value := metric.read(record)) is not None:
            found[record.tenant].append(float(value))
    return found


def _without(values: Mapping[str, Sequence[float]], tenant: str) -> list[Sequence[float]]:
    return [mine for name, mine in values.items() if name != tenant]


def _mean(parts: Iterable[Sequence[float]]) -> float:
    found = [value for part in parts for value in part]
    return sum(found) / len(found) if found else 0.0


def _stands(condition: Condition, metric: Metric, overall: float, others: float) -> bool:
    """Whether the alarm would still hold with the sessions of the other tenants alone."""
    if condition.rule == "limit" and metric.limit is not None:
        return others < metric.limit if metric.direction is Direction.DOWN else others > metric.limit
    if condition.expected is None:
        return True
    return abs(others - condition.expected) >= abs(overall - condition.expected) / 2
