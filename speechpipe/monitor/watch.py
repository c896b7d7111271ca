"""The watcher follows the records: sums them up, feeds detectors, and says what is wrong.

It reads what the store has, in the order of writing, and keeps how far it came in the same transaction as what it made
of it: a restart, a second process or a clock that jumps loses nothing and counts nothing twice.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from speechpipe.monitor import Record
from speechpipe.monitor.alarms import Alarm, AlarmBook
from speechpipe.monitor.archive import Archive
from speechpipe.monitor.blame.desk import LOOKBACK_S, BlameDesk
from speechpipe.monitor.calendar import successors, suppressed
from speechpipe.monitor.cascade import CascadeSpec
from speechpipe.monitor.drift import DriftWatch
from speechpipe.monitor.limits import MOST_S, LimitWatch
from speechpipe.monitor.profiles import Budget, profile_of
from speechpipe.monitor.reference import Reference, pinned, proposed, reference_for
from speechpipe.monitor.sinks import Sink
from speechpipe.monitor.store import Store
from speechpipe.monitor.windows import SERVER, UNSERVED, Group, Grouping, Window, summed_up

BATCH = 2_000
MOST_BATCHES = 20
FINE_S = 3 * 3600.0
"""Windows of a minute are kept for so long; then they are put together."""

HOUSEKEEPING_S = 600.0
SUCCEED_S = 30.0
BLAME_EVERY_S = 300.0
"""Groups are looked at this often though nothing rings: what is slow moves no detector for a while."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WatchOptions:
    """What an operator can set."""

    budget: Budget = field(default_factory=Budget)
    keep_records_s: float = 30 * 86_400.0
    keep_windows_s: float = 400 * 86_400.0


@dataclass
class _Proposing:
    """Windows of a group that has no reference, until there are enough for a proposal."""

    windows: list[Window] = field(default_factory=list)
    units: int = 0


class Watcher:
    """Used on one thread, by `tick`."""

    def __init__(
        self, spec: CascadeSpec, store: Store, sinks: Sequence[Sink] = (), options: WatchOptions | None = None
    ) -> None:
        self._spec = spec
        self._store = store
        self.archive = Archive(lambda: store.engine)
        self._sinks = sinks
        self._options = options = options or WatchOptions()
        self._grouping = Grouping()
        self._drift = DriftWatch(spec, options.budget)
        self._limits = LimitWatch(spec)
        self._seq = -1
        self._book = AlarmBook()
        self.blame = BlameDesk(spec, store)
        self._active: set[Group] = set()  # groups with traffic since the last round of verdicts
        self._blamed_at = 0.0
        self._kept_house_at = self._succeeded_at = -HOUSEKEEPING_S
        self._references: tuple[tuple[int, str], ...] | None = None
        self._pinned: Mapping[Group, Reference] = {}
        self._known: set[Group] = set()  # groups that have a reference, or a proposal
        self._proposing: dict[Group, _Proposing] = {}

    # ---- the tick ----

    def tick(self, now: float) -> list[Alarm]:
        """Read on, and return the alarms that changed.

        Raises:
            SQLAlchemyError, OSError, StoreTooNew: the store fails; nothing is lost by trying again later.
        """
        if self._seq < 0:
            self._begin(now)
        self._take_references()
        for _ in range(MOST_BATCHES):
            batch = self._store.after(self._seq, BATCH)
            if batch and not self._take(batch):
                return []  # another process was faster: go on from where it is
            if len(batch) < BATCH:
                break
        if now - self._succeeded_at >= SUCCEED_S:
            self._succeeded_at = now
            self._succeed(now)
        conditions = [*self._limits.conditions(now), *self._drift.conditions(self._suppressed(now))]
        changed = self._book.step(now, conditions)
        changed = self._blame(now, changed)
        if changed:
            self.archive.save(changed)
            told = [alarm for alarm in changed if alarm.state == "firing" or alarm.firing_at is not None]
            if told:
                for sink in self._sinks:
                    sink.send(told)
        for alarm in changed:
            if alarm.state == "resolved":
                self._drift.forget(alarm.condition)
        if now - self._kept_house_at >= HOUSEKEEPING_S:
            self._kept_house_at = now
            self._keep_house(now)
        return changed

    def _blame(self, now: float, changed: list[Alarm]) -> list[Alarm]:
        """Say of the alarms that begin whom blame names; and look at every group now and then, alarm or not."""
        begun = {alarm.condition.group for alarm in changed if alarm.state == "firing" and alarm.firing_at == now}
        if now - self._blamed_at >= BLAME_EVERY_S:
            self._blamed_at = now
            due = set(self._active)
        else:
            due = {group for group in self._active if group.label in begun}
        said = {}
        for group in sorted(due):
            reference = reference_for(group, self._pinned)
            if reference is None or not any(group):
                continue
            since = max(now - LOOKBACK_S, reference.until)
            stored = self.blame.stored(group, reference, since, now)
            said[group.label] = f"{stored.label}: {stored.document['reason']}"
        self._active -= due
        return [
            self._book.annotate(alarm, said[alarm.condition.group])
            if alarm.state == "firing" and alarm.condition.group in said
            else alarm
            for alarm in changed
        ]

    def _begin(self, now: float) -> None:
        self._seq, state = self.archive.cursor()
        self._take_references()
        self._drift.restore(state)
        recent = self.archive.windows(now - MOST_S, now + MOST_S)
        self._limits = LimitWatch(self._spec, [window for window in recent if window.group.arm != UNSERVED])
        self._book = AlarmBook(replace(alarm, seen_at=now) for alarm in self.archive.alarms())

    def _take(self, batch: Sequence[tuple[int, Record]]) -> bool:
        begun, self._seq = self._seq, -1  # if this fails, the detectors have seen what was not committed: begin anew
        found = [record for _, record in batch]
        windows = summed_up(self._spec, found, self._grouping)
        for record in found:
            if record.arm != UNSERVED:
                self._drift.update(self._grouping.group(record), record)
        last = batch[-1][0]
        if not self.archive.commit(begun, last, windows, self._drift.state()):
            return False
        self._seq = last
        served = [window for window in windows if window.group.arm != UNSERVED]
        self._limits.take(served)
        self._active |= {window.group for window in served if window.outcomes}
        self._propose(served)
        return True

    def _take_references(self) -> None:
        states = self.archive.reference_states()
        if states != self._references:
            self._references = states
            references = self.archive.references()
            self._pinned = pinned(references)
            self._drift.compare_with(self._pinned)
            for reference in self._pinned.values():
                self.blame.pin(reference)
            self._known = {reference.group for reference in references if reference.status != "retired"}

    def _propose(self, windows: Sequence[Window]) -> None:
        """Propose a reference for a group that has none, from the first that is seen of it."""
        for window in windows:
            group = window.group
            if group in self._known or group.arm not in ("champion", "named", ""):
                continue
            mine = self._proposing.setdefault(group, _Proposing())
            mine.windows.append(window)
            mine.units += sum(window.outcomes.values()) or (window.records if group == SERVER else 0)
            if mine.units >= profile_of(group.tenant_class).reference_units:
                since = min(part.start for part in mine.windows)
                until = max(part.start + part.width_s for part in mine.windows)
                for reference in proposed(mine.windows, float(until), float(since), float(until)):
                    self.archive.propose(reference)
                del self._proposing[group]
                self._take_references()

    def _suppressed(self, now: float) -> Callable[[Group], bool]:
        changes = self.archive.changes()
        return lambda group: suppressed(group, changes, reference_for(group, self._pinned), now)

    def _succeed(self, now: float) -> None:
        """Pin what came after an announced change."""
        for change in self.archive.changes():
            if not any(change.awaits_reference(reference, now) for reference in self._pinned.values()):
                continue
            windows = self.archive.windows(change.until, now)
            for reference in successors(change, self._pinned, windows, now):
                number = self.archive.propose(reference)
                self.archive.approve(number, f"announced change {change.number}", now)
                log.info("a new reference of %s, after %s", reference.group.label, change.note or "a change")
        self._take_references()

    def _keep_house(self, now: float) -> None:
        self.archive.compact(now - FINE_S)
        self.archive.expire(now - self._options.keep_windows_s)
        self.blame.archive.expire(now - self._options.keep_windows_s)
        self._store.expire(now - self._options.keep_records_s)

    # ---- for people ----

    def acknowledge(self, alarm_id: str, by: str, now: float) -> Alarm | None:
        """Note that somebody has seen an alarm; None if it is not open."""
        alarm = self._book.acknowledge(alarm_id, by, now)
        if alarm is not None:
            self.archive.save([alarm])
        return alarm

    @property
    def behind(self) -> int:
        """Records that were written and not taken into account."""
        return max(0, self._store.last_seq() - max(self._seq, 0))
