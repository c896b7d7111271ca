"""The watcher: follows the records, aggregates them, feeds the detectors and opens and closes alarms.

It reads the store's records in the order of writing, and writes its results and its position in one transaction. So
a restart, a second process or a clock that jumps neither loses a record nor counts one twice.
"""

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.store import Store
from speechpipe.foundation.storage.swap import ChangedMeanwhile
from speechpipe.monitor.alarms import Alarm, Condition, Transition, step
from speechpipe.monitor.blame.operations import LOOKBACK_S, BlameOperations
from speechpipe.monitor.blame.repository import StoredVerdict
from speechpipe.monitor.blame.verdict import NO_STAGE
from speechpipe.monitor.calendar import successors, suppressed
from speechpipe.monitor.change_log import BEFORE_S, ChangeLog, ServiceChange, conditions, near
from speechpipe.monitor.drift import DriftWatch
from speechpipe.monitor.incidents import REMEMBERED_S, assigned
from speechpipe.monitor.limits import MOST_S, LimitWatch
from speechpipe.monitor.no_traffic import no_traffic
from speechpipe.monitor.profiles import Budget, profile_of
from speechpipe.monitor.reference import (
    PROPOSED_ARMS,
    Reference,
    pinned,
    proposed,
    reference_before,
    reference_for,
)
from speechpipe.monitor.repository import Archive
from speechpipe.monitor.sinks import Sink
from speechpipe.monitor.spec import CascadeSpec, Severity
from speechpipe.monitor.telling import Teller
from speechpipe.monitor.unwatched import unwatched
from speechpipe.monitor.windows import SERVER, UNSERVED, Group, Grouping, aggregate

__all__ = [
    "WatchOptions",
    "Watcher",
]

BATCH = 2_000
MOST_BATCHES = 20
FINE_S = 3 * 3600.0
"""Windows of one minute are kept for this long, then merged."""

SUCCEED_S = 30.0
"""How often references are proposed and succeeded."""
BLAME_WAIT_S = 20.0
"""Sinks wait this long at most for the verdict on a new alarm."""

BLAME_AGAIN_S, BLAME_AGAIN_FOR_S = 20.0, 600.0
"""After an alarm of a group, its verdict is made again after so long, at pauses that double, for so long: at first
there are few cases."""

BLAME_EVERY_S = 300.0
"""Blame runs on active groups at this interval even without an alarm, to catch slow drift."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WatchOptions:
    """Options that an operator can set."""

    budget: Budget = field(default_factory=Budget)
    keep_records_s: float = 30 * 86_400.0
    keep_windows_s: float = 400 * 86_400.0


class Watcher:
    """Called on one thread, by `tick`. It keeps no alarms in memory: the store has the open ones."""

    def __init__(
        self,
        spec: CascadeSpec,
        store: Store,
        sinks: Sequence[Sink] = (),
        options: WatchOptions | None = None,
        change_log: ChangeLog | None = None,
    ) -> None:
        """Watch the records in `store`; `sinks` are told of alarms, and of what `change_log` says was changed."""
        self._spec = spec
        self._store = store
        self.archive = Archive(lambda: store.engine)
        self.owner = uuid.uuid4().hex  # identifies this watcher among those on the same store
        self.tellers = [Teller(lambda: store.engine, sink, self.owner) for sink in sinks]
        self._options = options = options or WatchOptions()
        self._grouping = Grouping()
        self._drift = DriftWatch(spec, options.budget)
        self._limits = LimitWatch(spec)
        self._change_log = change_log or ChangeLog()
        self._changes: Sequence[ServiceChange] = ()  # of the last hours, read every `SUCCEED_S`
        self._stopped: Sequence[Condition] = ()  # that there is no traffic, looked for as often
        self._caught_up = False  # with the records that are in the store
        self._seq = -1
        self.blame = BlameOperations(spec, store)
        self._active: set[Group] = set()  # groups with traffic since the last verdicts
        self._ringing: dict[str, float] = {}  # label of a group -> when an alarm of it began to fire
        self._verdict_at: dict[str, float] = {}  # label of a group -> its last verdict
        self._together_at: dict[tuple[str, str], float] = {}  # bundle and arm -> the last verdict on all their traffic
        self._blamed_at = 0.0
        self._succeeded_at = -SUCCEED_S
        self._references: tuple[tuple[int, str], ...] | None = None
        self._pinned: Mapping[Group, Reference] = {}
        self._known: set[Group] = set()  # groups with a reference or a proposal
        self._unpinned: set[int] = set()  # references whose cases may not have been stored yet
        self._waiting: set[Group] = set()  # groups with traffic but without a reference

    # ---- the tick ----

    def tick(self, now: float, *, tell: bool = True) -> list[Alarm]:
        """Process new records and return the alarms that changed. With `tell`, notify the sinks too, on this thread.

        Raises:
            SQLAlchemyError, OSError, StoreTooNew: the store failed; the next call continues where this one began.
            Exception: a sink or a verdict failed; the alarms were decided and stored before that.
        """
        if self._seq < 0 or self._seq != self.archive.cursor_seq():  # another process or store
            self._begin(now)
        self._take_references()
        for _ in range(MOST_BATCHES):
            batch = self._store.after(self._seq, BATCH)
            if batch and not self._take(batch):
                return []  # another process was faster: continue from its position
            self._caught_up = len(batch) < BATCH
            if self._caught_up:
                break
        changed = self._decide(now)
        try:
            # Each by itself: a history that cannot be read prevents neither alarms nor verdicts.
            with ExitStack() as steps:  # callbacks run in reverse order, all of them
                steps.callback(self._blame, now)
                if now - self._succeeded_at >= SUCCEED_S:
                    self._succeeded_at = now
                    steps.callback(self._look_at_changes, now)
                    steps.callback(self._look_at_traffic, now)
                    steps.callback(self._succeed, now)
                    steps.callback(self._propose, now)
        finally:
            if begun := [alarm.id for alarm in changed if alarm.state == "firing"]:
                self.archive.release(begun, now)
        if tell:
            for teller in self.tellers:
                teller.tell(now)
        return changed

    def _look_at_changes(self, now: float) -> None:
        self._changes = self._change_log.between(now - LOOKBACK_S - BEFORE_S, now)

    def _look_at_traffic(self, now: float) -> None:
        self._stopped = ()
        if self._caught_up:
            first = self.archive.first_start()
            self._stopped = no_traffic(self._limits.windows, self.archive.records, first, now)

    def _decide(self, now: float) -> list[Alarm]:
        """Open and close alarms, in one transaction with the notices to the sinks."""
        found = [
            *self._limits.conditions(now),
            *self._drift.conditions(now, self._suppressed(now)),
            *unwatched(self._limits.windows, self._pinned, now),
            *conditions(self._changes, now),
            *self._stopped,
        ]
        changes = step(self.archive.alarms(), now, found)
        if not changes:
            return []
        changes = self._with_incidents(changes, now)
        try:
            self.archive.save(changes, [teller.sink.name for teller in self.tellers], now + BLAME_WAIT_S)
        except ChangedMeanwhile:
            return []  # another process has decided; the next tick sees the result
        changed = [change.alarm for change in changes]
        for change in changes:
            if change.alarm.state == "resolved":
                self._drift.forget(change.alarm.condition)
            if change.event == "firing":
                group = change.alarm.condition.group
                self._ringing[group] = now
                self._verdict_at.pop(group, None)
        return changed

    def _with_incidents(self, changes: Sequence[Transition], now: float) -> list[Transition]:
        """Return the transitions, those to firing with the incidents that the alarms belong to."""
        known: list[Alarm] | None = None
        found = []
        for change in changes:
            alarm = change.alarm
            if change.event == "firing":
                known = self.archive.alarms(now - REMEMBERED_S) if known is None else known
                alarm = assigned(alarm, known)
                known.append(alarm)
            found.append(replace(change, alarm=alarm))
        return found

    def _blame(self, now: float) -> None:
        """Add verdicts to new alarms, and compute the periodic verdicts on active groups."""
        for number in sorted(self._unpinned):
            if (reference := next((r for r in self._pinned.values() if r.id == number), None)) is not None:
                self.blame.pin(reference)
            self._unpinned.discard(number)
        self._ringing = {label: at for label, at in self._ringing.items() if now - at < BLAME_AGAIN_FOR_S}
        if now - self._blamed_at >= BLAME_EVERY_S:
            self._blamed_at = now
            due = set(self._active)
        else:
            due = {group for group in self._active if self._is_due_again(group.label, now)}
        of_bundles = {(group.bundle, group.arm) for group in due}
        for group in sorted(due):
            self._active.discard(group)  # first, so that a group whose verdict fails does not block the others
            reference = reference_for(group, self._pinned) or reference_before(group, self._pinned)
            if reference is not None and any(group):
                stored = self.blame.stored(group, reference, max(now - LOOKBACK_S, reference.until), now)
                self._verdict_at[group.label] = now
                self._annotate(stored)
        for bundle, arm in sorted(of_bundles):
            if now - self._together_at.get((bundle, arm), 0.0) >= BLAME_AGAIN_S:
                self._together_at[bundle, arm] = now
                self._blame_together(bundle, arm, now)

    def _blame_together(self, bundle: str, arm: str, now: float) -> None:
        """Make the verdict on all traffic of a bundle; say it with alarms of groups whose own names no stage."""
        mine = [
            (group, one) for group, one in sorted(self._pinned.items()) if (group.bundle, group.arm) == (bundle, arm)
        ]
        if len(mine) < 2 or (stored := self.blame.stored_together(mine, now)) is None or stored.label == NO_STAGE:
            return
        labels = {group.label for group, _ in mine}
        for alarm in self.archive.alarms():
            silent = not alarm.blame or alarm.blame.startswith(f"{NO_STAGE}: ")
            if alarm.state == "firing" and alarm.condition.group in labels and silent:
                self._confirm(alarm, stored)
                reason = f"all traffic of {bundle} together: {stored.document['reason']}{self._near(stored)}"
                self.archive.annotate(alarm.id, f"{stored.label}: {reason}")

    def _is_due_again(self, label: str, now: float) -> bool:
        """Whether the verdict on a ringing group is to be made again: at pauses that double, for each reads records."""
        if (rang := self._ringing.get(label)) is None:
            return False
        last = self._verdict_at.get(label)
        return last is None or now - last >= max(BLAME_AGAIN_S, last - rang)

    def _annotate(self, stored: StoredVerdict) -> None:
        """Say with the firing alarms of a group what the verdict is; one that named a stage is not replaced by none."""
        said = f"{stored.label}: {stored.document['reason']}{self._near(stored)}"
        names_none = f"{NO_STAGE}: "
        for alarm in self.archive.alarms():
            if alarm.state != "firing" or alarm.condition.group != stored.group.label:
                continue
            self._confirm(alarm, stored)
            if alarm.blame == said:
                continue
            if stored.label != NO_STAGE or not alarm.blame or alarm.blame.startswith(names_none):
                self.archive.annotate(alarm.id, said)

    def _confirm(self, alarm: Alarm, stored: StoredVerdict) -> None:
        """Let an alarm that harmless changes ring, too, be no page if a verdict names no stage, and one if it does."""
        metric = self._spec.by_name.get(alarm.condition.metric)
        if metric is None or not metric.confirm or alarm.condition.rule != "drift":
            return
        harmless = stored.label == NO_STAGE
        if harmless and not stored.document["decided"]:
            return
        if harmless and alarm.blame and not alarm.blame.startswith(f"{NO_STAGE}: "):
            return  # a verdict that named a stage is not replaced by none
        severity = (Severity.INVESTIGATE if harmless else metric.severity).value
        if severity != alarm.condition.severity:
            sinks = [teller.sink.name for teller in self.tellers]
            self.archive.set_severity(alarm, severity, sinks, stored.at)

    def _near(self, stored: StoredVerdict) -> str:
        """Return what was changed near the onset of a verdict, as the end of a sentence."""
        onset = stored.document.get("since")
        said = "" if onset is None or stored.label == NO_STAGE else near(self._changes, float(onset))
        return f"; shortly before: {said}" if said else ""

    def _begin(self, now: float) -> None:
        self._seq, state = self.archive.cursor()
        self.blame.forget()
        self._take_references()
        self._drift.restore(state)
        recent = self.archive.windows(now - MOST_S, now + MOST_S)
        self._limits = LimitWatch(self._spec, [window for window in recent if window.group.arm != UNSERVED])
        self._grouping = Grouping(known=self.archive.tenants())

    def _take(self, batch: Sequence[tuple[int, Record]]) -> bool:
        begun, self._seq = self._seq, -1  # on failure: the detectors have seen uncommitted values
        found = [record for _, record in batch]
        windows = aggregate(self._spec, found, self._grouping)
        for record in found:
            if record.arm != UNSERVED:
                self._drift.update(self._grouping.group(record), record)
        last = batch[-1][0]
        if not self.archive.commit(begun, last, windows, self._drift.state(), self._grouping.fresh):
            return False
        self._grouping.forget_fresh()
        self._seq = last
        served = [window for window in windows if window.group.arm != UNSERVED]
        self._limits.take(served)
        self._active |= {window.group for window in served if window.outcomes or window.sessions}
        counted = {window.group for window in served if window.outcomes or window.group == SERVER}
        self._waiting |= {group for group in counted - self._known if group.arm in PROPOSED_ARMS}
        return True

    def _take_references(self) -> None:
        states = self.archive.reference_states()
        if states == self._references:
            return
        references = self.archive.references()
        before = {reference.id for reference in self._pinned.values()}
        self._pinned = pinned(references)
        self._drift.compare_with(self._pinned)
        self._unpinned |= {reference.id for reference in self._pinned.values()} - before
        self._known = {reference.group for reference in references if reference.status != "retired"}
        self._waiting -= self._known
        self._references = states

    def _propose(self, now: float) -> None:
        """Propose a reference for each group without one, once the store has enough of its traffic."""
        since = now - self._options.keep_records_s
        for group in sorted(self._waiting):
            needed = profile_of(group.tenant_class).reference_units
            if self.archive.units(group, since) < needed:
                continue
            windows = self.archive.first(group, since, needed)
            first = float(min(window.start for window in windows))
            last = float(max(window.start + window.width_s for window in windows))
            for reference in proposed(windows, last, first, last):
                self.archive.propose(reference)
        self._take_references()

    def _suppressed(self, now: float) -> Callable[[Group], bool]:
        changes = self.archive.changes()
        return lambda group: suppressed(group, changes, reference_for(group, self._pinned), now)

    def _succeed(self, now: float) -> None:
        """Pin references from the traffic after announced changes."""
        for change in self.archive.changes():
            if not any(change.awaits_reference(reference, now) for reference in self._pinned.values()):
                continue
            windows = self.archive.windows(change.until, now)
            for reference in successors(change, self._pinned, windows, now):
                number = self.archive.propose(reference)
                self.archive.approve(number, f"announced change {change.number}", now)
                log.info("new reference of %s, after %s", reference.group.label, change.note or "an announced change")
        self._take_references()

    def keep_house(self, now: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Delete what is too old and merge old windows. If one step fails, the others still run.

        Safe beside `tick` on another thread, and beside another process.

        Raises:
            Exception: the error of the last step that failed.
        """
        with ExitStack() as steps:  # callbacks run in reverse order, all of them
            steps.callback(self.archive.compact, now - FINE_S, stop)
            steps.callback(self.blame.archive.expire, now - self._options.keep_windows_s)
            steps.callback(self.archive.expire, now - self._options.keep_windows_s)
            steps.callback(self._store.expire, now - self._options.keep_records_s)

    @property
    def behind(self) -> int:
        """The number of written records that no process has processed yet."""
        return max(0, self._store.last_seq() - self.archive.cursor_seq())
