"""The health report, computed by a pure function of windows, references, alarms and the server's state.

It reads neither the clock nor the store.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from speechpipe.foundation.stats.sketch import Distribution
from speechpipe.monitor.alarms import Alarm
from speechpipe.monitor.arms import ArmRow, arms, value_of
from speechpipe.monitor.blame.repository import StoredVerdict
from speechpipe.monitor.change_log import ServiceChange
from speechpipe.monitor.comparison import Comparison, Drift, Grade, compare, drift
from speechpipe.monitor.concerned import Concerned
from speechpipe.monitor.reference import Progress, Reference, reference_before, reference_for
from speechpipe.monitor.seasons import Season
from speechpipe.monitor.spec import CascadeSpec, Metric, MetricKind, Stage
from speechpipe.monitor.windows import SERVER, UNSERVED, Group, Window, merge_all, merged

POINTS = 60
"""The approximate number of points of a time series."""

BINS = 30

ALARMING = {"limit": Grade.FAILING, "reference": Grade.NOT_WATCHED, "change": Grade.NO_DATA}
"""The least grade of a stage with an alarm of this rule; of any other rule it is degraded."""


@dataclass(frozen=True)
class Filters:
    """Which groups a report covers; None: all."""

    tenant_class: str | None = None
    channel: str | None = None
    bundle: str | None = None
    arm: str | None = None

    def takes(self, group: Group) -> bool:
        """Whether a group is covered. The server's own group always is."""
        if not any(group):
            return True
        pairs = (
            (self.tenant_class, group.tenant_class),
            (self.channel, group.channel),
            (self.arm, group.arm),
        )
        bundle = self.bundle is None or self.bundle in (group.bundle, group.bundle.split("@")[0])
        return bundle and all(wanted is None or wanted == has for wanted, has in pairs)


@dataclass(frozen=True)
class Facts:
    """The inputs of a report. Times are unix seconds."""

    since: float
    until: float
    windows: Sequence[Window]
    references: Mapping[Group, Reference] = field(default_factory=dict)
    proposals: Sequence[Reference] = ()
    alarms: Sequence[Alarm] = ()
    server: Mapping[str, float | str | bool] = field(default_factory=dict)  # empty if no server is running
    filters: Filters = Filters()
    verdicts: Sequence[StoredVerdict] = ()
    progress: Sequence[Progress] = ()  # of groups that have no reference yet
    changes: Sequence[ServiceChange] = ()  # of the service, oldest first
    seasons: Mapping[int, Season] = field(default_factory=dict)  # of the references that have one, by reference
    concerned: Mapping[str, Concerned] = field(default_factory=dict)  # by incident


@dataclass(frozen=True)
class Point:
    """One point of a time series."""

    at: float
    count: int
    value: float | None
    low: float | None = None  # 10th percentile
    high: float | None = None  # 95th percentile


@dataclass(frozen=True)
class MetricRow:
    """A metric over the period."""

    metric: Metric
    grade: Grade
    count: int
    value: float | None  # mean, share, sum or rate
    quantiles: tuple[float, ...]  # p50, p95, p99 of real values
    expected: float | None  # mean of the references, weighted by the traffic of their groups
    band: tuple[float, float] | None  # where points would lie if nothing had changed
    drift: Drift
    reasons: tuple[str, ...]
    series: tuple[Point, ...]
    rests_on: str = ""  # what the expectation rests on, if not on a reference as a whole


@dataclass(frozen=True)
class StageRow:
    """A stage over the period."""

    stage: Stage
    grade: Grade
    reasons: tuple[str, ...]
    metrics: tuple[MetricRow, ...]


@dataclass(frozen=True)
class DistributionRow:
    """Shares of the values below the first edge, between edges, and above the last; empty if there are no values."""

    name: str
    edges: tuple[float, ...]
    now: tuple[float, ...]
    reference: tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """The content of `GET /v1/health/report`."""

    cascade: str
    facts: Facts
    grade: Grade
    stages: tuple[StageRow, ...]
    sessions: int
    units: int
    outcomes: Mapping[str, int]
    bundles: tuple[ArmRow, ...]
    groups: tuple[Group, ...]
    without_reference: tuple[Group, ...]
    distributions: tuple[DistributionRow, ...]

    def metric(self, name: str) -> MetricRow | None:
        """Return the row of a metric, or None."""
        return next((row for stage in self.stages for row in stage.metrics if row.metric.name == name), None)


def health_report(spec: CascadeSpec, facts: Facts) -> Report:
    """Return the report on these facts."""
    covered = [window for window in facts.windows if facts.filters.takes(window.group)]
    # Shadow results were served to no client: they are shown beside the other arms and left out of totals.
    windows = [w for w in covered if w.group.arm != UNSERVED or facts.filters.arm == UNSERVED]
    by_group = {window.group: window for window in merged(windows)}
    width_s = max(60, round((facts.until - facts.since) / POINTS / 60) * 60)
    points = _points(windows, width_s)
    verdicts = [verdict for verdict in facts.verdicts if facts.filters.takes(verdict.group)]
    facts = replace(facts, alarms=_alarms(facts, by_group), verdicts=verdicts)
    alarms = [alarm for alarm in facts.alarms if alarm.state == "firing"]
    stages = tuple(_stage(spec, stage, facts, by_group, points, alarms) for stage in spec.stages)
    total = merge_all(windows)
    served = [group for group in by_group if any(group)]
    serving = [row.grade for row in stages if row.stage.served]
    grade = max(row.grade for row in stages)
    if all(one is Grade.NO_DATA for one in serving) and grade <= Grade.NOT_WATCHED:
        grade = Grade.NO_DATA  # without traffic, a server that works does not show that the cascade does
    return Report(
        cascade=spec.name,
        facts=facts,
        grade=grade,
        stages=stages,
        sessions=total.sessions,
        units=sum(total.outcomes.values()),
        outcomes=dict(sorted(total.outcomes.items())),
        bundles=arms(spec, covered, facts.until - facts.since),
        groups=tuple(sorted(served)),
        without_reference=tuple(group for group in sorted(served) if reference_for(group, facts.references) is None),
        distributions=tuple(_distribution(name, by_group, facts.references) for name in spec.distributions),
    )


def _alarms(facts: Facts, groups: Iterable[Group]) -> list[Alarm]:
    """Return the alarms of the groups that the filters cover; all of them without filters."""
    if facts.filters == Filters():
        return list(facts.alarms)
    shown = {group.label for group in (SERVER, *groups, *facts.references) if facts.filters.takes(group)}
    return [alarm for alarm in facts.alarms if alarm.condition.group in shown]


def _points(windows: Sequence[Window], width_s: int) -> list[Window]:
    found: dict[int, Window] = {}
    for window in windows:
        start = window.start // width_s * width_s
        found.setdefault(start, Window(start, window.group, width_s)).merge(window)
    return [found[start] for start in sorted(found)]


def _stage(
    spec: CascadeSpec,
    stage: Stage,
    facts: Facts,
    by_group: Mapping[Group, Window],
    points: Sequence[Window],
    alarms: Sequence[Alarm],
) -> StageRow:
    rows = tuple(_metric(metric, facts, by_group, points) for metric in spec.of_stage(stage.name))
    grade = max((row.grade for row in rows), default=Grade.NO_DATA)
    reasons = [reason for row in sorted(rows, key=lambda row: -row.grade) for reason in row.reasons]
    for alarm in alarms:
        if alarm.condition.stage == stage.name:
            grade = max(grade, ALARMING.get(alarm.condition.rule, Grade.DEGRADED))
            text = f"alarm: {alarm.condition.reason} [{alarm.condition.group}]"
            reasons.append(text)
    return StageRow(stage, grade, tuple(dict.fromkeys(reasons)), rows)


def _metric(metric: Metric, facts: Facts, by_group: Mapping[Group, Window], points: Sequence[Window]) -> MetricRow:
    current, mixed = Distribution(), Distribution()
    expected_total = expected_count = 0.0
    found: list[tuple[Group, Comparison]] = []
    rests_on: set[str] = set()
    for group, window in by_group.items():
        mine = window.get(metric.name)
        if not mine.count and not mine.total:
            continue
        current.merge(mine)
        own = reference_for(group, facts.references)
        reference = own or reference_before(group, facts.references)
        known, basis = _expected(metric, group, reference, facts)
        rests_on |= {basis} - {""}
        compared = compare(metric, mine, known)
        if compared.grade is Grade.NOT_WATCHED and not _may_be_watched(group):
            compared = replace(compared, grade=Grade.OK)
        if basis and compared.reason:
            compared = replace(compared, reason=f"{compared.reason} ({basis})")
        watched = own is not None or metric.value_kind is MetricKind.SUM or not _may_be_watched(group)
        if not watched and compared.grade is Grade.OK:
            compared = replace(compared, grade=Grade.NOT_WATCHED)
        found.append((group, compared))
        if known is not None and known.mean is not None:
            expected_total += known.mean * mine.count
            expected_count += mine.count
            mixed.merge(known)
    grade = max((comparison.grade for _, comparison in found), default=Grade.NO_DATA)
    reasons = tuple(f"{one.reason} [{group.label}]" for group, one in found if one.reason and one.grade is grade)
    expected = expected_total / expected_count if expected_count else None
    return MetricRow(
        metric=metric,
        grade=grade,
        count=current.count,
        value=value_of(metric, current, facts.until - facts.since),
        quantiles=tuple(current.quantiles([0.5, 0.95, 0.99])),
        expected=expected if metric.value_kind is not MetricKind.SUM else None,
        band=_band(metric, mixed, expected, points),
        drift=drift(current, mixed if mixed.count else None),
        reasons=reasons,
        series=tuple(_point(metric, window) for window in points) if metric.key else (),
        rests_on="; ".join(sorted(rests_on)),
    )


def _may_be_watched(group: Group) -> bool:
    """Whether a group can have a reference: the server has none of its own, nor have probes, which are pinned."""
    return group != SERVER and group.channel != "probe"


def _expected(
    metric: Metric, group: Group, reference: Reference | None, facts: Facts
) -> tuple[Distribution | None, str]:
    """Return what is expected of a group in this period, and what that rests on, if not on its reference as a whole."""
    if reference is None:
        return None, ""
    season = facts.seasons.get(reference.id)
    rhythm = season.rhythms.get(metric.name) if season is not None else None
    if season is None or rhythm is None:
        return reference.window.get(metric.name), ""
    mine = (window for window in facts.windows if window.group == group)
    usual = rhythm.usual((window.start + window.width_s / 2, window.get(metric.name).count) for window in mine)
    return usual, season.about


def _point(metric: Metric, window: Window) -> Point:
    known = window.get(metric.name)
    low, high = known.quantiles([0.1, 0.95]) or (None, None)
    return Point(window.start, known.count, value_of(metric, known, window.width_s), low, high)


def _band(
    metric: Metric, reference: Distribution, expected: float | None, points: Sequence[Window]
) -> tuple[float, float] | None:
    """Return the interval of about 95 % of the points if nothing had changed; None if unknown."""
    if metric.value_kind is MetricKind.SUM or expected is None or not points:
        return None
    counts = sorted(count for window in points if (count := window.get(metric.name).count))
    if not counts:
        return None
    usual = counts[len(counts) // 2]
    spread = (
        (max(expected * (1 - expected), 1e-9)) ** 0.5 if metric.value_kind is MetricKind.SHARE else reference.deviation
    )
    half = 2.0 * spread / usual**0.5
    low, high = expected - half, expected + half
    return (max(0.0, low), min(1.0, high)) if metric.value_kind is MetricKind.SHARE else (low, high)


def _distribution(
    name: str, by_group: Mapping[Group, Window], references: Mapping[Group, Reference]
) -> DistributionRow:
    now, before = Distribution(), Distribution()
    for group, window in by_group.items():
        now.merge(window.get(name))
        reference = reference_for(group, references)
        if reference is not None:
            before.merge(reference.window.get(name))
    ends = [end for known in (now, before) for end in known.quantiles([0.005, 0.995])]
    if not ends or max(ends) <= min(ends):
        return DistributionRow(name, (), (), ())
    width = (max(ends) - min(ends)) / BINS
    edges = tuple(min(ends) + step * width for step in range(BINS + 1))
    return DistributionRow(
        name, edges, tuple(now.histogram(edges)), tuple(before.histogram(edges)) if before.count else ()
    )
