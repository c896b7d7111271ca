"""Blame on a store: pins the cases of references and computes verdicts on groups."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.blame.documents import document
from speechpipe.monitor.blame.evidence import DEFAULTS, Thresholds
from speechpipe.monitor.blame.normal import LEAST_CASES, Normal, ReferenceTooSmall, fit
from speechpipe.monitor.blame.probes import ProbeHistory, probe_history
from speechpipe.monitor.blame.recent import RecentRecords, is_of
from speechpipe.monitor.blame.repository import BlameArchive, StoredVerdict
from speechpipe.monitor.blame.verdict import NO_STAGE, Verdict, blame, blame_together
from speechpipe.monitor.cases import Cases
from speechpipe.monitor.reference import Reference
from speechpipe.monitor.repository import Archive
from speechpipe.monitor.spec import CascadeSpec
from speechpipe.monitor.windows import Group, all_traffic

MOST_CASES = 2_000
MOST_GROUPS = 20
"""Groups that are judged together, those with the most sessions: each costs a search for its last change."""

LOOKBACK_S = 6 * 3_600.0
"""How far a periodic verdict looks back; it finds the onset itself."""

LATE_S = 600.0
"""Feedback on the last cases of a reference may come this much later."""


class ReferenceMismatch(ValueError):
    """The reference is of other traffic, such as another channel, and cannot be compared with this."""


@dataclass
class BlameOperations:
    """Not thread-safe: used on one thread."""

    spec: CascadeSpec
    store: Store

    def __post_init__(self) -> None:
        self.archive = BlameArchive(lambda: self.store.engine)
        self._alarms = Archive(lambda: self.store.engine)
        self._normals: dict[int, Normal | None] = {}
        self._records = RecentRecords(self.spec, self.store)

    def read_once(self, now: float) -> AbstractContextManager[None]:
        """Within this context, verdicts on the last hours before `now` (unix seconds) share what they read."""
        return self._records.read_once(now - LOOKBACK_S - LATE_S)

    def forget(self) -> None:
        """Drop the fitted models, so that references are read from the store again."""
        self._normals.clear()

    def pin(self, reference: Reference) -> Cases | None:
        """Store the cases of a reference while its records still exist; return them, None if there are none."""
        known = self.archive.cases(reference.id)
        if known is not None or not any(reference.group):
            return known
        records = self._records.sampled(reference.group, MOST_CASES, reference.since, reference.until)
        records = [one for one in records if one.at < reference.until + LATE_S]
        cases = self._records.cases(records).between(reference.since, reference.until)
        if not len(cases):
            return None
        self.archive.pin(reference.id, cases)
        return cases

    def normal(self, reference: Reference) -> Normal | None:
        """Return the model fitted on a reference; None if its cases were not stored or are too few."""
        if reference.id not in self._normals:
            cases = self.pin(reference)
            try:
                found = None if cases is None else fit(self.spec, cases)
            except ReferenceTooSmall:
                found = None
            self._normals[reference.id] = found
        return self._normals[reference.id]

    def verdict(
        self,
        group: Group,
        reference: Reference,
        since: float,
        until: float,
        onset: float | None = None,
        tenant: str = "",
    ) -> Verdict:
        """Return the verdict on a group's traffic between `since` and `until`; with `tenant`, on that tenant's part.

        The reference may be of another bundle, such as the one before; the verdict says so.

        Raises:
            ReferenceMismatch: the reference is of other traffic.
        """
        if group._replace(arm="", bundle="") != reference.group._replace(arm="", bundle=""):
            raise ReferenceMismatch(
                f"reference {reference.id} is of {reference.group.label!r}, the traffic is of {group.label!r}"
            )
        normal = self.normal(reference)
        if normal is None:
            reason = f"reference {reference.id} has fewer than {LEAST_CASES} cases, or its records were deleted:"
            reason += " approve another one"
            return Verdict(NO_STAGE, NO_STAGE, decided=False, reason=reason)
        recent, probes = self._recent(group, since, until, tenant)
        if group.bundle != reference.group.bundle:
            # Its probes were pinned with its own answers: they say nothing of how it differs from the one before.
            found = blame(normal, recent, (), self._thresholds(group, until), onset)
            return replace(found, reason=f"compared with {reference.group.bundle}: {found.reason}")
        return blame(normal, recent, probes, self._thresholds(group, until), onset)

    def together(self, groups: Sequence[tuple[Group, Reference]], until: float) -> Verdict | None:
        """Return the verdict on several groups of one bundle's traffic together, until a time (unix seconds).

        None if fewer than two of them have a reference with enough cases.
        """
        records = self._records.of_bundle(groups[0][0].bundle, until - LOOKBACK_S, until)
        mine = []
        for group, reference in groups:
            own = [one for one in records if one.kind == "system" or is_of(group, one)]
            mine.append((sum(one.kind == "session" for one in own), own, reference))
        parts: list[tuple[Normal, Cases]] = []
        for _, own, reference in sorted(mine, key=lambda one: -one[0])[:MOST_GROUPS]:
            if (normal := self.normal(reference)) is not None:
                parts.append((normal, self._records.cases(own).between(reference.until, until)))
        if len(parts) < 2:
            return None
        own_references = all(group.bundle == reference.group.bundle for group, reference in groups)
        return blame_together(parts, probe_history(self.spec, records) if own_references else ())

    def stored_together(
        self, groups: Sequence[tuple[Group, Reference]], now: float, repeat_s: float = 0.0
    ) -> StoredVerdict | None:
        """Compute the verdict on groups together, store it as that of all their bundle's traffic, and return it.

        `repeat_s` as for `stored`.
        """
        found = self.together(groups, now)
        if found is None:
            return None
        first = groups[0][0]
        kept = StoredVerdict(now, all_traffic(first.bundle, first.arm), found.label, document(self.spec, found))
        self._keep(kept, repeat_s)
        return kept

    def decisive(self, group: Group, reference: Reference, since: float, until: float) -> list[str]:
        """Return the metrics without which the verdict on a group would be another one.

        Raises:
            ReferenceMismatch: the reference is of another group.
        """
        whole = self.verdict(group, reference, since, until)
        pinned = self.pin(reference)
        if pinned is None or not whole.decided or whole.blamed == NO_STAGE:
            return []
        recent, history = self._recent(group, since, until)
        probes = history if group.bundle == reference.group.bundle else ()
        thresholds = self._thresholds(group, until)
        found = []
        for name in dict.fromkeys(finding.metric for finding in whole.findings):
            try:
                normal = fit(self.spec, pinned.without(name))
            except ReferenceTooSmall:
                return []
            if blame(normal, recent.without(name), probes, thresholds).label != whole.label:
                found.append(name)
        return found

    def _recent(self, group: Group, since: float, until: float, tenant: str = "") -> tuple[Cases, ProbeHistory]:
        records = self._records.of_group(group, since - LATE_S, until)
        if tenant:
            records = [record for record in records if record.kind in ("system", "probe") or record.tenant == tenant]
        return self._records.cases(records).between(since, until), probe_history(self.spec, records)

    def stored(
        self, group: Group, reference: Reference, since: float, now: float, *, repeat_s: float = 0.0
    ) -> StoredVerdict:
        """Compute a verdict, store it and return it; one that names what the last one named only after `repeat_s`."""
        found = self.verdict(group, reference, since, now)
        kept = StoredVerdict(now, group, found.label, {**document(self.spec, found), "reference": reference.id})
        self._keep(kept, repeat_s)
        return kept

    def _keep(self, found: StoredVerdict, repeat_s: float) -> None:
        """Store a verdict, unless the last one on its group says the same and was stored less than `repeat_s` ago."""
        since = found.at - repeat_s
        last = next((one for one in self.archive.verdicts(since, found.at) if one.group == found.group), None)
        same = last is not None and (last.label, last.document["decided"]) == (found.label, found.document["decided"])
        if not (repeat_s and same):
            self.archive.save(found)

    def _thresholds(self, group: Group, at: float) -> Thresholds:
        """Return the thresholds for a group at a time (unix seconds), with its alarms of drift that fired then."""
        rang = {
            alarm.condition.metric
            for alarm in self._alarms.alarms(at)
            if alarm.condition.rule == "drift"
            and alarm.condition.group == group.label
            and alarm.firing_at is not None
            and alarm.firing_at <= at
        }
        return replace(DEFAULTS, rang=frozenset(rang))
