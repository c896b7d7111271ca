"""Where records go: metrics, traces and the store's queue."""

from typing import TYPE_CHECKING

from speechpipe.config import Settings
from speechpipe.errors import InvalidParameter
from speechpipe.foundation.storage.record import Record
from speechpipe.monitor.exposition import Exposition
from speechpipe.monitor.windows import UNSERVED
from speechpipe.serving.hooks import Traces

if TYPE_CHECKING:  # importing SQLAlchemy would slow the start of the command line
    from speechpipe.foundation.storage.store import Store


class RecordSink:
    """Passes records on. Thread-safe."""

    def __init__(self, exposition: Exposition, store: "Store | None" = None, traces: Traces | None = None) -> None:
        """Pass records to `exposition`, and to `traces` and `store` if there are any."""
        self._exposition = exposition
        self._store = store
        self._traces = traces

    def emit(self, record: Record) -> None:
        """Pass a record to metrics, traces and the store's queue; never blocks."""
        if record.arm != UNSERVED:
            self._exposition.observe(record)
            if self._traces is not None:
                self._traces.emit(record)
        if self._store is not None:
            self._store.append(record)

    def close(self) -> None:
        """Send the remaining spans."""
        if self._traces is not None:
            self._traces.close()


def tracing(settings: Settings) -> Traces | None:
    """Return the tracing of records if the settings enable it, else None.

    Raises:
        InvalidParameter: OpenTelemetry is not installed.
    """
    if not settings.traces:
        return None
    try:
        from speechpipe.serving.telemetry.tracing import Tracing
    except ImportError as error:
        message = "SPEECHPIPE_TRACES needs OpenTelemetry: pip install 'speechpipe[otel]'"
        raise InvalidParameter(message, param="traces") from error
    return Tracing()
