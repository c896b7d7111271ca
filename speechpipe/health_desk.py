"""What people ask of the records: the health report, references, what a metric was worth. Needs a store, no server."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from speechpipe.errors import StoreUnavailable, UnknownName
from speechpipe.monitor.archive import Archive
from speechpipe.monitor.cascade import CascadeSpec
from speechpipe.monitor.database import STORE_ERRORS
from speechpipe.monitor.reference import Reference, pinned, proposed
from speechpipe.monitor.report import Facts, Filters, Report, health_report
from speechpipe.monitor.store import Store
from speechpipe.monitor.windows import Grouping, Window, summed_up

EVERYTHING = Filters()
TAIL_BATCH, MOST_TAIL = 2_000, 100


@contextmanager
def reachable() -> Iterator[None]:
    """Say of a store that fails that it does.

    Raises:
        StoreUnavailable: it failed inside.
    """
    try:
        yield
    except STORE_ERRORS as error:
        raise StoreUnavailable(f"the store cannot be used: {str(error).splitlines()[0]}") from error


@dataclass(frozen=True, slots=True)
class MetricValue:
    """What a metric was worth: alarms that somebody acknowledged were true to them."""

    metric: str
    values: int
    alarms: int
    acknowledged: int
    firing_s: float


class HealthDesk:
    """Every method raises `StoreUnavailable` if the store cannot be used."""

    def __init__(
        self,
        spec: CascadeSpec,
        store: Store,
        server: Callable[[], Mapping[str, float | str]] = lambda: {},
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read `store`; `server` returns what a running server says of itself."""
        self._spec = spec
        self._store = store
        self._server = server
        self._clock = clock
        self._archive = Archive(lambda: store.engine)

    def report(self, seconds: float, filters: Filters = EVERYTHING, until: float | None = None) -> Report:
        """Return the report of the last `seconds`."""
        until = self._clock() if until is None else until
        since = until - seconds
        with reachable():
            references = self._archive.references()
            facts = Facts(
                since=since,
                until=until,
                windows=[*self._archive.windows(since, until), *self._tail(since, until)],
                references=pinned(references),
                proposals=[reference for reference in references if reference.status == "proposed"],
                alarms=self._archive.alarms(since),
                server=self._server(),
                filters=filters,
            )
        return health_report(self._spec, facts)

    def _tail(self, since: float, until: float) -> list[Window]:
        """Sum up what was written and not taken into account yet: a report is true to the second."""
        seq, _ = self._archive.cursor()
        found: list[Window] = []
        grouping = Grouping()
        for _ in range(MOST_TAIL):
            batch = self._store.after(seq, TAIL_BATCH)
            if not batch:
                break
            seq = batch[-1][0]
            found += summed_up(self._spec, (record for _, record in batch if since <= record.at < until), grouping)
        return found

    def value(self, seconds: float) -> list[MetricValue]:
        """Return what each metric was worth lately, the loudest first."""
        found = self.report(seconds)
        rows = []
        for metric in self._spec.metrics:
            alarms = [a for a in found.facts.alarms if a.condition.metric == metric.name and a.firing_at is not None]
            shown = found.metric(metric.name)
            rows.append(
                MetricValue(
                    metric=metric.name,
                    values=shown.count if shown is not None else 0,
                    alarms=len(alarms),
                    acknowledged=sum(alarm.acknowledged_at is not None for alarm in alarms),
                    firing_s=sum((a.resolved_at or found.facts.until) - (a.firing_at or 0.0) for a in alarms),
                )
            )
        return sorted(rows, key=lambda row: (-row.alarms, row.metric))

    # ---- references ----

    def references(self) -> list[Reference]:
        """Return all references, the oldest first."""
        with reachable():
            return self._archive.references()

    def propose(self, since: float, until: float, filters: Filters = EVERYTHING) -> list[Reference]:
        """Propose references from a stretch of time, one for each group; return them with their numbers."""
        with reachable():
            windows = [*self._archive.windows(since, until), *self._tail(since, until)]
            found = proposed(windows, self._clock(), since, until)
            numbers = {self._archive.propose(reference) for reference in found if filters.takes(reference.group)}
            return [reference for reference in self._archive.references() if reference.id in numbers]

    def approve(self, number: int, by: str) -> Reference:
        """Pin a proposed reference.

        Raises:
            UnknownName: there is none of that number.
        """
        with reachable():
            try:
                return self._archive.approve(number, by, self._clock())
            except KeyError as error:
                raise UnknownName(f"there is no reference {number}", cause="not_found") from error

    def announce(self, tenant: str, since: float, until: float, note: str) -> int:
        """Write an announced change down: nobody is alarmed by a drift of that tenant (all, if empty) meanwhile."""
        with reachable():
            return self._archive.announce(tenant, since, until, note)
