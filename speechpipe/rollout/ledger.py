"""What the sessions of one step did. Read off records, so every process counts the same, also after a restart."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from speechpipe.monitor import Record
from speechpipe.rollout import CANARY, CHAMPION
from speechpipe.rollout.evidence import Betting, Bounded
from speechpipe.rollout.guards import GuardBook

ROLLOUT, STEP, UNIT = "route.rollout", "route.step", "route.unit"
"""Measures by which a record says to which experiment it belongs; `UNIT` is who was randomised."""

MOST_UNITS = 500_000
"""Beyond, a unit that comes again is counted again: the evidence was decisive long before."""


@dataclass
class Ledger:
    """Counts of one step of one rollout; units (users, sessions) count once for each guard."""

    book: GuardBook
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
        self.events = {guard.name: Counter() for guard in self.book.events}
        self.harmed = {guard.name: Betting(self.harm, -1.0, 1.0, above=True) for guard in self.book.paired}
        self.unharmed = {guard.name: Betting(self.harm, -1.0, 1.0) for guard in self.book.paired}
        self.bounded = {(name, arm): Bounded() for name in self.book.bounded for arm in (CHAMPION, CANARY)}
        self.means: dict[str, list[float]] = {}  # measure -> [count, sum, sum of squares]
        self._seen: set[tuple[str, str]] = set()

    def take(self, record: Record) -> None:
        """Count one record, if it belongs to this step."""
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
            for name in self.book.bounded:
                value = measures.get(name)
                if isinstance(value, int | float) and 0 <= value <= 1:
                    self.bounded[name, record.arm].update(float(value))
        if record.kind != "feedback" and self._new("", unit):
            self.units[record.arm] += 1
        for guard in self.book.events:
            if guard.happened(record, self.slow_s) and self._new(guard.name, unit):
                self.events[guard.name][record.arm] += 1

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
        for guard in self.book.paired:
            value = record.measures.get(guard.measure)
            if isinstance(value, int | float):
                self.harmed[guard.name].update(float(value))
                self.unharmed[guard.name].update(float(value))
        names = [*self.book.shown, *(measure for _, measure in self.book.halves)]
        for name in names:
            value = record.measures.get(name)
            if isinstance(value, int | float):
                mean = self.means.setdefault(name, [0.0, 0.0, 0.0])
                mean[0] += 1
                mean[1] += float(value)
                mean[2] += float(value) ** 2

    def interval(self, name: str) -> tuple[float, float, float] | None:
        """Return (mean, low, high) of a shadow measure, a normal 95 % interval; None if unknown."""
        if name not in self.means:
            return None
        count, total, squares = self.means[name]
        mean = total / count
        spread = max(0.0, squares / count - mean**2) ** 0.5 / max(count - 1, 1) ** 0.5
        return mean, mean - 1.96 * spread, mean + 1.96 * spread

    @property
    def per_hour(self) -> float | None:
        """Sessions an hour, all arms; None while too little is known."""
        total = self.shadowed or self.sessions.total()
        if self.first_at is None or total < 5 or self.last_at <= self.first_at:
            return None
        return (total - 1) / (self.last_at - self.first_at) * 3600


def baseline(book: GuardBook, records: Sequence[Record], slow_s: float) -> dict[str, tuple[int, int]]:
    """Return guard -> (events, sessions) of a champion's records from before a rollout."""
    mine = [record for record in records if record.arm == CHAMPION]
    sessions = {record.session_id for record in mine if record.kind == "session"}
    return {
        guard.name: (
            len({record.session_id for record in mine if guard.happened(record, slow_s)} & sessions),
            len(sessions),
        )
        for guard in book.events
    }
