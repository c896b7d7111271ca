"""Drift watching: one detector for each watched metric of each group with a reference."""

import json
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from speechpipe.foundation.stats.sketch import Distribution
from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.times import clock
from speechpipe.monitor.alarms import Condition
from speechpipe.monitor.detectors import FOR_REALS, FOR_SHARES, Detector, Verdict, make
from speechpipe.monitor.detectors.recovery import Recovery
from speechpipe.monitor.profiles import Budget, down_share, is_watched, profile_of
from speechpipe.monitor.reference import Reference, reference_before, reference_for
from speechpipe.monitor.seasons import Rhythm, Season, hour_of_week
from speechpipe.monitor.spec import CascadeSpec, Metric, MetricKind, Severity
from speechpipe.monitor.windows import Group, metrics_by_kind, reading

RELEASE = 0.5
"""An alarm ends when the evidence falls below this share of its threshold, so that a flickering metric is one alarm."""

ENDED_S = 3_600.0
"""An alarm ends when its metric has had no value for this long: its traffic has ended."""

MOVED_S = 300.0
"""Or for this long, if the same traffic goes on with another bundle, as after a rollback."""

LATEST = 10
"""The last values, which are of the changed traffic for sure."""

MOST_VALUES = 256
"""Values that are kept of each metric, for the figure in an alarm's text."""


MOST_SESSIONS = 10_000
"""Sessions of which it is remembered that they had a value. None are after a restart."""

NEW_WEEK = math.sqrt(1.5)
"""An hour of a new week differs from the mean of two by so much more than from the true one."""

MOST_WOBBLE = 1.0


UNSURE = 2.0
"""Standard errors by which healthy traffic may differ from a reference: in one of forty it differs more."""


def uncertainty(metric: Metric, known: Distribution) -> float:
    """Return how far healthy traffic may be from a reference that has only so many values.

    In standard deviations of one value; of a share, in the logarithm of the odds. Without it, one null in 200 values
    would promise a share of 0.5 %, and the 2 % that there are would ring.
    """
    if metric.value_kind is MetricKind.REAL:
        return UNSURE / math.sqrt(max(known.count, 1))
    events = min(known.total, known.count - known.total)
    return UNSURE / math.sqrt(max(events, 0.0) + 1.0)


def rhythm_of(season: Season | None, metric: Metric) -> Rhythm | None:
    """Return the rhythm of a metric in a season; None if it has none."""
    return season.rhythms.get(metric.name) if season is not None else None


class Watched:
    """A watched metric of a group: its detector and the last values, with their times in unix seconds.

    With a rhythm, real values are standardised by what is usual at their hour, and shares compared with that hour's.
    """

    def __init__(self, metric: Metric, reference: Reference, detector: Detector, season: Season | None = None) -> None:
        """Feed `detector`, which was made against `reference`, or its `season` if that has a rhythm of the metric."""
        self.metric = metric
        self.reference = reference
        self.detector = detector
        self.season = season
        self.rhythm = rhythm_of(season, metric)
        self.known = self.rhythm.residuals if self.rhythm is not None else reference.window.get(metric.name)
        self.verdict = Verdict(0.0)
        self.alarmed = False
        self.recovery: Recovery | None = None  # while alarmed
        self.at = 0.0  # of the last value, unix seconds
        self._share = metric.value_kind is MetricKind.SHARE
        self._values: deque[tuple[float, float, float]] = deque(maxlen=MOST_VALUES)  # time, value, standardised
        self._late = 0.0

    def late(self, value: float) -> None:
        """Add a value that belongs to an earlier unit."""
        self._late += value

    def update(self, value: float, at: float) -> None:
        """Take the next value, of a time in unix seconds."""
        if self._late > 0:
            value, self._late = max(value, min(1.0, self._late)), max(0.0, self._late - 1.0)
        self.at = at
        seen, was, place = value, None, 0
        if self.rhythm is not None and self._share:
            place = int(hour_of_week(at))
            was = self.rhythm.levels[place]
        elif self.rhythm is not None:
            seen = self.rhythm.standardised(value, at)
        self._values.append((at, value, seen))
        self.verdict = self.detector.update(seen, place)
        if self.recovery is not None and self.recovery.update(seen, was):
            self.detector.reset()
            self.verdict = Verdict(0.0, self.verdict.direction)
        self._take(self.verdict.evidence >= (RELEASE if self.alarmed else 1.0))

    def _take(self, alarmed: bool) -> None:
        """Begin or end the alarm, if that is so."""
        if alarmed and not self.alarmed:
            self.recovery = self.recovery_from(self._latest())
        elif not alarmed:
            self.recovery = None
        self.alarmed = alarmed

    def recovery_from(self, values: Sequence[float]) -> Recovery:
        """Return the test that ends an alarm which these values have rung."""
        was = self.rhythm.levels[int(hour_of_week(self.at))] if self.rhythm is not None and self._share else None
        return Recovery(self.known, values, share=self._share, was=was)

    def _latest(self) -> list[float]:
        """Return the values of which most are of the changed traffic.

        Of a share, those with which the evidence grew: a rare one rings at an event, and the last few values have many.
        """
        count = max(LATEST, self.verdict.since) if self._share else LATEST
        return [seen for _, _, seen in list(self._values)[-count:]]

    def _since(self, expected: float) -> int:
        """Return the place of the first value since the change: those from there on are farthest from the reference.

        A detector's own count begins with the first value that fitted a change, which may be long before.
        """
        kept = list(self._values)
        if not kept:
            return 0
        level = fmean(self._latest())
        middle, best, most, total = (expected + level) / 2, len(kept) - 1, -math.inf, 0.0
        for number in range(len(kept) - 1, -1, -1):
            total += (kept[number][2] - middle) * (1 if level >= expected else -1)
            if total > most:
                best, most = number, total
        return best

    def _sooner_s(self, kept: Sequence[tuple[float, float, float]], first: int, level: float | None) -> float:
        """Return how much sooner than at the value `first` the change may have begun: of a share, three events.

        Infinity if there is no value before it, as after a restart.
        """
        if not first:
            return math.inf
        values = LATEST
        if self._share and level:
            values = max(LATEST, math.ceil(3 / level))
        return kept[first][0] - kept[max(0, first - values)][0]

    def condition(self, group: Group) -> Condition:
        """Return the condition that the metric has drifted: from what to what, on how many values, since when."""
        metric, known = self.metric, self.known
        kept, first = list(self._values), self._since(known.mean or 0.0)
        since = kept[first:]
        values = [value for _, value, _ in since]
        middle = fmean if self._share else median
        value = middle(values) if values else None
        expected = known.mean if self._share else known.quantile(0.5)
        usual = ""
        if self.rhythm is not None and self.season is not None and since:
            expected = fmean(self.rhythm.level(at) for at, _, _ in since)
            usual = f", usual at this time ({self.season.about}),"
        higher = self.verdict.direction >= 0 if value is None or expected is None else value >= expected
        way = "rose" if higher else "fell"
        reason = f"{metric.help} {way} from {_figure(expected, metric)}{usual}"
        if value is not None:
            reason += (
                f" to {_figure(value, metric)}{_extent(metric, values)} since {clock(since[0][0], seconds=True)} UTC"
            )
        return Condition(
            "drift",
            metric.name,
            metric.stage,
            metric.severity.value,
            group.label,
            reason,
            value=value,
            expected=expected,
            since=since[0][0] if since else None,
            sooner_s=self._sooner_s(kept, first, value),
        )


def _figure(value: float | None, metric: Metric) -> str:
    if value is None:
        return "an unknown value"
    if metric.value_kind is MetricKind.SHARE:
        return f"{100 * value:.3g} %"
    return f"{value:.4g} {metric.unit}".rstrip()


def _extent(metric: Metric, values: Sequence[float]) -> str:
    """Return on how much a figure rests. What is called a case by blame may have several utterances."""
    of = {"unit": "utterances", "session": "sessions"}.get(metric.kind, "values")
    if metric.value_kind is MetricKind.SHARE:
        return f" ({sum(value > 0 for value in values)} of {len(values)} {of})"
    return f" (median of {len(values)} {of})"


class DriftWatch:
    """The detectors of all groups, created when there is a reference, and fed with records on the watcher's thread."""

    def __init__(self, spec: CascadeSpec, budget: Budget) -> None:
        self._spec = spec
        self._budget = budget
        self._by_kind = metrics_by_kind(spec)
        self._rated = {metric.kind for metric in spec.metrics if metric.late}  # kinds of which more is said later
        self._references: Mapping[Group, Reference] = {}
        self._seasons: Mapping[int, Season] = {}
        self._wobbles: Mapping[int, Mapping[str, float]] = {}
        self._watched: dict[tuple[Group, str], Watched | None] = {}
        self._sessions: OrderedDict[str, None] = OrderedDict()  # the last ones with a record of such a kind
        self._heard: dict[Group, float] = {}  # the time of the last record
        self._kept: dict[str, Any] = {}  # state from before a restart, until its detector is created

    def compare_with(
        self,
        references: Mapping[Group, Reference],
        seasons: Mapping[int, Season] | None = None,
        wobbles: Mapping[int, Mapping[str, float]] | None = None,
    ) -> None:
        """Use these pinned references, their seasons and their `wobbles` (see `wobble.py`), by their numbers.

        Detectors of new ones start again.
        """
        self._references = references
        self._wobbles = wobbles or {}
        self._seasons = seasons or {}
        for key, watched in list(self._watched.items()):
            metric = self._spec.by_name[key[1]]
            reference = self._reference(key[0], metric)
            kept = watched is not None and reference is not None and reference.id == watched.reference.id
            rhythm = rhythm_of(self._seasons.get(reference.id), metric) if reference is not None else None
            if not kept or watched is None or watched.rhythm is not rhythm:
                del self._watched[key]
        self._kept = self._of_pinned(self._kept)

    def _of_pinned(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part of a state whose references are still pinned."""
        pinned = {reference.id for reference in self._references.values()}
        return {key: kept for key, kept in state.items() if (found := _parsed(key)) and found[0] in pinned}

    def update(self, group: Group, record: Record) -> None:
        """Take the next record of a group."""
        self._heard[group] = max(record.at, self._heard.get(group, 0.0))
        if not self._references:
            return
        if record.kind in self._rated:
            self._remember(record.session_id)
        for metric in self._by_kind.get(record.kind, ()):
            if not is_watched(metric) or (value := reading(metric, record)) is None:
                continue
            watched = self._find(group, metric)
            if watched is None:
                continue
            if record.kind != metric.late:
                watched.update(value, record.at)
            elif record.session_id in self._sessions:
                watched.late(value)

    def _remember(self, session: str) -> None:
        """Keep that a session has had such a record: what is said later of one without any belongs to no value."""
        self._sessions[session] = None
        self._sessions.move_to_end(session)
        if len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)

    def _find(self, group: Group, metric: Metric) -> Watched | None:
        key = (group, metric.name)
        if key not in self._watched:
            self._watched[key] = self._make(group, metric)
        return self._watched[key]

    def _reference(self, group: Group, metric: Metric) -> Reference | None:
        """Return the reference of a group; for what people notice, that of the bundle before it until it has one."""
        own = reference_for(group, self._references)
        noticed = metric.severity is Severity.PAGE and metric.value_kind is MetricKind.SHARE
        return reference_before(group, self._references) if own is None and noticed else own

    def _make(self, group: Group, metric: Metric) -> Watched | None:
        reference = self._reference(group, metric)
        if reference is None:
            return None
        season = self._seasons.get(reference.id)
        try:
            watched = Watched(metric, reference, self._detector(group, metric, reference, season), season)
        except (ValueError, ArithmeticError):  # the reference has too few values of this metric
            return None
        kept = self._kept.pop(_key(group, metric.name, reference.id), None)
        if kept is not None and bool(kept.get("rhythm")) is (watched.rhythm is not None):
            watched.detector.restore(kept["detector"])
            watched.alarmed, watched.at = kept["alarmed"], kept.get("at", 0.0)
            watched.verdict = Verdict(0.0, kept.get("direction", 0))
            if (recovery := kept.get("recovery")) is not None:
                watched.recovery = watched.recovery_from(recovery["values"])
                watched.recovery.restore(recovery)
        return watched

    def _detector(self, group: Group, metric: Metric, reference: Reference, season: Season | None) -> Detector:
        """Return a new detector of a metric.

        Raises:
            ValueError, ArithmeticError: the reference has too few values.
        """
        rhythm = rhythm_of(season, metric)
        known, days = reference.window.get(metric.name), reference.days
        if rhythm is not None and season is not None:
            known, days = rhythm.residuals, season.days
        alike = [m for m in self._spec.metrics if is_watched(m) and m.severity is metric.severity]
        run_length = self._budget.run_length(metric.severity, known.count / days, len(alike) * len(self._references))
        if rhythm is not None:
            wobble = min(math.hypot(NEW_WEEK * rhythm.wobble, UNSURE * rhythm.error), MOST_WOBBLE)
        else:
            hourly = UNSURE * self._wobbles.get(reference.id, {}).get(metric.name, 0.0)
            wobble = math.hypot(min(hourly, MOST_WOBBLE), uncertainty(metric, known))
        options: dict[str, Any] = {"down": down_share(metric), "wobble": wobble}
        if metric.value_kind is not MetricKind.REAL:
            return make(FOR_SHARES, known, run_length, **options, shares=rhythm.levels if rhythm is not None else ())
        least = metric.least if rhythm is None else metric.least / median(rhythm.spreads)
        options |= {"shift": profile_of(group.tenant_class).shift, "least": least}
        return make(FOR_REALS, known, run_length, **options)

    def conditions(self, now: float, suppressed: Callable[[Group], bool]) -> list[Condition]:
        """Return a condition for each metric that has drifted, except for groups whose drift is suppressed.

        Where no values come any more (`now` is in unix seconds), there is nothing left that could drift or recover.
        """
        found = []
        for (group, _), watched in self._watched.items():
            if watched is None or not watched.alarmed or suppressed(group):
                continue
            if now - watched.at <= (MOVED_S if self._has_moved(group, now) else ENDED_S):
                found.append(watched.condition(group))
        return found

    def _has_moved(self, group: Group, now: float) -> bool:
        """Whether a group has no traffic any more, because it goes to another bundle."""
        if now - self._heard.get(group, now) <= MOVED_S:
            return False
        same = group._replace(bundle="")
        return any(now - at <= MOVED_S and other._replace(bundle="") == same for other, at in self._heard.items())

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
                "at": watched.at,
                "direction": watched.verdict.direction,
                "rhythm": watched.rhythm is not None,
                "recovery": None if watched.recovery is None else watched.recovery.state(),
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
