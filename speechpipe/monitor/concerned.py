"""Which sessions an incident concerns, and whose: how many show it, of which tenants, and some to look at."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from speechpipe.foundation.storage.record import Record
from speechpipe.monitor.alarms import Condition
from speechpipe.monitor.incidents import Incident
from speechpipe.monitor.spec import CascadeSpec
from speechpipe.monitor.windows import Grouping, reading

MOST_SESSIONS, MOST_TENANTS = 5, 3

MOST_OF, OFTENER, LEAST_OF_ONE = 0.6, 2.0, 5
"""A tenant stands out with so large a share of the sessions, so many times the others' rate of them, and so many."""

NEARER = 0.5
"""A value shows an alarm if it is nearer to the changed values than to those before."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """The sessions of one tenant: so many show the incident, of so many."""

    name: str
    sessions: int
    of: int


@dataclass(frozen=True, slots=True)
class Concerned:
    """The sessions since an incident began that show one of its alarms, of all with a value of that metric.

    That is its first alarm, or one of which a tenant stands out.
    """

    sessions: int = 0
    of: int = 0
    tenants: tuple[Tenant, ...] = ()  # those with the most of them first; empty if there is one tenant only
    examples: tuple[str, ...] = ()  # ids of the sessions that are farthest from what was expected, by all alarms

    @property
    def tenant(self) -> str:
        """The tenant that most of these sessions are of, and whose sessions show it more often than others'; or ""."""
        if not self.tenants:
            return ""
        first = self.tenants[0]
        others, of_others = self.sessions - first.sessions, self.of - first.of
        stands_out = first.sessions >= LEAST_OF_ONE and first.sessions * of_others >= OFTENER * others * first.of
        return first.name if stands_out and first.sessions >= MOST_OF * self.sessions else ""


def concerned(spec: CascadeSpec, incident: Incident, records: Sequence[Record], grouping: Grouping) -> Concerned:
    """Return which sessions an incident concerns. `records`: those since it began, or the newest of them."""
    by_metric: dict[str, list[Condition]] = {}
    for alarm in incident.alarms:
        by_metric.setdefault(alarm.condition.metric, []).append(alarm.condition)
    farthest: dict[str, float] = {}
    shows: dict[Condition, dict[str, bool]] = {alarm.condition: {} for alarm in incident.alarms}
    tenants: dict[str, str] = {}
    for record in records:
        if not record.session_id:
            continue
        group = grouping.group(record).label
        for name, conditions in by_metric.items():
            metric = spec.by_name.get(name)
            if metric is None or metric.kind != record.kind or (value := reading(metric, record)) is None:
                continue
            for condition in conditions:
                far = _far(condition, value) if condition.group == group else None
                if far is None:
                    continue
                if far >= NEARER:
                    farthest[record.session_id] = farthest.get(record.session_id, 0.0) + min(far, 2.0)
                shown = shows[condition]
                shown[record.session_id] = shown.get(record.session_id, False) or far >= NEARER
                tenants[record.session_id] = record.tenant
    examples = tuple(sorted(farthest, key=lambda session: -farthest[session])[:MOST_SESSIONS])
    found = [Concerned(sum(one.values()), len(one), _by_tenant(one, tenants), examples) for one in shows.values()]
    first = found[list(shows).index(incident.first.condition)]
    # A figure that many sessions show by chance hides whose fault it is; another one of the incident may tell.
    return next((one for one in (first, *found) if one.tenant), first)


def _far(condition: Condition, value: float) -> float | None:
    """Return how far a value is from what was expected: 1 as far as the changed values are; None: not known."""
    if condition.value is None or condition.expected is None:
        return None
    span = condition.value - condition.expected
    return (value - condition.expected) / span if span else 0.0


def _by_tenant(shows: Mapping[str, bool], tenants: Mapping[str, str]) -> tuple[Tenant, ...]:
    of = Counter(tenants[session] for session in shows)
    if len(of) < 2:
        return ()
    mine = Counter(tenants[session] for session, shown in shows.items() if shown)
    return tuple(Tenant(name, count, of[name]) for name, count in mine.most_common(MOST_TENANTS))
