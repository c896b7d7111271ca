"""Protocols of the services beside sessions that the engine calls; `speechpipe.app` passes implementations to it."""

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
    """A completed session with its utterances; `bundle` is None if no recognizer was used (`human_only`)."""

    id: str
    tenant: str
    channel: str
    bundle: Bundle | None
    duration_s: float
    utterances: Sequence[Utterance] = ()


class Reviews(Protocol):
    """The review service as the serving side sees it."""

    def start(self) -> None:
        """Start; called once, before sessions are accepted."""
        ...

    def close(self) -> None:
        """Stop."""
        ...

    def terms(self, tenant: str, bundle_id: str) -> EffectivePolicy:
        """Return the automation policy for a new session, from memory."""
        ...

    def hotwords(self, tenant: str) -> tuple[str, ...]:
        """Return the hotwords of a tenant's list, from memory."""
        ...

    def hold(self, session_id: str) -> Tap | None:
        """Return a tap that keeps a session's audio until it is decided whether it is reviewed; None on failure."""
        ...

    def discard(self, session_ids: Sequence[str]) -> None:
        """Delete the held audio of sessions that will not be reviewed."""
        ...

    def spoken(self, sessions: Sequence[CompletedSession], terms: EffectivePolicy, *, shadowed: bool) -> None:
        """Take completed live sessions; returns at once."""
        ...

    def compared(self, record: Record) -> None:
        """Take the record of a comparison with a candidate in shadow."""
        ...


class Watcher(Protocol):
    """The monitoring service as the engine sees it."""

    @property
    def tasks(self) -> Iterable[BackgroundTask]:
        """Its background tasks."""
        ...

    def start(self) -> None:
        """Start to follow the records."""
        ...

    def close(self) -> None:
        """Stop."""
        ...

    def add_source(self, source: Callable[[], Mapping[str, float]]) -> None:
        """Have `source` called for measures of the server every few seconds, on a background thread."""
        ...

    def gauges(self) -> Sequence[GaugeRow]:
        """Return its Prometheus rows."""
        ...


class Traces(Protocol):
    """Makes spans from records."""

    def emit(self, record: Record) -> None:
        """Take a record; never raises."""
        ...

    def close(self) -> None:
        """Send the remaining spans."""
        ...
