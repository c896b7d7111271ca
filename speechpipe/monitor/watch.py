"""The watcher follows the records: sums them up, feeds detectors, and says what is wrong.

It reads what the store has, in the order of writing, and keeps how far it came in the same transaction as what it made
of it: a restart, a second process or a clock that jumps loses nothing and counts nothing twice.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from speechpipe.monitor import Record
from speechpipe.monitor.alarms import Alarm, AlarmBook
from speechpipe.monitor.archive import Archive
from speechpipe.monitor.cascade import CascadeSpec
from speechpipe.monitor.drift import DriftWatch
from speechpipe.monitor.limits import MOST_S, LimitWatch
from speechpipe.monitor.profiles import Budget, profile_of
from speechpipe.monitor.reference import pinned, proposed
from speechpipe.monitor.sinks import Sink
from speechpipe.monitor.store import Store
from speechpipe.monitor.windows import SERVER, Group, Grouping, Window, summed_up

BATCH = 2_000
MOST_BATCHES = 20
FINE_S = 3 * 3600.0
"""Windows of a minute are kept for so long; then they are put together."""

HOUSEKEEPING_S = 600.0

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
        self._kept_house_at = 0.0
        self._references: tuple[tuple[int, str], ...] | None = None
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
        conditions = [*self._limits.conditions(now), *self._drift.conditions(self._suppressed(now))]
        changed = self._book.step(now, conditions)
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

    def _begin(self, now: float) -> None:
        self._seq, state = self.archive.cursor()
        self._take_references()
        self._drift.restore(state)
        self._limits = LimitWatch(self._spec, self.archive.windows(now - MOST_S, now + MOST_S))
        self._book = AlarmBook(replace(alarm, seen_at=now) for alarm in self.archive.alarms())

    def _take(self, batch: Sequence[tuple[int, Record]]) -> bool:
        begun, self._seq = self._seq, -1  # if this fails, the detectors have seen what was not committed: begin anew
        found = [record for _, record in batch]
        windows = summed_up(self._spec, found, self._grouping)
        for record in found:
            self._drift.update(self._grouping.group(record), record)
        last = batch[-1][0]
        if not self.archive.commit(begun, last, windows, self._drift.state()):
            return False
        self._seq = last
        self._limits.take(windows)
        self._propose(windows)
        return True

    def _take_references(self) -> None:
        states = self.archive.reference_states()
        if states != self._references:
            self._references = states
            references = self.archive.references()
            self._drift.compare_with(pinned(references))
            self._known = {reference.group for reference in references if reference.status != "retired"}

    def _propose(self, windows: Sequence[Window]) -> None:
        """Propose a reference for a group that has none, from the first that is seen of it."""
        for window in windows:
            group = window.group
            if group in self._known or group.arm not in ("champion", ""):
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
        changing = {tenant for _, tenant, since, until, _ in self.archive.changes() if since <= now < until}
        return lambda group: "" in changing or bool(group.tenant and group.tenant in changing)

    def _keep_house(self, now: float) -> None:
        self.archive.compact(now - FINE_S)
        self.archive.expire(now - self._options.keep_windows_s)
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
