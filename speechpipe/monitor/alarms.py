"""Alarms: pending -> firing -> resolved, one for each thing that is wrong, however often it is said.

A pure state machine: the open alarms of the store, conditions and the time in, changes out.
"""

import hashlib
from collections.abc import Iterable
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
    firing_at: float | None = None
    resolved_at: float | None = None
    acknowledged_at: float | None = None
    acknowledged_by: str | None = None
    blame: str = ""  # whom the verdict names, and why
    gone_at: float | None = None  # when the condition was first seen to be over; None while it lasts

    @property
    def is_open(self) -> bool:
        """Whether it is not over."""
        return self.state in ("pending", "firing")


@dataclass(frozen=True, slots=True)
class Transition:
    """An alarm as it is to be, and the state in the store that the decision was made from (empty: it is new)."""

    alarm: Alarm
    was: str

    @property
    def event(self) -> str:
        """What sinks are told: `firing`, `resolved`, or nothing (empty)."""
        if self.alarm.state == "firing" and self.was != "firing":
            return "firing"
        return "resolved" if self.alarm.state == "resolved" and self.alarm.firing_at is not None else ""


def step(known: Iterable[Alarm], now: float, conditions: Iterable[Condition]) -> list[Transition]:
    """Return what changes of the open alarms, given what is wrong now.

    Pure: nothing has happened until the changes are written. A clock that goes backwards changes nothing meanwhile.
    """
    before = {alarm.condition.fingerprint: alarm for alarm in known if alarm.is_open}
    after: dict[str, Alarm] = {}
    for condition in conditions:
        fingerprint = condition.fingerprint
        alarm = after.get(fingerprint) or before.get(fingerprint)
        if alarm is None:
            alarm = Alarm(_id(fingerprint, now), condition, "pending", now)
        alarm = replace(alarm, condition=condition, gone_at=None)
        if alarm.state == "pending" and now - alarm.pending_at >= condition.for_s:
            alarm = replace(alarm, state="firing", firing_at=now)
        after[fingerprint] = alarm
    for fingerprint, alarm in before.items():
        if fingerprint not in after:
            gone_at = now if alarm.gone_at is None else alarm.gone_at
            over = now - gone_at >= (FORGET_PENDING_S if alarm.state == "pending" else RESOLVE_S)
            gone = replace(alarm, gone_at=gone_at)
            after[fingerprint] = replace(gone, state="resolved", resolved_at=now) if over else gone
    return [
        Transition(alarm, old.state if old is not None else "")
        for fingerprint, alarm in after.items()
        if (old := before.get(fingerprint)) is None or (old.state, old.gone_at) != (alarm.state, alarm.gone_at)
    ]


def as_told(alarm: Alarm, event: str) -> Alarm:
    """Return the alarm as it was when `event` happened: it may have been resolved before anybody was told of it."""
    return replace(alarm, state="firing", resolved_at=None) if event == "firing" else alarm


def _id(fingerprint: str, now: float) -> str:
    return hashlib.sha256(f"{fingerprint}@{now}".encode()).hexdigest()[:16]
