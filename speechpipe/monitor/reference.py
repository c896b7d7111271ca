"""References: approved periods of healthy traffic that later traffic is compared with.

A reference is proposed from a period and approved (pinned). It never changes; the next one of its group retires it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from speechpipe.monitor.windows import Group, Window

PROPOSED_ARMS = frozenset({"champion", "named", ""})
"""Arms whose groups get references of their own; candidates are compared with the champion's."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference of one group. `window` aggregates everything between `since` and `until` (unix seconds)."""

    id: int
    group: Group
    since: float
    until: float
    created_at: float
    status: str  # proposed | pinned | retired
    window: Window
    approved_at: float | None = None
    approved_by: str | None = None

    @property
    def days(self) -> float:
        """Its length in days, at least a minute."""
        return max(self.until - self.since, 60.0) / 86_400

    @property
    def units(self) -> int:
        """The number of its units."""
        return self.window.units


@dataclass(frozen=True, slots=True)
class Progress:
    """How many units of a group its first reference would have, and how many it needs.

    `hindered_by`: the metric that is beyond its limit now; nothing counts before it is well. Empty: none.
    """

    group: Group
    units: int
    needed: int
    hindered_by: str = ""


def proposed(windows: Iterable[Window], now: float, since: float, until: float) -> list[Reference]:
    """Return one proposal for each group with records in these windows."""
    found: dict[Group, Window] = {}
    for window in windows:
        mine = found.setdefault(window.group, Window(0, window.group, 0))
        mine.merge(window)
    return [
        Reference(0, group, since, until, now, "proposed", window)
        for group, window in sorted(found.items())
        if window.records and (window.units or not any(group))
    ]


def pinned(references: Iterable[Reference]) -> Mapping[Group, Reference]:
    """Return the pinned references by group."""
    return {reference.group: reference for reference in references if reference.status == "pinned"}


def reference_for(group: Group, references: Mapping[Group, Reference]) -> Reference | None:
    """Return the reference of a group, or else that of the champion in the same group."""
    return references.get(group) or references.get(group._replace(arm="champion"))


def reference_before(group: Group, references: Mapping[Group, Reference]) -> Reference | None:
    """Return the reference that was approved last for the same traffic on another bundle.

    Until a bundle has its own, this is what people had before it.
    """
    champion = group._replace(arm="champion")
    found = [
        reference
        for other, reference in references.items()
        if any(group) and other.bundle != group.bundle and other._replace(bundle=group.bundle) in (group, champion)
    ]
    return max(found, key=lambda reference: reference.approved_at or 0.0, default=None)


def approve(reference: Reference, by: str, now: float) -> Reference:
    """Return the reference as pinned by `by` at `now` (unix seconds)."""
    return replace(reference, status="pinned", approved_at=now, approved_by=by)
