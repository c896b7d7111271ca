"""Guards: event rates that a candidate must not raise. The cascade's own guards are in `speech_guards.py`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from speechpipe.foundation.storage.record import Record


@dataclass(frozen=True)
class Guard:
    """A kind of harmful event. Each unit (user or session) has it or not."""

    name: str
    help: str
    harmless: float  # a rate of events below this does not matter
    happened: Callable[[Record, float], bool]  # (record of a session, unit or feedback; the plan's `slow_s`)


@dataclass(frozen=True)
class PairedGuard:
    """A harm measured in shadow, for each session in -1..1: the candidate's minus the champion's."""

    name: str
    help: str
    measure: str


@dataclass(frozen=True)
class GuardSet:
    """All guards of a cascade."""

    events: Sequence[Guard]
    paired: Sequence[PairedGuard]
    shown: Mapping[str, str]  # further shadow measures whose means are shown -> description
    bounded: Mapping[str, str]  # measures of units in 0..1 whose means are shown for both arms -> description
    halves: tuple[tuple[str, str], ...]  # (stage, measure: the change if only this stage is the candidate's)

    @property
    def rates(self) -> dict[str, float]:
        """Guard -> harmless rate, as in plans."""
        return {guard.name: guard.harmless for guard in self.events}
