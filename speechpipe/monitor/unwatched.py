"""Traffic that nothing compares: a bundle that serves without a reference of its own is not known to be well."""

from collections.abc import Mapping, Sequence

from speechpipe.monitor.alarms import Condition
from speechpipe.monitor.reference import PROPOSED_ARMS, Reference, reference_before, reference_for
from speechpipe.monitor.spec import Severity
from speechpipe.monitor.windows import Group, Window

METRIC, STAGE = "system.reference", "system"

MOST_S = 900.0
"""Seconds of traffic that are looked at."""

AFTER_S = 600.0
"""Seconds after which operators are told."""

QUIET_S = 300.0
"""Seconds without traffic after which there is nothing to compare."""


def unwatched(windows: Sequence[Window], references: Mapping[Group, Reference], now: float) -> list[Condition]:
    """Return a condition for each bundle of whose traffic some has no reference.

    Args:
        windows: those of the last quarter of an hour.
        references: the pinned ones.
        now: unix seconds.
    """
    by_bundle: dict[str, list[Window]] = {}
    for window in windows:
        if not any(window.group) or not window.units or window.group.arm not in PROPOSED_ARMS:
            continue
        if reference_for(window.group, references) is None and now - window.start < MOST_S:
            by_bundle.setdefault(window.group.bundle, []).append(window)
    return [
        _condition(bundle, mine, references)
        for bundle, mine in sorted(by_bundle.items())
        if now - max(window.start + window.width_s for window in mine) < QUIET_S
    ]


def _condition(bundle: str, windows: Sequence[Window], references: Mapping[Group, Reference]) -> Condition:
    units = sum(window.units for window in windows)
    groups = {window.group for window in windows}
    before = {one.group.bundle for group in groups if (one := reference_before(group, references)) is not None}
    reason = f"{bundle} serves without a reference ({units} utterances in the last quarter of an hour"
    reason += f", {len(groups)} groups of traffic): " if len(groups) > 1 else "): "
    if before:
        reason += f"only what people notice is compared, with {', '.join(sorted(before))}"
    else:
        reason += "nothing compares them"
    reason += "; `speechpipe reference show` says how many it needs"
    severity = Severity.INVESTIGATE.value
    return Condition("reference", METRIC, STAGE, severity, bundle, reason, value=float(units), for_s=AFTER_S)
