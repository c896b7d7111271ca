"""The one kind of fact that everything is watched by: a flat, frozen record."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = [
    "Emit",
    "Measure",
    "Record",
]

Measure = float | int | str | None


@dataclass(frozen=True, slots=True)
class Record:
    """One fact about one session, or about one unit of work inside it.

    `measures` are named `stage.metric_unit`, e.g. `vad.speech_s`. `outcome` is `ok` or the cause of what is
    missing. Append-only: a record is never changed.
    """

    kind: str  # "session" | "unit"
    id: str
    session_id: str
    at: float  # unix seconds
    channel: str  # upload | listen | realtime
    bundle: str
    bundle_version: str
    outcome: str = "ok"
    tenant: str = ""
    tenant_class: str = "consumer"
    arm: str = "champion"
    versions: Mapping[str, str] = field(default_factory=dict)  # of each stage's component
    measures: Mapping[str, Measure] = field(default_factory=dict)

    def number(self, name: str, default: float = 0.0) -> float:
        """Return a measure as a number; `default` where it is none."""
        value = self.measures.get(name)
        return float(value) if isinstance(value, int | float) else default


Emit = Callable[[Record], None]
