"""What may be done beside sessions, as the engine sees it. `speechpipe.app` hands it whoever does it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from speechpipe.cascade.session import Tap
from speechpipe.foundation.background import BackgroundTask
from speechpipe.foundation.storage.record import Record
from speechpipe.monitor.exposition import GaugeRow
from speechpipe.serving.automation.policy import EffectivePolicy
from speechpipe.types import Bundle, Utterance


@dataclass(frozen=True)
class CompletedSession:
    """A session that is over, and what the machine heard in it (nothing, if it was not asked)."""

    id: str
    tenant: str
    channel: str
    bundle: Bundle | None
    duration_s: float
    utterances: Sequence[Utterance] = ()


class Reviews(Protocol):
    """People who look at results, as the serving side sees them."""

    def start(self) -> None:
        """Begin to work; called once, before sessions are taken."""
        ...

    def close(self) -> None:
        """Stop."""
        ...

    def terms(self, tenant: str, bundle_id: str) -> EffectivePolicy:
        """Return how much the machine may do alone in a new session; from memory."""
        ...

    def hold(self, session_id: str) -> Tap | None:
        """Return what keeps a session's audio until it is known whether somebody must hear it; None: it cannot."""
        ...

    def discard(self, session_ids: Sequence[str]) -> None:
        """Drop the audio of sessions that nobody will look at."""
        ...

    def spoken(self, sessions: Sequence[CompletedSession], terms: EffectivePolicy, *, shadowed: bool) -> None:
        """Take live sessions that are over; returns at once."""
        ...

    def compared(self, record: Record) -> None:
        """Take the record of what a candidate in shadow heard."""
        ...


class Watcher(Protocol):
    """What follows the records."""

    @property
    def tasks(self) -> Iterable[BackgroundTask]:
        """Its background tasks."""
        ...

    def start(self) -> None:
        """Begin to follow."""
        ...

    def close(self) -> None:
        """Stop."""
        ...

    def add_source(self, source: Callable[[], Mapping[str, float]]) -> None:
        """Have `source` asked for figures of the server, every few seconds on a thread of its own."""
        ...

    def gauges(self) -> Sequence[GaugeRow]:
        """Return what it says of itself."""
        ...


class Traces(Protocol):
    """What makes spans of records."""

    def emit(self, record: Record) -> None:
        """Take a record; never raises."""
        ...

    def close(self) -> None:
        """Send what is left."""
        ...
