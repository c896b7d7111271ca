"""Traffic that has stopped: without sessions no other metric has a value, and nothing else rings."""

from collections.abc import Callable, Sequence

from speechpipe.monitor.alarms import Condition
from speechpipe.monitor.spec import Severity
from speechpipe.monitor.windows import Window

METRIC, STAGE = "system.no_traffic", "system"

SPAN_S = 1_800.0
"""The time that is compared: the last half hour."""

BEFORE_S = (86_400.0, 7 * 86_400.0, 14 * 86_400.0)
"""How long ago the same time of day was: traffic has hours, and weekends."""

HOLD_S = 120.0
"""A server that was down itself gives its clients so long to come back."""

LEAST_RECORDS = 40
"""Records of traffic in each of those, before no record at all is unusual."""


def no_traffic(
    windows: Sequence[Window], records: Callable[[float, float], int], first: float | None, now: float
) -> list[Condition]:
    """Return a condition if there was no traffic for half an hour, unlike at that time a day, a week and two weeks ago.

    In its first day a server rings nothing; in its first week it is compared with the day before, and so on.

    Args:
        windows: those of the last minutes, which say cheaply whether there is traffic.
        records: returns the records of traffic between two times (unix seconds).
        first: when the history begins; None: there is none.
        now: unix seconds.
    """
    if first is None or any(any(window.group) for window in windows) or records(now - SPAN_S, now):
        return []
    known = [before for before in BEFORE_S if first <= now - before - SPAN_S]
    expected = [records(now - before - SPAN_S, now - before) for before in known]
    if not expected or min(expected) < LEAST_RECORDS:
        return []
    reason = f"no traffic in the last half hour ({min(expected)} records or more at this time of day before)"
    return [Condition("traffic", METRIC, STAGE, Severity.PAGE.value, "all traffic", reason, value=0.0, for_s=HOLD_S)]
