"""The calendar of announced changes, which suppress drift alarms and approve the reference that follows them.

An operator has announced that the data will change. The traffic after it needs no second approval: it becomes the
reference as soon as there is enough of it. Until then, for a week at most, drift alarms stay suppressed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from speechpipe.monitor.profiles import profile_of
from speechpipe.monitor.reference import Reference, proposed
from speechpipe.monitor.windows import Group, Window

PATIENCE_S = 7 * 86_400.0
"""After this long without enough traffic for a new reference, the old one counts again."""


@dataclass(frozen=True, slots=True)
class Change:
    """An operator's announcement that the data of a tenant (of all, if empty) will change. Times are unix seconds."""

    number: int
    tenant: str
    since: float
    until: float
    note: str

    def concerns(self, group: Group) -> bool:
        """Whether a group belongs to the announced tenant."""
        return not self.tenant or self.tenant == group.tenant

    def awaits_reference(self, reference: Reference, now: float) -> bool:
        """Whether a reference from before the change is waiting to be replaced."""
        ended = self.until <= now < self.until + PATIENCE_S
        return ended and self.concerns(reference.group) and reference.since < self.until


def suppressed(group: Group, changes: Iterable[Change], reference: Reference | None, now: float) -> bool:
    """Whether drift alarms of a group are suppressed now."""
    return any(
        change.concerns(group)
        and (change.since <= now < change.until or (reference is not None and change.awaits_reference(reference, now)))
        for change in changes
    )


def successors(
    change: Change, references: Mapping[Group, Reference], windows: Sequence[Window], now: float
) -> list[Reference]:
    """Return new references from the windows after a change, for groups with enough of them."""
    after = [window for window in windows if window.start >= change.until]
    if not after:
        return []
    until = float(max(window.start + window.width_s for window in after))
    return [
        found
        for found in proposed(after, now, change.until, until)
        if (known := references.get(found.group)) is not None
        and change.awaits_reference(known, now)
        and (found.units or found.window.records) >= profile_of(found.group.tenant_class).reference_units
    ]
