"""Traffic that nothing compares: a bundle that serves without a reference of its own is not known to be well."""

from collections.abc import Mapping, Sequence

from speechpipe.monitor.alarms import Condition
from speechpipe.monitor.reference import PROPOSED_ARMS, Reference, reference_before, reference_for
from speechpipe.monitor.spec import Severity
from speechpipe.monitor.windows import Group, Window, merge_all

METRIC, STAGE = "system.reference", "system"

AFTER_S = 600.0
"""Seconds after which operators are told."""

QUIET_S = 300.0
"""Seconds without traffic after which there is nothing to compare."""


def unwatched(windows: Sequence[Window], references: Mapping[Group, Reference], now: float) -> list[Condition]:
    """Return a condition for each group whose traffic has no reference.

    Args:
        windows: those of the last quarter of an hour.
        references: the pinned ones.
        now: unix seconds.
    """
    found = []
    for group in sorted({window.group for window in windows if window.units and window.group.arm in PROPOSED_ARMS}):
        mine = [window for window in windows if window.group == group and window.units]
        until = max(one.start + one.width_s for one in mine)
        if any(group) and reference_for(group, references) is None and now - until < QUIET_S:
            found.append(_condition(group, mine, reference_before(group, references)))
    return found


def _condition(group: Group, windows: Sequence[Window], before: Reference | None) -> Condition:
    units = merge_all(windows).units
    reason = f"{group.bundle} serves without a reference ({units} utterances in the last quarter of an hour): "
    if before is None:
        reason += "nothing compares them"
    else:
        reason += f"only what people notice is compared, with {before.group.bundle}"
    reason += "; `speechpipe reference show` says how many it needs"
    severity = Severity.INVESTIGATE.value
    return Condition("reference", METRIC, STAGE, severity, group.label, reason, value=float(units), for_s=AFTER_S)
