"""Drift watching: one detector for each watched metric of each group with a reference."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from speechpipe.foundation.storage.record import Record
from speechpipe.monitor.alarms import Condition
from speechpipe.monitor.detectors import FOR_REALS, FOR_SHARES, Detector, Verdict, make
from speechpipe.monitor.profiles import Budget, down_share, is_watched, profile_of
from speechpipe.monitor.reference import Reference, reference_for
from speechpipe.monitor.spec import CascadeSpec, Metric, MetricKind
from speechpipe.monitor.windows import Group, metrics_by_kind, reading

RELEASE = 0.5
"""An alarm ends when the evidence falls below this share of its threshold, so that a flickering metric is one alarm."""

RECENT = 200
"""The recent mean in an alarm's text is an exponential mean over about this many values."""


class Watched:
    """A watched metric of a group: its detector and recent mean."""

    def __init__(self, metric: Metric, reference: Reference, detector: Detector) -> None:
        self.metric = metric
        self.reference = reference
        self.detector = detector
        self.verdict = Verdict(0.0)
        self.alarmed = False
        self.recent = reference.window.get(metric.name).mean or 0.0
        self._late = 0.0

    def late(self, value: float) -> None:
        """Add a value that belongs to an earlier unit."""
        self._late += value

    def update(self, value: float) -> None:
        """Take the next value."""
        if self._late > 0:
            value, self._late = max(value, min(1.0, self._late)), max(0.0, self._late - 1.0)
        self.recent += (value - self.recent) / RECENT
        self.verdict = self.detector.update(value)
        self.alarmed = self.verdict.evidence >= (RELEASE if self.alarmed else 1.0)


class DriftWatch:
    """The detectors of all groups, created when there is a reference, and fed with records on the watcher's thread."""

    def __init__(self, spec: CascadeSpec, budget: Budget) -> None:
        self._spec = spec
        self._budget = budget
        self._by_kind = metrics_by_kind(spec)
        self._references: Mapping[Group, Reference] = {}
        self._watched: dict[tuple[Group, str], Watched | None] = {}
        self._kept: dict[str, Any] = {}  # state from before a restart, until its detector is created

    def compare_with(self, references: Mapping[Group, Reference]) -> None:
        """Use these pinned references; detectors of new references start again."""
        for key, watched in list(self._watched.items()):
            reference = reference_for(key[0], references)
            if watched is None or reference is None or reference.id != watched.reference.id:
                del self._watched[key]
        self._references = references
        self._kept = self._of_pinned(self._kept)

    def _of_pinned(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part of a state whose references are still pinned."""
        pinned = {reference.id for reference in self._references.values()}
        return {key: kept for key, kept in state.items() if (found := _parsed(key)) and found[0] in pinned}

    def update(self, group: Group, record: Record) -> None:
        """Take the next record of a group."""
        if not self._references:
            return
        for metric in self._by_kind.get(record.kind, ()):
            if not is_watched(metric) or (value := reading(metric, record)) is None:
                continue
            watched = self._find(group, metric)
            if watched is None:
                continue
            if record.kind == metric.late:
                watched.late(value)
            else:
                watched.update(value)

    def _find(self, group: Group, metric: Metric) -> Watched | None:
        key = (group, metric.name)
        if key not in self._watched:
            self._watched[key] = self._make(group, metric)
        return self._watched[key]

    def _make(self, group: Group, metric: Metric) -> Watched | None:
        reference = reference_for(group, self._references)
        if reference is None:
            return None
        known = reference.window.get(metric.name)
        alike = [m for m in self._spec.metrics if is_watched(m) and m.severity is metric.severity]
        count = len(alike) * len(self._references)
        run_length = self._budget.run_length(metric.severity, known.count / reference.days, count)
        options = {"down": down_share(metric)}
        name = FOR_SHARES
        if metric.value_kind is MetricKind.REAL:
            name = FOR_REALS
            options |= {"shift": profile_of(group.tenant_class).shift, "least": metric.least}
        try:
            watched = Watched(metric, reference, make(name, known, run_length, **options))
        except (ValueError, ArithmeticError):  # the reference has too few values of this metric
            return None
        kept = self._kept.pop(_key(group, metric.name, reference.id), None)
        if kept is not None:
            watched.detector.restore(kept["detector"])
            watched.alarmed, watched.recent = kept["alarmed"], kept["recent"]
            watched.verdict = Verdict(0.0, kept.get("direction", 0))
        return watched

    def conditions(self, suppressed: Callable[[Group], bool]) -> list[Condition]:
        """Return a condition for each metric that has drifted, except for groups whose drift is suppressed."""
        found = []
        for (group, _), watched in self._watched.items():
            if watched is None or not watched.alarmed or suppressed(group):
                continue
            metric = watched.metric
            expected = watched.reference.window.get(metric.name).mean
            way = "rose" if watched.verdict.direction >= 0 else "fell"
            recent = f"{watched.recent:.4g} {metric.unit}".rstrip()
            reason = f"{metric.help} {way}: about {recent}, was {expected or 0:.4g}"
            found.append(
                Condition(
                    "drift",
                    metric.name,
                    metric.stage,
                    metric.severity.value,
                    group.label,
                    reason,
                    value=watched.recent,
                    expected=expected,
                )
            )
        return found

    def forget(self, condition: Condition) -> None:
        """Reset the detectors of a condition whose alarm was resolved."""
        for (group, name), watched in self._watched.items():
            if watched is not None and name == condition.metric and group.label == condition.group:
                watched.detector.reset()

    def state(self) -> dict[str, Any]:
        """Return the state of all detectors, as JSON data."""
        return self._kept | {
            _key(group, name, watched.reference.id): {
                "detector": watched.detector.state(),
                "alarmed": watched.alarmed,
                "recent": watched.recent,
                "direction": watched.verdict.direction,
            }
            for (group, name), watched in self._watched.items()
            if watched is not None
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state` returned."""
        self._watched.clear()
        self._kept = self._of_pinned(state)
        for key in list(self._kept):  # create detectors now: an alarm goes on even if no value comes
            if (found := _parsed(key)) and found[1] in self._spec.by_name:
                self._find(found[2], self._spec.by_name[found[1]])


def _key(group: Group, metric: str, reference: int) -> str:
    return json.dumps([reference, metric, *group])


def _parsed(key: str) -> tuple[int, str, Group] | None:
    """Return reference, metric and group of a key; None if another version wrote it."""
    try:
        reference, metric, *group = json.loads(key)
        return int(reference), str(metric), Group(*group)
    except (ValueError, TypeError):
        return None
