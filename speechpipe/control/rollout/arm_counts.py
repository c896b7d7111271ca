"""Counts of the sessions of one step, computed from records, so that all processes count the same after restarts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from speechpipe.control.rollout.guards import GuardSet
from speechpipe.foundation.stats.eprocess import Betting, Bounded
from speechpipe.foundation.storage.record import Record
from speechpipe.serving.assignment import CANARY, CHAMPION, ROLLOUT, STEP, UNIT

MOST_UNITS = 500_000
"""Beyond this many, returning units are counted again; the evidence is decisive long before."""


@dataclass
class Sessions:
    """Sessions with and without an event, by unit (user).

    Sessions of one user are correlated: a broken microphone spoils many. `effect` is Kish's design effect: the variance
    of the rate with users as clusters, divided by that of independent sessions; 1 if no user returns.
    """

    of_unit: dict[str, list[int]] = field(default_factory=dict)  # unit -> [sessions, those with an event]
    count: int = 0
    events: int = 0

    def add(self, unit: str, *, event: bool) -> None:
        """Count a session, or (`event`) an event of a counted session."""
        cell = self.of_unit.setdefault(unit, [0, 0])
        cell[event] += 1
        self.count += not event
        self.events += event

    @property
    def effect(self) -> float:
        """The design effect, at least 1."""
        if not 0 < self.events < self.count or len(self.of_unit) == self.count:
            return 1.0
        rate = self.events / self.count
        between = sum((events - rate * sessions) ** 2 for sessions, events in self.of_unit.values())
        return max(1.0, between / (self.count * rate * (1 - rate)))


@dataclass
class ArmCounts:
    """Counts of one step of a rollout: units (users or sessions), each once for each guard, and sessions.

    If both arms run at the same time, units are compared, because they are randomised. In blue/green, the candidate's
    sessions (`compared`) are compared with the champion's earlier ones, because units differ in observation time.
    """

    guard_set: GuardSet
    rollout: int
    step: int
    slow_s: float
    harm: float = 0.05
    units: Counter[str] = field(default_factory=Counter)  # arm -> units
    sessions: Counter[str] = field(default_factory=Counter)  # arm -> sessions
    events: dict[str, Counter[str]] = field(default_factory=dict)  # guard -> arm -> units
    shadowed: int = 0
    first_at: float | None = None
    last_at: float = 0.0

    def __post_init__(self) -> None:
        self.events = {guard.name: Counter() for guard in self.guard_set.events}
        self.harmed = {guard.name: Betting(self.harm, -1.0, 1.0, above=True) for guard in self.guard_set.paired}
        self.unharmed = {guard.name: Betting(self.harm, -1.0, 1.0) for guard in self.guard_set.paired}
        self.bounded = {(name, arm): Bounded() for name in self.guard_set.bounded for arm in (CHAMPION, CANARY)}
        self.means: dict[str, list[float]] = {}  # measure -> [count, sum, sum of squares]
        self._seen: set[tuple[str, str]] = set()
        self.compared = {guard.name: Sessions() for guard in self.guard_set.events}  # the candidate's
        self._counted: set[tuple[str, str]] = set()

    def take(self, record: Record) -> None:
        """Count a record, if it belongs to this step."""
        measures = record.measures
        if measures.get(ROLLOUT) != self.rollout or measures.get(STEP) != self.step:
            return
        if record.kind == "shadow":
            self._take_pair(record)
            return
        if record.arm not in (CHAMPION, CANARY) or record.kind not in ("session", "unit", "feedback"):
            return
        unit = str(measures.get(UNIT) or record.session_id)
        if record.kind == "session":
            self.sessions[record.arm] += 1
            self._note(record.at)
        if record.kind == "unit":
            for name in self.guard_set.bounded:
                value = measures.get(name)
                if isinstance(value, int | float) and 0 <= value <= 1:
                    self.bounded[name, record.arm].update(float(value))
        if record.kind != "feedback" and self._new("", unit):
            self.units[record.arm] += 1
        happened = [guard.name for guard in self.guard_set.events if guard.happened(record, self.slow_s)]
        for name in happened:
            if self._new(name, unit):
                self.events[name][record.arm] += 1
        if record.arm == CANARY:
            self._compare(record, unit, happened)

    def _compare(self, record: Record, unit: str, happened: Sequence[str]) -> None:
        session = record.session_id
        if record.kind != "feedback" and len(self._counted) < MOST_UNITS and ("", session) not in self._counted:
            self._counted.add(("", session))
            for sessions in self.compared.values():
                sessions.add(unit, event=False)
        for name in happened:
            if ("", session) in self._counted and (name, session) not in self._counted:
                self._counted.add((name, session))
                self.compared[name].add(unit, event=True)

    def _note(self, at: float) -> None:
        self.first_at = at if self.first_at is None else min(at, self.first_at)
        self.last_at = max(at, self.last_at)

    def _new(self, name: str, unit: str) -> bool:
        if (name, unit) in self._seen:
            return False
        if len(self._seen) < MOST_UNITS:
            self._seen.add((name, unit))
        return True

    def _take_pair(self, record: Record) -> None:
        self.shadowed += 1
        self._note(record.at)
        for guard in self.guard_set.paired:
            value = record.measures.get(guard.measure)
            if isinstance(value, int | float):
                self.harmed[guard.name].update(float(value))
                self.unharmed[guard.name].update(float(value))
        names = [*self.guard_set.shown, *(measure for _, measure in self.guard_set.halves)]
        for name in names:
            value = record.measures.get(name)
            if isinstance(value, int | float):
                mean = self.means.setdefault(name, [0.0, 0.0, 0.0])
                mean[0] += 1
                mean[1] += float(value)
                mean[2] += float(value) ** 2

    def interval(self, name: str) -> tuple[float, float, float] | None:
        """Return (mean, low, high) of a shadow measure with a normal 95 % interval; None if unknown."""
        if name not in self.means:
            return None
        count, total, squares = self.means[name]
        mean = total / count
        spread = max(0.0, squares / count - mean**2) ** 0.5 / max(count - 1, 1) ** 0.5
        return mean, mean - 1.96 * spread, mean + 1.96 * spread

    @property
    def per_hour(self) -> float | None:
        """Sessions an hour, all arms; None with fewer than 5."""
        total = self.shadowed or self.sessions.total()
        if self.first_at is None or total < 5 or self.last_at <= self.first_at:
            return None
        return (total - 1) / (self.last_at - self.first_at) * 3600


def baseline(guard_set: GuardSet, records: Sequence[Record], slow_s: float) -> dict[str, tuple[int, int]]:
    """Return guard -> (events, sessions) of a champion's records from before a rollout.

    Both are divided by the design effect of returning users (`Sessions.effect`).
    """
    mine = [record for record in records if record.arm == CHAMPION]
    units = {
        record.session_id: str(record.measures.get(UNIT) or record.session_id)
        for record in mine
        if record.kind == "session"
    }
    found = {}
    for guard in guard_set.events:
        sessions = Sessions()
        for unit in units.values():
            sessions.add(unit, event=False)
        for session in {record.session_id for record in mine if guard.happened(record, slow_s)} & units.keys():
            sessions.add(units[session], event=True)
        effect = sessions.effect
        found[guard.name] = (round(sessions.events / effect), round(sessions.count / effect))
    return found
