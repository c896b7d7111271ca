"""Pinned references: what was normal, with a version and somebody's name under it.

A reference is proposed from a stretch of time, looked at, approved. It is never changed; the next one retires it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from speechpipe.monitor.windows import Group, Window

PROPOSED_ARMS = frozenset({"champion", "named", ""})
"""Arms whose groups get a reference of their own; candidates are compared with the champion's."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Of one group. `window` sums up everything between `since` and `until`."""

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
        """How long it is, at least a minute."""
        return max(self.until - self.since, 60.0) / 86_400

    @property
    def units(self) -> int:
        """Units of work in it."""
        return self.window.units


@dataclass(frozen=True, slots=True)
class Progress:
    """How many units of a group the store has, of those that its first reference needs."""

    group: Group
    units: int
    needed: int


def proposed(windows: Iterable[Window], now: float, since: float, until: float) -> list[Reference]:
    """Return one proposal for each group that has units of work (or is the server) in these windows."""
    found: dict[Group, Window] = {}
    for window in windows:
        mine = found.setdefault(window.group, Window(0, window.group, 0))
        mine.merge(window)
    return [
        Reference(0, group, since, until, now, "proposed", window)
        for group, window in sorted(found.items())
        if window.records
    ]


def pinned(references: Iterable[Reference]) -> Mapping[Group, Reference]:
    """Return what each group is compared with."""
    return {reference.group: reference for reference in references if reference.status == "pinned"}


def reference_for(group: Group, references: Mapping[Group, Reference]) -> Reference | None:
    """Return the reference of a group: its own, or that of the champion it is to replace."""
    return references.get(group) or references.get(group._replace(arm="champion"))


def approve(reference: Reference, by: str, now: float) -> Reference:
    """Return the reference, pinned."""
    return replace(reference, status="pinned", approved_at=now, approved_by=by)
