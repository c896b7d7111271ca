"""Guards: what must not become more frequent. What counts as an event is told by whoever knows the cascade."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from speechpipe.foundation.storage.record import Record


@dataclass(frozen=True)
class Guard:
    """A kind of bad event; a unit of randomisation (a user, a session) has it or has it not."""

    name: str
    help: str
    harmless: float  # an event on fewer sessions than this matters to nobody
    happened: Callable[[Record, float], bool]  # (a session's record, or a unit's, or feedback; the plan's `slow_s`)


@dataclass(frozen=True)
class PairedGuard:
    """What shadow compares: `read` gives harm of one session in -1..1, champion against candidate."""

    name: str
    help: str
    measure: str


@dataclass(frozen=True)
class GuardSet:
    """All guards of a cascade."""

    events: Sequence[Guard]
    paired: Sequence[PairedGuard]
    shown: Mapping[str, str]  # further measures of shadow sessions whose means are shown: measure -> in words
    bounded: Mapping[str, str]  # measures of units in 0..1 whose means are shown for both arms: measure -> in words
    halves: tuple[tuple[str, str], ...]  # (stage, measure: the change if only this stage is the candidate's)

    @property
    def rates(self) -> dict[str, float]:
        """Guard -> harmless rate, as plans have it."""
        return {guard.name: guard.harmless for guard in self.events}
