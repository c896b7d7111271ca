"""The alarm state machine: pending -> firing -> resolved, with one alarm for each condition that holds.

Pure: the open alarms, the present conditions and the time go in, the transitions come out.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

RESOLVE_S = 120.0
"""An alarm is resolved when its condition has been gone for this long, so that a flickering condition is one alarm."""

FORGET_PENDING_S = 30.0
"""A pending alarm is dropped when its condition has been gone for this long."""

RAISED = "raised"
"""The event that sinks are notified of when an alarm that fires becomes a page."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that holds now. `fingerprint` identifies it from one tick to the next."""

    rule: str  # "drift" | "limit"
    metric: str
    stage: str
    severity: str  # "page" | "investigate"
    group: str
    reason: str
    value: float | None = None
    expected: float | None = None
    for_s: float = 0.0  # how long the condition must hold before the alarm fires
    since: float | None = None  # when the change began, unix seconds, if the metric tells
    sooner_s: float = 0.0  # it may have begun so much earlier; infinity: not known

    @property
    def fingerprint(self) -> str:
        """Identifies rule, metric and group: one alarm is open for each fingerprint."""
        return f"{self.rule}:{self.metric}:{self.group}"

    @property
    def direction(self) -> int:
        """1 if the value is above what was expected, -1 if it is below; 0: not known."""
        if self.value is None or self.expected is None:
            return 0
        return (self.value > self.expected) - (self.value < self.expected)


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm of the alarm list. Times are unix seconds."""

    id: str
    condition: Condition
    state: str  # pending | firing | resolved
    pending_at: float
    firing_at: float | None = None
    resolved_at: float | None = None
    acknowledged_at: float | None = None
    acknowledged_by: str | None = None
    blame: str = ""  # the verdict's label and its reason
    gone_at: float | None = None  # when the condition was first seen to be gone; None while it holds
    incident: str = ""  # the incident that it belongs to; empty: none

    @property
    def is_open(self) -> bool:
        """Whether it is pending or firing."""
        return self.state in ("pending", "firing")


@dataclass(frozen=True, slots=True)
class Transition:
    """The new state of an alarm, and the state in the store that it was computed from (empty: the alarm is new)."""

    alarm: Alarm
    was: str

    @property
    def event(self) -> str:
        """The event that sinks are notified of: `firing`, `resolved`, or empty for none."""
        if self.alarm.state == "firing" and self.was != "firing":
            return "firing"
        return "resolved" if self.alarm.state == "resolved" and self.alarm.firing_at is not None else ""


def step(
    known: Iterable[Alarm], now: float, conditions: Iterable[Condition], *, renew: bool = False
) -> list[Transition]:
    """Return the transitions of the open alarms, given the conditions that hold now.

    Pure: the caller writes the transitions, in this order. While the clock is behind, open alarms neither fire nor
    resolve, but those of metrics that changed anew. With `renew`, alarms that go on with other figures are among them,
    without an event: what an alarm says rests on the first values of a change, and is to rest on all of them.
    """
    before = {alarm.condition.fingerprint: alarm for alarm in known if alarm.is_open}
    after: dict[str, Alarm] = {}
    ended: list[Transition] = []
    for condition in conditions:
        fingerprint = condition.fingerprint
        if (open_ := before.get(fingerprint)) is not None and _is_another(condition, open_):
            ended.append(Transition(replace(open_, state="resolved", resolved_at=now), open_.state))
            del before[fingerprint]
        alarm = after.get(fingerprint) or before.get(fingerprint)
        if alarm is None:
            alarm = Alarm(_id(fingerprint, now), condition, "pending", now)
        alarm = replace(alarm, condition=_of_alarm(condition, alarm), gone_at=None)
        if alarm.state == "pending" and now - alarm.pending_at >= condition.for_s:
            alarm = replace(alarm, state="firing", firing_at=now)
        after[fingerprint] = alarm
    for fingerprint, alarm in before.items():
        if fingerprint not in after:
            gone_at = now if alarm.gone_at is None else alarm.gone_at
            over = now - gone_at >= (FORGET_PENDING_S if alarm.state == "pending" else RESOLVE_S)
            gone = replace(alarm, gone_at=gone_at)
            after[fingerprint] = replace(gone, state="resolved", resolved_at=now) if over else gone
    return ended + [
        Transition(alarm, old.state if old is not None else "")
        for fingerprint, alarm in after.items()
        if (old := before.get(fingerprint)) is None
        or (old.state, old.gone_at) != (alarm.state, alarm.gone_at)
        or (renew and old.condition.reason != alarm.condition.reason)
    ]


def _of_alarm(condition: Condition, alarm: Alarm) -> Condition:
    """Return the condition that an alarm tells of: not of a later change, which is not what it has rung for.

    How severe one that fires is has been decided, by its metric or by a verdict.
    """
    if alarm.firing_at is None:
        return condition
    if condition.since is not None and condition.since > alarm.firing_at:
        return alarm.condition
    return replace(condition, severity=alarm.condition.severity)


def _is_another(condition: Condition, alarm: Alarm) -> bool:
    """Whether a metric that rang and was well for a while has changed anew: it differs the other way since.

    While its evidence fades, the few last values may be on either side of what was expected.
    """
    if alarm.firing_at is None or alarm.gone_at is None or condition.since is None:
        return False
    if condition.since <= alarm.firing_at:
        return False
    return condition.direction * alarm.condition.direction < 0


def as_told(alarm: Alarm, event: str) -> Alarm:
    """Return the alarm as it was when `event` happened. It may have been resolved before the notice was sent."""
    return replace(alarm, state="firing", resolved_at=None) if event in ("firing", RAISED) else alarm


def _id(fingerprint: str, now: float) -> str:
    return hashlib.sha256(f"{fingerprint}@{now}".encode()).hexdigest()[:16]
