"""From when on the traffic of a group may become its first reference: not from times in which it paged."""

from collections.abc import Iterable

from speechpipe.monitor.alarms import Alarm
from speechpipe.monitor.spec import Severity
from speechpipe.monitor.windows import Group

RULE = "limit"
"""Limits need no reference, so they are what tells that traffic without one is not healthy."""


def counts_from(group: Group, alarms: Iterable[Alarm], since: float) -> tuple[float, str]:
    """Return from when on the traffic of a group counts, and what keeps it from that now.

    Args:
        group: one without a reference.
        alarms: open ones, and those resolved after `since`.
        since: unix seconds.

    Returns:
        Unix seconds: `since`, or the end of the last page of a limit; and the metric that is beyond its limit now
        (empty: none). While there is one, nothing counts, and the time is infinite.
    """
    for alarm in alarms:
        condition = alarm.condition
        mine = condition.rule == RULE and condition.group == group.label
        if not mine or condition.severity != Severity.PAGE.value or alarm.firing_at is None:
            continue
        if alarm.resolved_at is None:
            return float("inf"), condition.metric
        since = max(since, alarm.resolved_at)
    return since, ""
