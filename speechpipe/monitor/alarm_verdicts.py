"""When verdicts are made, and what they say with the alarms that fire."""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from speechpipe.monitor.alarms import Alarm
from speechpipe.monitor.blame.operations import LOOKBACK_S, BlameOperations
from speechpipe.monitor.blame.repository import StoredVerdict
from speechpipe.monitor.blame.verdict import NO_STAGE
from speechpipe.monitor.change_log import ServiceChange, near
from speechpipe.monitor.incidents import SLACK_S
from speechpipe.monitor.reference import Reference, reference_before, reference_for
from speechpipe.monitor.repository import Archive
from speechpipe.monitor.spec import CascadeSpec, Metric, Severity
from speechpipe.monitor.windows import Group

BLAME_AGAIN_S, BLAME_AGAIN_FOR_S = 20.0, 600.0
"""After an alarm of a group, its verdict is made again after so long, at pauses that double, for so long: at first
there are few cases."""

BLAME_EVERY_S = 300.0
"""Blame runs on active groups at this interval even without an alarm, to catch slow drift."""

BLAME_SESSIONS, BLAME_LEAST_S = 50, 10.0
"""And sooner on groups with so many sessions since their last verdicts, but not sooner than after so long."""

BLAME_SHARE = 0.05
"""Nor may the sooner ones take more than this share of a processor, all together: each reads thousands of records."""


class AlarmVerdicts:
    """Used on the watcher's thread."""

    def __init__(
        self,
        spec: CascadeSpec,
        archive: Archive,
        blame: BlameOperations,
        sinks: Sequence[str],
    ) -> None:
        """Make verdicts by `blame`, on active groups at every `BLAME_EVERY_S` seconds, on ringing ones more often.

        `sinks` are the names of those that are told of an alarm that becomes a page.
        """
        self._active: Counter[Group] = Counter()  # groups with traffic since their last verdicts, and their sessions
        self._unpinned: set[int] = set()  # references whose cases may not have been stored yet
        self._spec = spec
        self._archive = archive
        self._blame = blame
        self._sinks = tuple(sinks)
        self._pinned: Mapping[Group, Reference] = {}
        self._changes: Sequence[ServiceChange] = ()
        self._seasons: Collection[int] = ()
        self._ringing: dict[str, float] = {}  # label of a group -> when an alarm of it began to fire
        self._verdict_at: dict[str, float] = {}  # label of a group -> its last verdict
        self._together_at: dict[tuple[str, str], float] = {}  # bundle and arm -> the last verdict on all their traffic
        self._blamed_at = 0.0
        self._sooner_at = 0.0  # from when on verdicts may be made because of the sessions

    def heard(self, sessions: Mapping[Group, int]) -> None:
        """These groups have had traffic: so many sessions have ended."""
        self._active.update(sessions)

    def pinned_now(self, references: Iterable[int]) -> None:
        """References with these numbers have been pinned: their cases must be stored."""
        self._unpinned |= set(references)

    def rang(self, group: str, now: float) -> None:
        """An alarm of the group with this label has begun to fire: its verdict is due."""
        self._ringing[group] = now
        self._verdict_at.pop(group, None)

    def make(
        self,
        now: float,
        pinned: Mapping[Group, Reference],
        changes: Sequence[ServiceChange],
        seasons: Collection[int] = (),
    ) -> None:
        """Add verdicts to new alarms, and compute the periodic verdicts on active groups.

        Args:
            now: unix seconds.
            pinned: the references.
            changes: of the service, of the last hours.
            seasons: references whose groups are known at each hour of the week.

        Raises:
            SQLAlchemyError, OSError: the store failed; the next call makes what is still due.
        """
        self._pinned, self._changes, self._seasons = pinned, changes, seasons
        for number in sorted(self._unpinned):
            if (reference := next((r for r in self._pinned.values() if r.id == number), None)) is not None:
                self._blame.pin(reference)
            self._unpinned.discard(number)
        self._ringing = {label: at for label, at in self._ringing.items() if now - at < BLAME_AGAIN_FOR_S}
        due = self._due(now)
        if due:
            begun = time.thread_time()
            with self._blame.read_once(now):
                self._make(sorted(due), now)
            self._sooner_at = now + max(BLAME_LEAST_S, (time.thread_time() - begun) / BLAME_SHARE)

    def _make(self, due: Sequence[Group], now: float) -> None:
        of_bundles: dict[tuple[str, str], float] = {}  # and how long a verdict that names the same is not stored again
        for group in due:
            repeat_s = 0.0 if self._is_due_again(group.label, now) else BLAME_EVERY_S
            bundle_arm = group.bundle, group.arm
            of_bundles[bundle_arm] = min(repeat_s, of_bundles.get(bundle_arm, repeat_s))
            del self._active[group]  # first, so that a group whose verdict fails does not block the others
            reference = reference_for(group, self._pinned) or reference_before(group, self._pinned)
            if reference is not None and any(group):
                since = max(now - LOOKBACK_S, reference.until)
                stored = self._blame.stored(group, reference, since, now, repeat_s=repeat_s)
                self._verdict_at[group.label] = now
                self._annotate(stored)
        for (bundle, arm), repeat_s in sorted(of_bundles.items()):
            if now - self._together_at.get((bundle, arm), 0.0) >= BLAME_AGAIN_S:
                self._together_at[bundle, arm] = now
                self._blame_together(bundle, arm, now, repeat_s)

    def _due(self, now: float) -> set[Group]:
        """Return the active groups whose verdicts are due."""
        if now - self._blamed_at >= BLAME_EVERY_S:
            self._blamed_at = now
            return set(self._active)
        sooner = now >= self._sooner_at
        return {
            group
            for group, sessions in self._active.items()
            if (sooner and sessions >= BLAME_SESSIONS) or self._is_due_again(group.label, now)
        }

    def _blame_together(self, bundle: str, arm: str, now: float, repeat_s: float) -> None:
        """Make the verdict on all traffic of a bundle; say it with alarms of groups whose own names no stage."""
        mine = [
            (group, one) for group, one in sorted(self._pinned.items()) if (group.bundle, group.arm) == (bundle, arm)
        ]
        if len(mine) < 2 or (stored := self._blame.stored_together(mine, now, repeat_s)) is None:
            return
        if stored.label == NO_STAGE:
            return
        labels = {group.label for group, _ in mine}
        for alarm in self._archive.alarms():
            silent = not alarm.blame or alarm.blame.startswith(f"{NO_STAGE}: ")
            if alarm.state == "firing" and alarm.condition.group in labels and silent and _is_about(stored, alarm):
                self._confirm(alarm, stored)
                said = f"{stored.label}: all traffic of {bundle} together: {self._said(stored)}"
                self._archive.annotate(alarm.id, said)

    def _is_due_again(self, label: str, now: float) -> bool:
        """Whether the verdict on a ringing group is to be made again: at pauses that double, for each reads records."""
        if (rang := self._ringing.get(label)) is None:
            return False
        last = self._verdict_at.get(label)
        return last is None or now - last >= max(BLAME_AGAIN_S, last - rang)

    def _annotate(self, stored: StoredVerdict) -> None:
        """Say with the firing alarms of a group what the verdict is; one that named a stage is not replaced by none."""
        said = f"{stored.label}: {self._said(stored)}"
        names_none = f"{NO_STAGE}: "
        for alarm in self._archive.alarms():
            if alarm.state != "firing" or alarm.condition.group != stored.group.label:
                continue
            if not _is_about(stored, alarm):
                continue
            self._confirm(alarm, stored)
            if alarm.blame == said:
                continue
            if stored.label != NO_STAGE or not alarm.blame or alarm.blame.startswith(names_none):
                self._archive.annotate(alarm.id, said)

    def _confirm(self, alarm: Alarm, stored: StoredVerdict) -> None:
        """Let an alarm that harmless changes ring, too, be no page if a verdict names no stage, and one if it does."""
        metric = self._spec.by_name.get(alarm.condition.metric)
        if metric is None or alarm.condition.rule != "drift" or not self._needs_verdict(metric, alarm):
            return
        harmless = stored.label == NO_STAGE
        if harmless and not stored.document["decided"]:
            return
        if harmless and alarm.blame and not alarm.blame.startswith(f"{NO_STAGE}: "):
            return  # a verdict that named a stage is not replaced by none
        severity = (Severity.INVESTIGATE if harmless else metric.severity).value
        if severity != alarm.condition.severity:
            self._archive.set_severity(alarm, severity, self._sinks, stored.at)

    def _needs_verdict(self, metric: Metric, alarm: Alarm) -> bool:
        """Whether a drift is a page only with a verdict that names a stage: of a short reference, any is.

        What is usual at hours that the reference has not seen is not known.
        """
        if metric.confirm:
            return True
        mine = (
            reference_for(group, self._pinned) or reference_before(group, self._pinned)
            for group in self._pinned
            if group.label == alarm.condition.group
        )
        return any(one is not None and one.days < 1.0 and one.id not in self._seasons for one in mine)

    def _said(self, stored: StoredVerdict) -> str:
        """Return the reason of a verdict, what else it names, and what was changed near its onset.

        Without the title of its stage, whose label stands before it.
        """
        reason, onset = str(stored.document["reason"]), stored.document.get("since")
        title = next((one.title for one in self._spec.stages if reason.startswith(f"{one.title}: ")), None)
        if title is not None:
            reason = reason.removeprefix(f"{title}: ")
        if also := stored.document.get("also"):
            reason += f"; also {', '.join(also)}"
        if perhaps := stored.document.get("perhaps"):
            reason += f"; not sure of a second fault: {', '.join(perhaps)}"
        changed = "" if onset is None or stored.label == NO_STAGE else near(self._changes, float(onset))
        return f"{reason}; changed: {changed}" if changed else reason


def _is_about(stored: StoredVerdict, alarm: Alarm) -> bool:
    """Whether a verdict may be about what an alarm rang for: if it has one, not on what began later."""
    onset = stored.document.get("since")
    if onset is None or alarm.firing_at is None or not alarm.blame:
        return True
    return float(onset) <= alarm.firing_at + SLACK_S
