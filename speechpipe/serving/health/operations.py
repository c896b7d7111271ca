"""Operations on the records in a store, without a server: health report, references, usefulness of metrics, blame."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from speechpipe.errors import InvalidParameter, UnknownName
from speechpipe.foundation.storage.database import translating_store_errors
from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.alarms import Alarm
from speechpipe.monitor.blame.operations import LOOKBACK_S, BlameOperations, ReferenceMismatch
from speechpipe.monitor.blame.verdict import NO_STAGE, Verdict
from speechpipe.monitor.change_log import ChangeLog
from speechpipe.monitor.concerned import Concerned, concerned
from speechpipe.monitor.incidents import incidents
from speechpipe.monitor.profiles import profile_of
from speechpipe.monitor.proposing import counts_from
from speechpipe.monitor.reference import (
    PROPOSED_ARMS,
    Progress,
    Reference,
    pinned,
    proposed,
    reference_before,
    reference_for,
)
from speechpipe.monitor.report import Facts, Filters, Report, health_report
from speechpipe.monitor.repository import COARSE_S, Archive
from speechpipe.monitor.season_repository import SeasonArchive
from speechpipe.monitor.spec import CascadeSpec
from speechpipe.monitor.windows import OTHER_TENANTS, Group, Grouping, Window, aggregate

EVERYTHING = Filters()
DAY_S = 86_400.0
TAIL_BATCH = 2_000

CONCERNED_LATE_S = 60.0
SHOWN_INCIDENTS, CONCERNED_RECORDS = 5, 2_000
"""Open incidents of which a report says which sessions they concern, among so many of the newest records."""


@dataclass(frozen=True, slots=True)
class MetricValue:
    """How useful a metric was: its alarms, how many were acknowledged, and how many verdicts it decided."""

    metric: str
    values: int
    alarms: int
    acknowledged: int
    blamed: int  # alarms whose verdict named a stage
    decisive: int  # verdicts that would name another stage without this metric
    firing_s: float


class HealthOperations:
    """Operations on the records of one store. Every method raises `StoreUnavailable` if the store cannot be used."""

    def __init__(
        self,
        spec: CascadeSpec,
        store: Store,
        server: Callable[[], Mapping[str, float | str]] = lambda: {},
        clock: Callable[[], float] = time.time,
        keep_records_s: float = 30 * DAY_S,
        change_log: ChangeLog | None = None,
    ) -> None:
        """Use `store`.

        `server` returns the current measures of a running server, and `change_log` what was changed, for the report.
        """
        self._change_log = change_log or ChangeLog()
        self._keep_records_s = keep_records_s
        self._spec = spec
        self._store = store
        self._server = server
        self._clock = clock
        self._archive = Archive(lambda: store.engine)
        self._seasons = SeasonArchive(lambda: store.engine)
        self._blame = BlameOperations(spec, store)

    def report(self, seconds: float, filters: Filters = EVERYTHING, until: float | None = None) -> Report:
        """Return the report of the `seconds` before `until` (Unix seconds; None: now)."""
        until = self._clock() if until is None else until
        since = until - seconds
        with translating_store_errors():
            references = self._archive.references()
            known = pinned(references)
            windows = [*self._archive.windows(since, until), *self._tail(since, until)]
            alarms = self._archive.alarms(since)
            facts = Facts(
                since=since,
                until=until,
                windows=windows,
                references=known,
                seasons=self._seasons.seasons([reference.id for reference in known.values()]),
                proposals=[reference for reference in references if reference.status == "proposed"],
                progress=self._progress({w.group for w in windows if filters.takes(w.group)}, references),
                alarms=alarms,
                concerned=self._concerned(alarms, until),
                server=self._server(),
                filters=filters,
                verdicts=self._blame.archive.verdicts(since, until),
                changes=self._change_log.between(since, until),
            )
        return health_report(self._spec, facts)

    def _concerned(self, alarms: Sequence[Alarm], until: float) -> dict[str, Concerned]:
        """Return which sessions the newest open incidents concern, by incident; nothing in a report of the past.

        The newest records are read, which are not those of the past.
        """
        if until < self._clock() - CONCERNED_LATE_S:
            return {}
        grouping = Grouping(known=self._archive.tenants())
        found = {}
        shown = [one for one in incidents(alarms) if one.resolved_at is None and one.since < until]
        shown = shown[:SHOWN_INCIDENTS]
        since = min((one.since for one in shown), default=until)
        records = self._store.latest(CONCERNED_RECORDS, since, until) if shown else []
        for one in shown:
            end = until if one.ended_at is None else one.ended_at
            mine = [record for record in records if one.since <= record.at <= end]
            found[one.id] = concerned(self._spec, one, mine, grouping)
        return found

    def acknowledge(self, name: str, by: str) -> list[Alarm]:
        """Acknowledge an open alarm, or all open ones of an incident, in the name of `by`; return them.

        Raises:
            UnknownName: there is no open alarm or incident with this id.
        """
        with translating_store_errors():
            found = self._archive.acknowledge(name, by, self._clock())
        if not found:
            raise UnknownName(f"there is no open alarm or incident {name!r}", cause="not_found")
        return found

    def _summed(self, since: float, until: float) -> list[Window]:
        """Return windows of exactly this time span; parts of windows at its edges are aggregated from records."""
        first, last = math.ceil(since / COARSE_S) * COARSE_S, math.floor(until / COARSE_S) * COARSE_S
        if first >= last:
            edges, found = [(since, until)], []
        else:
            edges = [(since, float(first)), (float(last), until)]
            found = [*self._archive.windows(first, last), *self._tail(first, last)]
        grouping = Grouping(known=self._archive.tenants())
        for begin, end in edges:
            found += aggregate(self._spec, self._store.between(begin, end), grouping)
        return found

    def _tail(self, since: float, until: float) -> list[Window]:
        """Aggregate the records that the follower has not processed yet, so that a report is up to date."""
        seq, _ = self._archive.cursor()
        found: list[Window] = []
        grouping = Grouping(known=self._archive.tenants())
        while True:
            batch = self._store.after(seq, TAIL_BATCH)
            if not batch:
                break
            seq = batch[-1][0]
            found += aggregate(self._spec, (record for _, record in batch if since <= record.at < until), grouping)
        return found

    def value(self, seconds: float) -> list[MetricValue]:
        """Return the usefulness of each metric in the last `seconds`, ordered by its number of alarms."""
        found = self.report(seconds)
        decisive = self._decisive(found.facts.since, found.facts.until)
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
                    blamed=sum(bool(alarm.blame) and not alarm.blame.startswith(f"{NO_STAGE}:") for alarm in alarms),
                    decisive=decisive[metric.name],
                    firing_s=sum((a.resolved_at or found.facts.until) - (a.firing_at or 0.0) for a in alarms),
                )
            )
        return sorted(rows, key=lambda row: (-row.alarms, -row.decisive, row.metric))

    def _decisive(self, since: float, until: float) -> Counter[str]:
        """Count for each metric the verdicts in this time span that would differ without it.

        Verdicts are repeated every few minutes while a problem lasts; the newest for each label and group is counted.
        """
        counts: Counter[str] = Counter()
        with translating_store_errors():
            references = {reference.id: reference for reference in self._archive.references()}
            named = [v for v in self._blame.archive.history(since, until) if v.label != NO_STAGE]
            for verdict in {(v.group, v.label): v for v in named}.values():
                reference = references.get(int(verdict.document.get("reference", 0)))
                if reference is not None:
                    first = max(verdict.at - LOOKBACK_S, reference.until)
                    counts.update(self._blame.decisive(verdict.group, reference, first, verdict.at))
        return counts

    def verdicts(
        self,
        since: float,
        until: float,
        filters: Filters = EVERYTHING,
        number: int = 0,
        onset: float | None = None,
        tenant: str = "",
    ) -> list[tuple[Group, Verdict]]:
        """Return the verdict on each group with traffic in a time span, against its pinned reference.

        Args:
            since: the beginning of the time span, in Unix seconds.
            until: its end.
            filters: which groups.
            number: selects another reference; 0: the pinned one.
            onset: when the change began, if known.
            tenant: only the traffic of this tenant, compared with the reference of the group that it belongs to.

        Raises:
            UnknownName: there is no such reference.
            InvalidParameter: the reference belongs to other traffic than all of this.
        """
        with translating_store_errors():
            references = self._archive.references()
            known = pinned(references)
            chosen = next((reference for reference in references if reference.id == number), None)
            if number and chosen is None:
                raise UnknownName(f"there is no reference {number}", cause="not_found")
            windows = self._summed(since, until)
            groups = sorted({w.group for w in windows if any(w.group) and filters.takes(w.group)})
            if tenant:
                groups = [group for group in groups if group.tenant in ("", OTHER_TENANTS, tenant)]
            found: list[tuple[Group, Verdict]] = []
            mismatch: ReferenceMismatch | None = None
            for group in groups:
                reference = chosen or reference_for(group, known) or reference_before(group, known)
                if reference is None:
                    reason = (
                        f"not watched: {group.bundle} has no reference, and no bundle before it had one; "
                        "see `speechpipe reference show`, or name one by `--reference`"
                    )
                    found.append((group, Verdict(NO_STAGE, NO_STAGE, decided=False, reason=reason)))
                    continue
                try:
                    verdict = self._blame.verdict(group, reference, since, until, onset, tenant)
                except ReferenceMismatch as error:
                    mismatch = error
                    continue
                if verdict.cases or not tenant:
                    found.append((group, verdict))
            if mismatch is not None and not found:
                raise InvalidParameter(str(mismatch), param="reference") from mismatch
            return found

    # ---- references ----

    def references(self) -> list[Reference]:
        """Return all references, oldest first."""
        with translating_store_errors():
            return self._archive.references()

    def progress(self) -> list[Progress]:
        """Return the progress towards a reference of the last day's groups that have none."""
        with translating_store_errors():
            now = self._clock()
            groups = {window.group for window in self._archive.windows(now - DAY_S, now)}
            return self._progress(groups, self._archive.references())

    def _progress(self, groups: Iterable[Group], references: Iterable[Reference]) -> list[Progress]:
        known = {reference.group for reference in references if reference.status != "retired"}
        since = self._clock() - self._keep_records_s
        waiting = [one for one in sorted(set(groups) - known) if any(one) and one.arm in PROPOSED_ARMS]
        alarms = self._archive.alarms(since) if waiting else []
        found = []
        for group in waiting:
            begin, hindered_by = counts_from(group, alarms, since)
            units = 0 if hindered_by else self._archive.units(group, begin)
            found.append(Progress(group, units, profile_of(group.tenant_class).reference_units, hindered_by))
        return [one for one in found if one.units or one.hindered_by]

    def propose(self, since: float, until: float, filters: Filters = EVERYTHING) -> list[Reference]:
        """Propose references from a time span, one for each group; return them with their numbers."""
        with translating_store_errors():
            windows = self._summed(since, until)
            found = [one for one in proposed(windows, self._clock(), since, until) if filters.takes(one.group)]
            if filters != EVERYTHING and not any(any(one.group) for one in found):
                found = []  # the server's own figures are proposed beside the traffic that was asked for
            numbers = {self._archive.propose(reference) for reference in found}
            return [reference for reference in self._archive.references() if reference.id in numbers]

    def approve(self, number: int, by: str) -> Reference:
        """Approve and pin a proposed reference in the name of `by`.

        Raises:
            UnknownName: there is no reference with this number.
        """
        with translating_store_errors():
            try:
                reference = self._archive.approve(number, by, self._clock())
                self._blame.pin(reference)  # before its records expire
                return reference
            except KeyError as error:
                raise UnknownName(f"there is no reference {number}", cause="not_found") from error

    def is_enough_for_blame(self, reference: Reference) -> bool:
        """Whether a pinned reference has the sessions that verdicts need."""
        with translating_store_errors():
            return self._blame.normal(reference) is not None

    def move(self, number: int, bundle: str, by: str) -> Reference:
        """Pin a reference for the same traffic of another bundle too, in the name of `by`; the original stays.

        For a bundle that is meant to behave as the one before: its traffic is compared from the first session on.

        Raises:
            UnknownName: there is no reference with this number.
            InvalidParameter: `bundle` is not NAME@VERSION, or the reference is of that bundle or of the server.
        """
        with translating_store_errors():
            known = next((one for one in self._archive.references() if one.id == number), None)
            if known is None:
                raise UnknownName(f"there is no reference {number}", cause="not_found")
            name, _, version = bundle.partition("@")
            if not name or not version or bundle == known.group.bundle or not any(known.group):
                raise InvalidParameter(f"{bundle!r} is not another bundle as NAME@VERSION", param="bundle")
            cases = self._blame.pin(known)
            group = known.group._replace(bundle=bundle)
            moved = replace(known, group=group, created_at=self._clock(), window=replace(known.window, group=group))
            created = self._archive.propose(moved)
            if cases is not None:
                self._blame.archive.pin(created, cases)
            if (season := self._seasons.seasons([number]).get(number)) is not None:
                self._seasons.save(replace(season, reference=created))
            return self._archive.approve(created, by, self._clock())

    def announce(self, tenant: str, since: float, until: float, note: str) -> int:
        """Announce a change: drift of this tenant (empty: all) raises no alarm in the time span. Return its id."""
        with translating_store_errors():
            return self._archive.announce(tenant, since, until, note)
