"""The record: a flat, frozen fact about a session, which all monitoring is computed from."""

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
    """One fact about one session, or about one utterance in it. Records are appended and never changed.

    `measures` are named `stage.metric_unit`, e.g. `vad.speech_s`. `outcome` is `ok`, or the cause why a text is
    missing.
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
        """Return a measure as a number; `default` if it is missing or not a number."""
        value = self.measures.get(name)
        return float(value) if isinstance(value, int | float) else default


Emit = Callable[[Record], None]
