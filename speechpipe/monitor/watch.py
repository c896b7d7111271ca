"""The watcher: follows the records, aggregates them, feeds the detectors and opens and closes alarms.

It reads the store's records in the order of writing, and writes its results and its position in one transaction. So
a restart, a second process or a clock that jumps neither loses a record nor counts one twice.
"""

import logging
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.store import Store
from speechpipe.foundation.storage.swap import ChangedMeanwhile
from speechpipe.monitor.alarm_verdicts import AlarmVerdicts
from speechpipe.monitor.alarms import Alarm, Condition, step
from speechpipe.monitor.blame.operations import LOOKBACK_S, BlameOperations
from speechpipe.monitor.calendar import successors, suppressed
from speechpipe.monitor.change_log import BEFORE_S, ChangeLog, ServiceChange, conditions
from speechpipe.monitor.drift import DriftWatch
from speechpipe.monitor.incidents import REMEMBERED_S, with_incidents
from speechpipe.monitor.limits import MOST_S, LimitWatch
from speechpipe.monitor.longer import DAY_S, LOOK_S, days, short
from speechpipe.monitor.no_traffic import no_traffic
from speechpipe.monitor.profiles import Budget, profile_of
from speechpipe.monitor.proposing import counts_from
from speechpipe.monitor.reference import (
    PROPOSED_ARMS,
    Reference,
    pinned,
    proposed,
    reference_for,
)
from speechpipe.monitor.repository import Archive
from speechpipe.monitor.season_learning import SeasonLearner
from speechpipe.monitor.season_repository import SeasonArchive
from speechpipe.monitor.sinks import Sink
from speechpipe.monitor.spec import CascadeSpec
from speechpipe.monitor.telling import Teller
from speechpipe.monitor.unwatched import unwatched
from speechpipe.monitor.windows import SERVER, UNSERVED, Group, Grouping, aggregate
from speechpipe.monitor.wobble import Wobbles

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

RENEW_S = 60.0
"""How often the figures of alarms that go on are written."""

BLAME_WAIT_S = 20.0
"""Sinks wait this long at most for the verdict on a new alarm."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WatchOptions:
    """Options that an operator can set."""

    budget: Budget = field(default_factory=Budget)
    keep_records_s: float = 30 * 86_400.0
    keep_windows_s: float = 400 * 86_400.0
    verdicts: bool = True  # False: none are made, as in simulations of many days


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
        seasons = SeasonArchive(lambda: store.engine)
        self._learner = SeasonLearner(spec, self.archive, seasons)
        self._wobbles = Wobbles(spec, seasons.windows)
        self._limits = LimitWatch(spec)
        self._change_log = change_log or ChangeLog()
        self._changes: Sequence[ServiceChange] = ()  # of the last hours, read every `SUCCEED_S`
        self._stopped: Sequence[Condition] = ()  # that there is no traffic, looked for as often
        self._caught_up = False  # with the records that are in the store
        self._seq = -1
        self.blame = BlameOperations(spec, store)
        names = [sink.name for sink in sinks]
        self._verdicts = AlarmVerdicts(spec, self.archive, self.blame, names)
        self._succeeded_at = -SUCCEED_S
        self._lengthened_at = -LOOK_S
        self._references: tuple[tuple[int, str], ...] | None = None
        self._pinned: Mapping[Group, Reference] = {}
        self._renewed_at = 0.0
        self._known: set[Group] = set()  # groups with a reference or a proposal
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
                if self._options.verdicts:
                    seasons = self._learner.known
                    steps.callback(self._verdicts.make, now, self._pinned, self._changes, seasons)
                if now - self._succeeded_at >= SUCCEED_S:
                    self._succeeded_at = now
                    steps.callback(self._look_at_changes, now)
                    steps.callback(self._look_at_traffic, now)
                    steps.callback(self._learn, now)
                    steps.callback(self._succeed, now)
                    steps.callback(self._lengthen, now)
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
        renew = now - self._renewed_at >= RENEW_S
        changes = step(self.archive.alarms(), now, found, renew=renew)
        if renew:
            self._renewed_at = now
        if not changes:
            return []
        if any(change.event == "firing" for change in changes):
            changes = with_incidents(changes, self.archive.alarms(now - REMEMBERED_S))
        try:
            self.archive.save(changes, [teller.sink.name for teller in self.tellers], now + BLAME_WAIT_S)
        except ChangedMeanwhile:
            return []  # another process has decided; the next tick sees the result
        changed = [change.alarm for change in changes]
        goes_on = {alarm.condition.fingerprint for alarm in changed if alarm.is_open}  # of a metric that changed anew
        for change in changes:
            if change.alarm.state == "resolved" and change.alarm.condition.fingerprint not in goes_on:
                self._drift.forget(change.alarm.condition)
            if change.event == "firing":
                self._verdicts.rang(change.alarm.condition.group, now)
        return changed

    def _begin(self, now: float) -> None:
        self._seq, state = self.archive.cursor()
        self.blame.forget()
        self._references = None  # another process may have learned seasons meanwhile
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
        heard: Counter[Group] = Counter()
        for window in served:
            if window.outcomes or window.sessions:
                heard[window.group] += window.sessions
        self._verdicts.heard(heard)
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
        self._compare()
        self._verdicts.pinned_now({reference.id for reference in self._pinned.values()} - before)
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
            begin, _ = counts_from(group, self.archive.alarms(since), since)
            if begin > since and self.archive.units(group, begin) < needed:
                continue
            windows = self.archive.first(group, begin, needed)
            first = float(min(window.start for window in windows))
            last = float(max(window.start + window.width_s for window in windows))
            for reference in proposed(windows, last, first, last):
                self.archive.propose(reference)
        self._take_references()

    def _lengthen(self, now: float) -> None:
        """Propose a healthy day instead of references of some hours."""
        if now - self._lengthened_at < LOOK_S:
            return
        self._lengthened_at = now
        if found := short(self.archive.references(), self.archive.alarms(now - DAY_S), now):
            for reference in days(found, self.archive.windows(now - DAY_S, now), now):
                self.archive.propose(reference)
                log.info("a day of %s is proposed as its reference", reference.group.label)

    def _learn(self, now: float) -> None:
        """Learn what is usual at each hour of the week, once there are two weeks."""
        if self._learner.learn(self._pinned, self.archive.changes(), now):
            self._compare()

    def _compare(self) -> None:
        self._drift.compare_with(self._pinned, self._learner.of(self._pinned), self._wobbles.of(self._pinned))

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
