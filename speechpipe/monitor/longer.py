"""Longer references: one that rests on some hours knows little of the others, so a healthy day is proposed instead."""

from collections.abc import Iterable, Sequence

from speechpipe.monitor.alarms import Alarm
from speechpipe.monitor.reference import PROPOSED_ARMS, Reference, proposed
from speechpipe.monitor.spec import Severity
from speechpipe.monitor.windows import Window

DAY_S = 86_400.0

WHOLE = 0.9
"""Its traffic must reach over so much of it: that of a bundle that began to serve since does not."""

LOOK_S = 3_600.0
"""How often it is looked for."""


def short(references: Sequence[Reference], alarms: Iterable[Alarm], now: float) -> list[Reference]:
    """Return the pinned references of less than a day whose traffic has had a day without a page since.

    Not those for which a later proposal waits already.

    Args:
        references: all of them.
        alarms: those of the last day.
        now: unix seconds.
    """
    paged = {
        alarm.condition.group
        for alarm in alarms
        if alarm.condition.severity == Severity.PAGE.value
        and alarm.firing_at is not None
        and (alarm.resolved_at is None or alarm.resolved_at > now - DAY_S)
    }
    waiting = {(one.group, one.since) for one in references if one.status == "proposed"}
    return [
        one
        for one in references
        if one.status == "pinned"
        and any(one.group)
        and one.group.arm in PROPOSED_ARMS
        and one.days < 1.0
        and now - one.since >= DAY_S
        and one.group.label not in paged
        and not any(group == one.group and since > one.since for group, since in waiting)
    ]


def days(short_ones: Iterable[Reference], windows: Iterable[Window], now: float) -> list[Reference]:
    """Return proposals of the last day for the groups of these references, where the day is whole.

    `windows`: those of the last day; `now` is in unix seconds.
    """
    known = {one.group: one for one in short_ones}
    mine = [window for window in windows if window.group in known]
    found = []
    for reference in proposed(mine, now, now - DAY_S, now):
        starts = [window.start for window in mine if window.group == reference.group]
        is_whole = max(starts) - min(starts) >= WHOLE * DAY_S
        if is_whole and reference.units >= known[reference.group].units:
            found.append(reference)
    return found
