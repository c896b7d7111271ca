"""Alarms: pending -> firing -> resolved, one for each thing that is wrong, however often it is said.

A pure state machine: conditions and the time in, changed alarms out.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

RESOLVE_S = 120.0
"""A condition must be gone for so long: what flickers is one alarm."""

FORGET_PENDING_S = 30.0


@dataclass(frozen=True, slots=True)
class Condition:
    """Something is wrong now. `fingerprint` says what it is about."""

    rule: str  # "drift" | "limit"
    metric: str
    stage: str
    severity: str  # "page" | "investigate"
    group: str
    reason: str
    value: float | None = None
    expected: float | None = None
    for_s: float = 0.0  # how long it must last before it fires

    @property
    def fingerprint(self) -> str:
        """The same for the same thing."""
        return f"{self.rule}:{self.metric}:{self.group}"


@dataclass(frozen=True, slots=True)
class Alarm:
    """One row of the alarm list. Times are unix seconds."""

    id: str
    condition: Condition
    state: str  # pending | firing | resolved
    pending_at: float
    seen_at: float  # when the condition was last true
    firing_at: float | None = None
    resolved_at: float | None = None
    acknowledged_at: float | None = None
    acknowledged_by: str | None = None
    blame: str = ""  # whom the verdict names, and why

    @property
    def is_open(self) -> bool:
        """Whether it is not over."""
        return self.state in ("pending", "firing")


class AlarmBook:
    """All open alarms. Time that goes backwards stands still here."""

    def __init__(self, alarms: Iterable[Alarm] = ()) -> None:
        self._open: dict[str, Alarm] = {alarm.condition.fingerprint: alarm for alarm in alarms if alarm.is_open}
        self._now = 0.0

    @property
    def open(self) -> Mapping[str, Alarm]:
        """By fingerprint."""
        return self._open

    def step(self, now: float, conditions: Iterable[Condition]) -> list[Alarm]:
        """Take what is wrong now; return the alarms whose state changed, firing and resolved ones to be told."""
        self._now = now = max(now, self._now)
        changed: list[Alarm] = []
        for condition in conditions:
            fingerprint = condition.fingerprint
            alarm = self._open.get(fingerprint)
            if alarm is None:
                alarm = Alarm(_id(fingerprint, now), condition, "pending", now, now)
                changed.append(alarm)
            alarm = replace(alarm, seen_at=now, condition=condition)
            if alarm.state == "pending" and now - alarm.pending_at >= condition.for_s:
                alarm = replace(alarm, state="firing", firing_at=now)
                changed = [other for other in changed if other.id != alarm.id] + [alarm]
            self._open[fingerprint] = alarm
        for fingerprint, alarm in list(self._open.items()):
            gone_s = now - alarm.seen_at
            if gone_s >= (FORGET_PENDING_S if alarm.state == "pending" else RESOLVE_S):
                del self._open[fingerprint]
                changed.append(replace(alarm, state="resolved", resolved_at=now))
        return changed

    def acknowledge(self, alarm_id: str, by: str, now: float) -> Alarm | None:
        """Note that somebody has seen it; None if it is not open."""
        for fingerprint, alarm in self._open.items():
            if alarm.id == alarm_id:
                found = replace(alarm, acknowledged_at=now, acknowledged_by=by)
                self._open[fingerprint] = found
                return found
        return None

    def annotate(self, alarm: Alarm, blame: str) -> Alarm:
        """Note whom blame names."""
        found = replace(alarm, blame=blame)
        if alarm.condition.fingerprint in self._open:
            self._open[alarm.condition.fingerprint] = found
        return found


def _id(fingerprint: str, now: float) -> str:
    return hashlib.sha256(f"{fingerprint}@{now}".encode()).hexdigest()[:16]
