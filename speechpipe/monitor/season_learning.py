"""When seasons are learned: once for each pinned reference, as soon as its group has two weeks of healthy traffic.

A season belongs to a reference that an operator has approved, and is not learned again: what changes slowly must not
become usual by itself. The next reference of the group begins anew.
"""

from collections.abc import Collection, Iterable, Mapping

from speechpipe.monitor.calendar import Change
from speechpipe.monitor.profiles import is_watched
from speechpipe.monitor.reference import Reference
from speechpipe.monitor.repository import Archive
from speechpipe.monitor.season_repository import SeasonArchive
from speechpipe.monitor.seasons import DAY_S, LEAST_DAYS, Season, learn, unhealthy
from speechpipe.monitor.spec import CascadeSpec
from speechpipe.monitor.windows import Group

AGAIN_S = 6 * 3_600.0
"""A group that had two weeks, but too few of them healthy, is looked at again after this long."""


class SeasonLearner:
    """Used on the watcher's thread."""

    def __init__(self, spec: CascadeSpec, archive: Archive, seasons: SeasonArchive) -> None:
        """Learn from the windows and alarms in `archive`, and keep seasons in `seasons`."""
        self._metrics = [metric for metric in spec.metrics if is_watched(metric)]
        self._archive = archive
        self._kept = seasons
        self._seasons: dict[int, Season] = {}
        self._tried: dict[int, float] = {}

    @property
    def known(self) -> Collection[int]:
        """The references that had a season at the last call of `of`."""
        return self._seasons.keys()

    def of(self, pinned: Mapping[Group, Reference]) -> Mapping[int, Season]:
        """Return the seasons of pinned references, by reference; those in the store that are not known yet are read."""
        wanted = {reference.id for reference in pinned.values()}
        fresh = (self._kept.known() & wanted) - self._seasons.keys()
        self._seasons = {number: one for number, one in self._seasons.items() if number in wanted}
        if fresh:
            self._seasons |= self._kept.seasons(fresh)
        return self._seasons

    def learn(self, pinned: Mapping[Group, Reference], changes: Iterable[Change], now: float) -> bool:
        """Learn the season of one group that has none yet, if there is one; return whether there was.

        One, because its windows are read: a second or two. `now` is in unix seconds.
        """
        changes = list(changes)
        for group, reference in sorted(pinned.items()):
            since = max([reference.since, *(change.until for change in changes if change.concerns(group))])
            recently = now - self._tried.get(reference.id, -AGAIN_S) < AGAIN_S
            if reference.id in self._seasons or recently or now - since < LEAST_DAYS * DAY_S:
                continue
            self._tried[reference.id] = now
            alarms = [one for one in self._archive.alarms(since) if one.condition.group == group.label]
            windows = self._kept.windows(group, since, now)
            season = learn(self._metrics, reference.id, windows, unhealthy(alarms, now), now)
            if season is not None:
                self._kept.save(season)
            return season is not None
        return False
