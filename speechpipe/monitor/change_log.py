"""What was changed of the service, beside what happened to its figures: the first question at any degradation.

Nothing is kept here: each subject that can change has its own history in the store, and is asked.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from speechpipe.foundation.times import clock
from speechpipe.monitor.alarms import Condition
from speechpipe.monitor.spec import Severity

BEFORE_S, AFTER_S = 900.0, 120.0
"""A change may be why something else changed, if it lies so long before that at most, or so shortly after: onsets are
known to some cases only."""

TOLD_S = 600.0
"""A change is told for so long, so that a server that starts meanwhile tells it, too."""

MOST_NAMED = 3

METRIC, STAGE = "system.change", "system"


@dataclass(frozen=True, slots=True)
class ServiceChange:
    """One change. `name` tells it from all others; `text` says what, by whom and why."""

    at: float  # unix seconds
    name: str
    text: str
    told: bool = True  # those who get alarms are told
    of_service: bool = True  # False: of what it is compared with only


ChangeSource = Callable[[float, float], Sequence[ServiceChange]]
"""Returns the changes between two times (unix seconds)."""


class ChangeLog:
    """All subjects' changes. Used on the threads of reports and of the watcher."""

    def __init__(self, sources: Iterable[ChangeSource] = ()) -> None:
        self._sources = tuple(sources)

    def between(self, since: float, until: float) -> list[ServiceChange]:
        """Return the changes between two times, oldest first.

        Raises:
            SQLAlchemyError, OSError: the store cannot be read.
        """
        found = [change for source in self._sources for change in source(since, until)]
        return sorted(found, key=lambda change: change.at)


def conditions(changes: Iterable[ServiceChange], now: float) -> list[Condition]:
    """Return a condition for each change of the last minutes that operators are told of."""
    return [
        Condition("change", METRIC, STAGE, Severity.INVESTIGATE.value, f"server: {change.name}", change.text)
        for change in changes
        if change.told and now - TOLD_S <= change.at < now
    ]


def near(changes: Iterable[ServiceChange], onset: float) -> str:
    """Return what was changed shortly before something else did (unix seconds), in words; empty if nothing was."""
    found = [one for one in changes if one.of_service and onset - BEFORE_S <= one.at < onset + AFTER_S][-MOST_NAMED:]
    return "; ".join(
        f"{_before(onset - change.at)} at {clock(change.at, seconds=True)} UTC {change.text}" for change in found
    )


def _before(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min before," if minutes > 0 else "just then,"
