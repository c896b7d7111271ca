"""Seasons: what is usual of a metric at each hour of the week, learned from two weeks of a group's healthy traffic.

A reference of some hours, or of a whole day, knows one figure for a metric. Waits, load and who speaks follow the
clock, so that each peak looks like a change. A season has a level and a spread for each hour of the week, and the
distribution of the standardised residuals, against which detectors are built.

An hour of the week has few values after two weeks, so it is drawn towards the same hour of all working days (or of all
weekend days), and that towards the overall level. Only metrics that follow the clock have a rhythm: the means of their
hours differ more from each other than those of the same hour on different days (analysis of variance). Hours are UTC.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from speechpipe.foundation.stats.sketch import Distribution
from speechpipe.monitor.alarms import Alarm
from speechpipe.monitor.spec import Metric, MetricKind
from speechpipe.monitor.windows import Window

HOUR_S, DAY_S, WEEK_S = 3_600.0, 86_400.0, 7 * 86_400.0
HOURS = 168
TO_MONDAY_S = 4 * DAY_S
"""From the first Monday of the epoch to its first day, a Thursday, less a week."""

LEAST_DAYS = 14.0
"""Days of healthy traffic that a season needs."""

LEAST_VALUES, LEAST_EVENTS = 1_000, 50
"""Values of a metric, and of a share its events, before a rhythm is looked for."""

WEIGHT, EVENT_WEIGHT = 30.0, 10.0
"""Values of an hour of the week (of a share: events) that count as much as all of the same hour of day, and of that as
much as all."""

CERTAIN_F = 2.5
"""The F statistic of the hours' means: above it by chance once in 10,000 (47 and 288 degrees of freedom)."""

LONGEST_S = 4 * DAY_S
"""Alarms that fired for longer are never those of the clock."""

OFTEN = 5
"""On so many days of two weeks something rings at the same hour of day because of the hour."""

ATOMS = 20
"""Values that stand for a metric in one window: its quantiles."""

FAR = 6.0
"""Values are clipped at so many robust standard deviations."""

LEAST_SHARE = 1e-4

LEAST_SPREAD = 0.1
"""The smallest spread of an hour, as a share of the overall one."""

IQR_TO_SIGMA = 1.349

Column = npt.NDArray[np.float64]


def hour_of_week(at: float) -> float:
    """Return the hours since Monday 00:00 UTC (0..168) at a time in unix seconds."""
    return (at + WEEK_S - TO_MONDAY_S) % WEEK_S / HOUR_S


@dataclass(frozen=True)
class Rhythm:
    """What is usual of one metric. `levels` and `spreads` have a value for each hour of the week, from Monday on.

    `residuals` are the standardised ones; of a share, the zeros and ones themselves. `wobble`: the standard deviation
    with which an hour's mean differs from its level from week to week, in spreads (of a share: of the log odds).
    """

    levels: tuple[float, ...]
    spreads: tuple[float, ...]
    residuals: Distribution
    wobble: float

    @property
    def error(self) -> float:
        """The typical standard error of a level, in the unit of `wobble`."""
        if self.residuals.sketched:
            return 1 / math.sqrt(self.residuals.count / HOURS + WEIGHT)
        events = min(self.residuals.total, self.residuals.count - self.residuals.total)
        return 1 / math.sqrt(events / HOURS + EVENT_WEIGHT)

    def level(self, at: float) -> float:
        """Return the usual value at a time (unix seconds), between the middles of two hours."""
        return _between(self.levels, at)

    def standardised(self, value: float, at: float) -> float:
        """Return how many spreads a value is from what is usual at a time (unix seconds)."""
        return (value - self.level(at)) / _between(self.spreads, at)

    def usual(self, counts: Iterable[tuple[float, int]]) -> Distribution:
        """Return what values at these times (unix seconds, each with a count) would be; without a sketch."""
        weights = [(at, count) for at, count in counts if count]
        total = sum(count for _, count in weights)
        if total:
            mean = sum(self.level(at) * count for at, count in weights) / total
            variance = sum(
                count * ((self.level(at) - mean) ** 2 + _between(self.spreads, at) ** 2) for at, count in weights
            )
            known = self.residuals.count
            return Distribution.of_sums(known, mean * known, (variance / total + mean * mean) * known)
        return Distribution()


@dataclass(frozen=True)
class Season:
    """The rhythms of a reference's group. `days`: of healthy traffic; times are unix seconds."""

    reference: int
    since: float
    until: float
    days: float
    rhythms: Mapping[str, Rhythm]

    @property
    def about(self) -> str:
        """What the expectations rest on, for display."""
        return f"by hour and weekday, {int(self.days)} days"


def _between(values: Sequence[float], at: float) -> float:
    place = (hour_of_week(at) - 0.5) % HOURS
    first = int(place)
    share = place - first
    return (1 - share) * values[first] + share * values[(first + 1) % HOURS]


# ---- healthy hours ----


def unhealthy(alarms: Iterable[Alarm], until: float) -> frozenset[int]:
    """Return the hours (since the epoch) to leave out: those of alarms of incidents, except for those of the clock.

    An alarm of up to a day that rings at the same hour of day on `OFTEN` days at least rings for the clock, and so does
    one of up to `LONGEST_S` that rings at the same hour of another week (an hour sooner or later), as on weekends.
    """
    spans = []
    for alarm in alarms:
        if alarm.incident and alarm.firing_at is not None:
            begin = min(alarm.firing_at, alarm.condition.since or alarm.firing_at)
            end = until if alarm.resolved_at is None else alarm.resolved_at
            spans.append((end - alarm.firing_at, range(int(begin // HOUR_S), int(end // HOUR_S) + 1)))
    days = Counter(hour % 24 for hour in {hour for lasted, hours in spans if lasted <= DAY_S for hour in hours})
    again = {hour for lasted, hours in spans if lasted <= LONGEST_S for hour in hours}
    weeks = [week + slack for week in (-HOURS, HOURS) for slack in (-1, 0, 1)]
    left_out = set[int]()
    for lasted, hours in spans:
        for hour in hours:
            daily = lasted <= DAY_S and days[hour % 24] >= OFTEN
            if not daily and not (lasted <= LONGEST_S and any(hour + step in again for step in weeks)):
                left_out.add(hour)
    return frozenset(left_out)


# ---- learning ----


@dataclass(frozen=True)
class _Values:
    """Values of a metric with weights, and the times (unix seconds) that they are of."""

    values: Column
    weights: Column
    at: Column


def learn(
    metrics: Iterable[Metric], reference: int, windows: Sequence[Window], left_out: frozenset[int], until: float
) -> Season | None:
    """Return the season of a reference from the windows of its group; None if they have fewer than two healthy weeks.

    Args:
        metrics: those that are watched.
        reference: its number.
        windows: of its group, none wider than an hour.
        left_out: the hours since the epoch that are not healthy.
        until: where the history ends (unix seconds).
    """
    if not windows:
        return None
    since = float(min(window.start for window in windows))
    first, last = int(since // HOUR_S), int(until // HOUR_S)
    days = (until - since) / DAY_S - sum(first <= hour <= last for hour in left_out) / 24
    if days < LEAST_DAYS:
        return None
    healthy = [window for window in windows if int(window.start // HOUR_S) not in left_out]
    found = {metric.name: rhythm for metric in metrics if (rhythm := _rhythm(metric, healthy)) is not None}
    return Season(reference, since, until, days, found)


def _rhythm(metric: Metric, windows: Sequence[Window]) -> Rhythm | None:
    """Return the rhythm of a metric; None if it has too few values or does not follow the clock."""
    share = metric.value_kind is MetricKind.SHARE
    known = _values(metric, windows)
    if known is None or known.weights.sum() < LEAST_VALUES:
        return None
    if share and min(events := float(known.values @ known.weights), known.weights.sum() - events) < LEAST_EVENTS:
        return None
    if not share:
        known = _clipped(known)
    wobble = _wobble(known, share=share)
    if wobble is None:
        return None
    share_of_events = float(np.average(known.values, weights=known.weights))
    weight = EVENT_WEIGHT / min(share_of_events, 1 - share_of_events) if share else WEIGHT
    levels = _drawn(known, known.values, weight)
    if share:
        levels = np.clip(levels, LEAST_SHARE, 1 - LEAST_SHARE)
        events = float(known.values @ known.weights)
        residuals = Distribution.of_sums(round(float(known.weights.sum())), events, events)
        mean = events / residuals.count
        spreads = np.sqrt(levels * (1 - levels))
        return Rhythm(tuple(levels.tolist()), tuple(spreads.tolist()), residuals, wobble / (mean * (1 - mean)))
    rest = known.values - _interpolated(levels, known.at)
    overall = math.sqrt(float(np.average(rest**2, weights=known.weights)))
    if overall <= 0:
        return None
    spreads = np.maximum(np.sqrt(_drawn(known, rest**2, weight)), LEAST_SPREAD * overall)
    standard = rest / _interpolated(spreads, known.at)
    return Rhythm(
        tuple(levels.tolist()), tuple(spreads.tolist()), _distribution(standard, known.weights), wobble / overall
    )


def _values(metric: Metric, windows: Sequence[Window]) -> _Values | None:
    share = metric.value_kind is MetricKind.SHARE
    values: list[Column] = []
    weights: list[Column] = []
    times: list[Column] = []
    for window in windows:
        known = window.metrics.get(metric.name)
        if known is None or not known.count or (not share and not known.sketched):
            continue
        if share:
            mine = np.array([min(1.0, known.total / known.count)])
        else:
            count = min(known.count, ATOMS)
            mine = np.array(known.quantiles([(step + 0.5) / count for step in range(count)]))
        values.append(mine)
        weights.append(np.full(len(mine), known.count / len(mine)))
        times.append(np.full(len(mine), window.start + window.width_s / 2))
    if not values:
        return None
    return _Values(np.concatenate(values), np.concatenate(weights), np.concatenate(times))


def _clipped(known: _Values) -> _Values:
    low, middle, high = np.quantile(known.values, [0.25, 0.5, 0.75])
    scale = max(float(high - low) / IQR_TO_SIGMA, float(known.values.std()) * 0.1, 1e-12)
    return _Values(np.clip(known.values, middle - FAR * scale, middle + FAR * scale), known.weights, known.at)


def _hours(at: Column) -> npt.NDArray[np.int64]:
    """Return the hours since the epoch of times."""
    return np.asarray(at // HOUR_S, np.int64)


def _week(hours: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the hour of the week of hours since the epoch."""
    return np.asarray((hours + HOURS - round(TO_MONDAY_S / HOUR_S)) % HOURS)


def _sums(keys: npt.NDArray[np.int64], weights: Column, values: Column, size: int) -> tuple[Column, Column]:
    counts, totals = np.bincount(keys, weights, size), np.bincount(keys, weights * values, size)
    return np.asarray(counts, np.float64), np.asarray(totals, np.float64)


def _wobble(known: _Values, *, share: bool) -> float | None:
    """Return how much an hour's mean differs from day to day (standard deviation); None if hours are alike.

    One-way analysis of variance of the means of each hour that was: by hour of the day, working days and weekend apart.
    """
    places, inverse = np.unique(_hours(known.at), return_inverse=True)
    counts, totals = _sums(inverse, known.weights, known.values, len(places))
    means = totals / counts
    week = _week(places)
    kinds = week % 24 + 24 * (week // 24 >= 5)
    of_kind, kind_totals = _sums(kinds, counts, means, 48)
    kind_means = kind_totals / np.maximum(of_kind, 1e-12)
    groups = int((of_kind > 0).sum())
    overall = float(np.average(means, weights=counts))
    if groups < 4 or len(places) <= groups:
        return None
    between = float((of_kind * (kind_means - overall) ** 2).sum()) / (groups - 1)
    within = float((counts * (means - kind_means[kinds]) ** 2).sum()) / (len(places) - groups)
    if between < CERTAIN_F * max(within, 1e-18):
        return None
    if share:  # the variance of zeros and ones, of which the windows have shares
        inner = float(np.average(means * (1 - means), weights=counts))
    else:
        inner = float(np.average((known.values - means[inverse]) ** 2, weights=known.weights))
    in_an_hour = float((counts**2).sum() / counts.sum())
    return math.sqrt(max(0.0, within - inner) / max(in_an_hour, 1.0))


def _drawn(known: _Values, values: Column, weight: float) -> Column:
    """Return the means of (values,) by hour of the week, each drawn towards that of the same hour of day.

    What it is drawn towards counts as much as `weight` values.
    """
    week = _week(_hours(known.at))
    kinds = week % 24 + 24 * (week // 24 >= 5)
    overall = float(np.average(values, weights=known.weights))
    counts, totals = _sums(kinds, known.weights, values, 48)
    days = (totals + weight * overall) / (counts + weight)
    counts, totals = _sums(week, known.weights, values, HOURS)
    every = np.arange(HOURS)
    parents = days[every % 24 + 24 * (every // 24 >= 5)]
    return np.asarray((totals + weight * parents) / (counts + weight))


def _interpolated(levels: Column, at: Column) -> Column:
    """Return the levels at times, as `Rhythm.level` does."""
    places = ((at + WEEK_S - TO_MONDAY_S) % WEEK_S / HOUR_S - 0.5) % HOURS
    return np.asarray(np.interp(places, np.arange(HOURS + 1), [*levels.tolist(), float(levels[0])]))


def _distribution(values: Column, weights: Column) -> Distribution:
    """Return the distribution of weighted values: each as often as its weight says, a fraction by its place."""
    ends = np.rint(np.cumsum(weights)).astype(np.int64)
    counts = np.diff(ends, prepend=0)
    return Distribution.of(np.repeat(values, counts))


# ---- bytes ----


def dump(season: Season) -> tuple[dict[str, Any], bytes]:
    """Return the rhythms of a season as JSON data and the bytes of their distributions, in the same order."""
    head = {
        name: {"levels": one.levels, "spreads": one.spreads, "wobble": one.wobble}
        for name, one in season.rhythms.items()
    }
    return head, b"".join(one.residuals.dump() for one in season.rhythms.values())


def load(head: Mapping[str, Any], body: bytes) -> dict[str, Rhythm]:
    """Return the rhythms that `dump` has returned."""
    found = {}
    data = memoryview(body)
    for name, one in head.items():
        residuals, data = Distribution.load(data)
        found[name] = Rhythm(tuple(one["levels"]), tuple(one["spreads"]), residuals, one["wobble"])
    return found
