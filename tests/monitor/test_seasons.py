"""Seasons: three simulated weeks with a rhythm, through the store and the watcher."""

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from speechpipe.foundation.stats.sketch import Distribution
from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.alarms import Alarm, Condition
from speechpipe.monitor.detectors import make
from speechpipe.monitor.drift import uncertainty
from speechpipe.monitor.profiles import Budget
from speechpipe.monitor.reference import pinned, proposed
from speechpipe.monitor.report import Facts, health_report
from speechpipe.monitor.repository import Archive
from speechpipe.monitor.season_repository import SeasonArchive
from speechpipe.monitor.seasons import DAY_S, HOUR_S, dump, hour_of_week, learn, load, unhealthy
from speechpipe.monitor.watch import Watcher, WatchOptions
from speechpipe.monitor.windows import Grouping, aggregate
from tests.records import SPEC, unit

MONDAY = 1_767_571_200.0
"""5 January 2026, 00:00 UTC."""

OPTIONS = WatchOptions(Budget(page=0.1, investigate=0.1), keep_records_s=60 * DAY_S, verdicts=False)
A_DAY = 1_200


def week_day(at: float) -> int:
    return int((at - MONDAY) // DAY_S) % 7


def usual_s(at: float) -> float:
    """The usual length at a time: longest in the afternoon, and on Monday mornings longer still."""
    hour = at % DAY_S / HOUR_S
    monday = 1.5 * math.exp(-((hour - 10.0) ** 2) / 4.0) if week_day(at) == 0 else 0.0
    return 3.0 + 2.0 * math.exp(-((hour - 15.0) ** 2) / 8.0) + monday


def usual_nulls(at: float) -> float:
    hour = at % DAY_S / HOUR_S
    return 0.01 + 0.05 * math.exp(-((hour - 15.0) ** 2) / 8.0)


def rhythm(since: float, until: float, seed: int, *, length_s: float = 0.0, nulls: float = 0.0) -> list[Record]:
    """Return traffic of a time span: `A_DAY` on a working day, a tenth of that at night."""
    random = np.random.default_rng(seed)
    found: list[Record] = []
    at = since
    while at < until:
        hour = at % DAY_S / HOUR_S
        rate = A_DAY / DAY_S * (2.0 if 8 <= hour < 20 else 0.2)
        at += float(random.exponential(1 / rate))
        length = (usual_s(at) + length_s) * float(random.lognormal(0.0, 0.25))
        null = random.random() < usual_nulls(at) + nulls
        found.append(unit(len(found), at, length, "empty" if null else "ok", id=f"r{seed}-{len(found)}"))
    return found


class Sink:
    name = "test"

    def __init__(self) -> None:
        self.alarms: list[Alarm] = []

    def send(self, alarms: Sequence[Alarm]) -> None:
        self.alarms += [alarm for alarm in alarms if alarm.state == "firing"]


def opened(path: Path) -> Store:
    found = Store(f"sqlite:///{path}")
    found.open()
    return found


def run(watcher: Watcher, store: Store, records: Sequence[Record], until: float) -> None:
    """Let the watcher see the records, at every half hour."""
    number, now = 0, records[0].at // 1800 * 1800
    while now < until:
        now += 1800.0
        while number < len(records) and records[number].at < now:
            store.append(records[number])
            number += 1
        store.flush()
        watcher.tick(now)
        if now % DAY_S == 0:
            watcher.keep_house(now)


def names(alarms: Sequence[Alarm]) -> set[str]:
    return {alarm.condition.metric for alarm in alarms} - {"system.reference"}


LEARNED = MONDAY + 15 * DAY_S
"""A Tuesday."""


@dataclass(frozen=True)
class Weeks:
    """A store after fifteen days, and what rang in the first thirteen."""

    path: Path
    rang: Sequence[Alarm]
    early: frozenset[int]  # references with a season after thirteen days


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory) -> Weeks:
    """The reference is the first ten hours of a Monday, approved."""
    path = tmp_path_factory.mktemp("seasons") / "records.db"
    store, sink = opened(path), Sink()
    watcher = Watcher(SPEC, store, [sink], OPTIONS)
    first = MONDAY + 10 * HOUR_S
    run(watcher, store, rhythm(MONDAY, first, 1), first)
    (reference,) = proposed(watcher.archive.windows(MONDAY, first), first, MONDAY, first)
    watcher.archive.approve(watcher.archive.propose(reference), "ann", first)
    run(watcher, store, rhythm(first, MONDAY + 13 * DAY_S, 2), MONDAY + 13 * DAY_S)
    early, rang = SeasonArchive(lambda: store.engine).known(), tuple(sink.alarms)
    run(watcher, store, rhythm(MONDAY + 13 * DAY_S, LEARNED, 3), LEARNED)
    store.close()
    return Weeks(path, rang, early)


@pytest.fixture
def store(weeks: Weeks, tmp_path: Path) -> Iterator[Store]:
    """A copy of the store after two weeks."""
    shutil.copy(weeks.path, tmp_path / "records.db")
    found = opened(tmp_path / "records.db")
    yield found
    found.close()


def test_without_two_weeks_the_peaks_ring(weeks: Weeks) -> None:
    assert weeks.early == frozenset()
    assert names(weeks.rang) == {"gate.length_s", "model.null_share"}
    assert len({int(alarm.firing_at // DAY_S) for alarm in weeks.rang if alarm.firing_at}) >= 10
    assert not any("usual at this time" in alarm.condition.reason for alarm in weeks.rang)


def test_after_two_weeks_they_ring_no_more_and_a_fault_at_night_does(store: Store) -> None:
    (season,) = SeasonArchive(lambda: store.engine).seasons([1]).values()
    assert season.about == "by hour and weekday, 14 days"
    assert set(season.rhythms) == {"gate.length_s", "model.null_share"}
    sink = Sink()
    watcher = Watcher(SPEC, store, [sink], OPTIONS)
    end = MONDAY + 22 * DAY_S  # to the end of a Monday, whose morning is the longest of the week
    run(watcher, store, rhythm(LEARNED, end, 4), end)
    assert len(sink.alarms) <= 1  # in a week
    sink.alarms.clear()
    night = end + 3 * HOUR_S
    run(watcher, store, rhythm(end, night, 5), night)
    assert sink.alarms == []
    run(watcher, store, rhythm(night, night + 3 * HOUR_S, 6, length_s=2.0), night + 3 * HOUR_S)
    (alarm,) = sink.alarms  # no longer than what is usual in the afternoon
    assert alarm.condition.metric == "gate.length_s"
    assert "usual at this time (by hour and weekday, 14 days)" in alarm.condition.reason
    assert alarm.condition.expected == pytest.approx(3.1, abs=0.4)
    assert alarm.condition.value == pytest.approx(5.0, abs=0.7)


def test_an_unusual_monday_morning_rings(store: Store) -> None:
    sink = Sink()
    watcher = Watcher(SPEC, store, [sink], OPTIONS)
    monday = MONDAY + 21 * DAY_S + 8 * HOUR_S
    run(watcher, store, rhythm(monday, monday + 4 * HOUR_S, 4, nulls=0.12), monday + 4 * HOUR_S)
    assert names(sink.alarms) == {"model.null_share"}


def test_the_report_says_what_it_rests_on(store: Store) -> None:
    archive = Archive(lambda: store.engine)
    known = pinned(archive.references())
    seasons = SeasonArchive(lambda: store.engine).seasons([1])
    afternoon = LEARNED - DAY_S + 14 * HOUR_S
    windows = archive.windows(afternoon, afternoon + 2 * HOUR_S)
    facts = Facts(afternoon, afternoon + 2 * HOUR_S, windows, known, seasons=seasons)
    row = health_report(SPEC, facts).metric("gate.length_s")
    assert row is not None
    assert row.rests_on == "by hour and weekday, 14 days"
    assert row.expected == pytest.approx(5.0, abs=0.4)
    assert row.grade.label == "ok"
    whole = health_report(SPEC, replace(facts, seasons={})).metric("gate.length_s")
    assert whole is not None
    assert whole.grade.label != "ok"


# ---- what is learned ----


def learned(records: Sequence[Record], until: float, left_out: frozenset[int] = frozenset()):  # type: ignore[no-untyped-def]
    windows = aggregate(SPEC, records, Grouping(), 900)
    return learn(SPEC.metrics, 7, windows, left_out, until)


def test_what_does_not_follow_the_clock_has_no_rhythm() -> None:
    random = np.random.default_rng(0)
    steady = [
        replace(one, measures={"gate.length_s": float(random.gamma(4.0))}, outcome="ok")
        for one in rhythm(MONDAY, MONDAY + 15 * DAY_S, 1)
    ]
    season = learned(steady, MONDAY + 15 * DAY_S)
    assert season is not None
    assert dict(season.rhythms) == {}


def test_residuals_have_no_rhythm_and_bytes_keep_them() -> None:
    end = MONDAY + 28 * DAY_S
    season = learned(rhythm(MONDAY, end, 1), end)
    assert season is not None
    found = season.rhythms["gate.length_s"]
    assert found.residuals.mean == pytest.approx(0.0, abs=0.02)
    assert found.residuals.deviation == pytest.approx(1.0, abs=0.05)
    for hour in (4, 9, 15):
        for day in (0, 2):
            at = MONDAY + day * DAY_S + (hour + 0.5) * HOUR_S
            assert found.level(at) == pytest.approx(usual_s(at) * math.exp(0.25**2 / 2), rel=0.1)
    again = load(*dump(season))
    assert again["gate.length_s"].levels == found.levels
    assert again["gate.length_s"].residuals.quantiles([0.1, 0.9]) == found.residuals.quantiles([0.1, 0.9])


def test_hours_of_incidents_are_left_out_and_peaks_of_every_week_are_not() -> None:
    def alarm(begin_h: float, end_h: float, incident: str = "i") -> Alarm:
        condition = Condition("drift", "gate.length_s", "gate", "page", "g", "")
        times = MONDAY + begin_h * HOUR_S, MONDAY + end_h * HOUR_S
        return Alarm("a", condition, "resolved", times[0], times[0], times[1], incident=incident)

    first = int(MONDAY // HOUR_S)
    fault, long = alarm(30.1, 31.9), alarm(40, 160)
    peaks = [alarm(9.5, 10.5), alarm(177.2, 178.1), *(alarm(204.2 + 24 * day, 214.5 + 24 * day) for day in range(6))]
    found = unhealthy([fault, long, *peaks, alarm(5, 6, incident="")], MONDAY + 400 * HOUR_S)
    assert {hour - first for hour in found} == {30, 31, *range(40, 161)}
    end = MONDAY + 15 * DAY_S
    assert learned(rhythm(MONDAY, end, 1), end, frozenset(range(first + 40, first + 70))) is None


def test_hours_of_the_week_begin_on_monday() -> None:
    assert hour_of_week(MONDAY) == 0.0
    assert hour_of_week(MONDAY + 6 * DAY_S + 23.5 * HOUR_S) == 167.5


# ---- detectors ----


def test_shares_of_each_hour_are_compared_with_their_own() -> None:
    """The run length holds for a share that changes by the hour, and does not for the mean of all hours."""
    shares = [0.01] * 12 + [0.08] * 12
    whole = Distribution.of(np.repeat([0.0, 1.0], [955, 45]), shape_only=True)
    alarms = {"own": 0, "mean": 0}
    for seed in range(10):
        random = np.random.default_rng(seed)
        own, mean = make("mixture", whole, 10_000.0, shares=shares), make("mixture", whole, 10_000.0)
        for place in np.repeat(np.arange(24), 200).tolist():
            value = float(random.random() < shares[place])
            for name, one in (("own", own), ("mean", mean)):
                if one.update(value, place).alarm:
                    alarms[name] += 1
                    one.reset()
    assert alarms["own"] <= 5  # half of 48,000 values over a run length of 10,000
    assert alarms["mean"] > 10


def test_one_event_in_two_hundred_values_promises_little() -> None:
    """Two in a hundred do not ring for a reference with one event, and a tenfold share still does."""
    known = Distribution.of(np.repeat([0.0, 1.0], [199, 1]), shape_only=True)
    metric = SPEC.metric("model.null_share")
    wobble = uncertainty(metric, known)
    assert wobble == pytest.approx(math.sqrt(2.0))
    rang = {"sure": 0, "cautious": 0}
    for seed in range(20):
        random = np.random.default_rng(seed)
        sure, cautious = make("mixture", known, 20_000.0), make("mixture", known, 20_000.0, wobble=wobble)
        values = (random.random(3_000) < 0.02).astype(float).tolist()
        rang["sure"] += any(sure.update(value).alarm for value in values)
        rang["cautious"] += any(cautious.update(value).alarm for value in values)
    assert rang["sure"] >= 15
    assert rang["cautious"] <= 1
    found = make("mixture", known, 20_000.0, wobble=wobble)
    random = np.random.default_rng(0)
    assert any(found.update(float(random.random() < 0.2)).alarm for _ in range(100))
