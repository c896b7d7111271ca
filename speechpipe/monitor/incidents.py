"""Incidents: the alarms of one cause, so that operators are told of one thing, and not of each figure that it moves.

What a fault changes, it changes at the same time. So an alarm belongs to the incident during whose alarms its own
change began; a change that began later is another incident, also while the alarms of the one before are still open.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from speechpipe.monitor.alarms import Alarm, Condition, Transition
from speechpipe.monitor.spec import Severity

SLACK_S = 30.0
"""A change may have begun so long after the last alarm of its incident: when it began is known roughly."""

UNDATED_S = 300.0
"""An alarm that does not tell since when its metric has changed is of a cause that rang at most so long before."""

REMEMBERED_S = 3_600.0
"""A slow figure may ring so long after the incident's other alarms are over."""

APART = frozenset({"change", "reference"})
"""Rules whose alarms belong to no incident: they tell of what operators did or have to do."""


@dataclass(frozen=True)
class Incident:
    """Alarms of one cause, those that began to fire first in front. Times are unix seconds."""

    id: str
    alarms: tuple[Alarm, ...]

    @property
    def first(self) -> Alarm:
        """The alarm to show: the first page, or the first of all."""
        pages = (alarm for alarm in self.alarms if alarm.condition.severity == Severity.PAGE.value)
        return next(pages, self.alarms[0])

    @property
    def severity(self) -> str:
        """That of its most severe alarm."""
        return self.first.condition.severity

    @property
    def firing_at(self) -> float:
        """When its first alarm began to fire."""
        return min(alarm.firing_at or alarm.pending_at for alarm in self.alarms)

    @property
    def since(self) -> float:
        """When its change began, as far as its alarms tell."""
        return min([self.firing_at, *(alarm.condition.since for alarm in self.alarms if alarm.condition.since)])

    @property
    def resolved_at(self) -> float | None:
        """When its last alarm was resolved; None while one fires."""
        ends = [alarm.resolved_at for alarm in self.alarms]
        return None if None in ends else max(end for end in ends if end is not None)

    @property
    def ended_at(self) -> float | None:
        """When the last of its changes was seen to be over, before that resolves its alarm; None while one lasts."""
        ends = [alarm.gone_at or alarm.resolved_at for alarm in self.alarms]
        return None if None in ends else max(end for end in ends if end is not None)

    @property
    def is_dated(self) -> bool:
        """Whether any of its alarms tells since when its metric has changed."""
        return any(alarm.condition.since for alarm in self.alarms)

    @property
    def groups(self) -> tuple[str, ...]:
        """The labels of the groups of traffic that it concerns."""
        return tuple(dict.fromkeys(alarm.condition.group for alarm in self.alarms))

    @property
    def blame(self) -> str:
        """The verdict's label and reason: one that names a stage, if there is one; empty before there is any."""
        said = [alarm.blame for alarm in self.alarms if alarm.blame]
        return next((text for text in said if not text.startswith("none:")), said[0] if said else "")


def incidents(alarms: Iterable[Alarm]) -> list[Incident]:
    """Return the incidents of these alarms, the newest first. Alarms that belong to none are left out."""
    found: dict[str, list[Alarm]] = {}
    for alarm in sorted(alarms, key=lambda one: one.firing_at or one.pending_at):
        if alarm.incident:
            found.setdefault(alarm.incident, []).append(alarm)
    whole = [Incident(name, tuple(mine)) for name, mine in found.items()]
    return sorted(whole, key=lambda one: -one.firing_at)


def assigned(alarm: Alarm, known: Iterable[Alarm]) -> Alarm:
    """Return an alarm that begins to fire with its incident: one of those of the `known` alarms, or a new one.

    If its metric does not tell since when it has changed, it belongs to the newest open incident in which another alarm
    of the same metric and group fires, or which is about the same bundle, or the server, and rang a little before.
    """
    if alarm.incident or alarm.condition.rule in APART:
        return alarm
    condition = alarm.condition
    known_since = condition.since is not None and math.isfinite(condition.sooner_s)
    began = alarm.pending_at - UNDATED_S
    if condition.since is not None and known_since:
        began = condition.since - condition.sooner_s
    for one in incidents(known):
        if not known_since:
            if one.resolved_at is not None or not _about_the_same(one, condition):
                continue
            if any(_key(other.condition) == _key(condition) and other.is_open for other in one.alarms):
                return replace(alarm, incident=one.id)
        # When a limit is crossed, or a figure without an onset rings, tells nothing of how long changes went on.
        dated = [other for other in one.alarms if other.condition.since is not None] or one.alarms
        last = max(other.firing_at or other.pending_at for other in dated)
        if began <= last + SLACK_S:
            return replace(alarm, incident=one.id)
    return replace(alarm, incident=hashlib.sha256(f"incident {alarm.id}".encode()).hexdigest()[:12])


def _about_the_same(incident: Incident, condition: Condition) -> bool:
    """Whether an incident has an alarm of the bundle of a condition; those of the server are about all bundles."""
    mine = _bundle(condition)
    others = {_bundle(alarm.condition) for alarm in incident.alarms}
    return not mine or "" in others or mine in others


def _key(condition: Condition) -> tuple[str, str]:
    return condition.metric, condition.group


def _bundle(condition: Condition) -> str:
    """Return the bundle in the label of a condition's group; empty for the server."""
    return next((word for word in condition.group.split() if "@" in word), "")


def with_incidents(changes: Sequence[Transition], alarms: Iterable[Alarm]) -> list[Transition]:
    """Return transitions, those to firing with the incidents that the alarms belong to.

    What changed anew is another incident than that of the alarm that ended for it. `alarms`: those before, open or not.
    """
    present = {change.alarm.id: change.alarm for change in changes}
    known = [present.get(alarm.id, alarm) for alarm in alarms]
    before = {one.condition.fingerprint: one.incident for one in present.values() if one.state == "resolved"}
    found = []
    for change in changes:
        alarm = change.alarm
        if change.event == "firing":
            ended = before.get(alarm.condition.fingerprint)
            alarm = assigned(alarm, [one for one in known if not ended or one.incident != ended])
            known.append(alarm)
        found.append(replace(change, alarm=alarm))
    return found
