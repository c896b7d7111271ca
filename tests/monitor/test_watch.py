"""The watcher over a real store: references, drift, limits, restarts, two processes, housekeeping."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.alarms import Alarm
from speechpipe.monitor.change_log import ChangeLog, ServiceChange
from speechpipe.monitor.drift import DriftWatch
from speechpipe.monitor.profiles import Budget
from speechpipe.monitor.reference import pinned
from speechpipe.monitor.report import Facts, Filters, health_report
from speechpipe.monitor.watch import Watcher, WatchOptions
from speechpipe.monitor.windows import Grouping, merge_all
from tests.databases import DATABASES, Database, mostly_sqlite
from tests.records import SPEC, traffic, unit

OPTIONS = WatchOptions(Budget(page=10.0, investigate=10.0))


class Sink:
    name = "test"

    def __init__(self) -> None:
        self.alarms: list[Alarm] = []

    def send(self, alarms: Sequence[Alarm]) -> None:
        self.alarms += alarms


@pytest.fixture(params=DATABASES, ids=str)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    database: Database = request.param
    with database.ready(tmp_path) as url:
        store = Store(url)
        store.open()
        yield store
        store.close()


def put(store: Store, records: list[Record]) -> None:
    for record in records:
        store.append(record)
    store.flush()


def watched(store: Store, sink: Sink) -> Watcher:
    """A watcher whose reference is the first 500 healthy units, approved."""
    watcher = Watcher(SPEC, store, [sink], OPTIONS)
    put(store, traffic(1000))
    watcher.tick(1000)
    (reference,) = watcher.archive.references()
    assert reference.status == "proposed"
    assert reference.units >= 500
    watcher.archive.approve(reference.id, "ann", 1000)
    return watcher


def test_healthy_traffic_raises_nothing_and_a_worsening_is_found_and_resolved(store: Store) -> None:
    sink = Sink()
    watcher = watched(store, sink)
    put(store, traffic(1000, start=1000, first=1000, seed=1))
    watcher.tick(2000)
    assert sink.alarms == []
    put(store, traffic(600, start=2000, first=2000, null_share=0.15, seed=2))
    watcher.tick(2600)
    (alarm,) = sink.alarms
    assert (alarm.condition.metric, alarm.condition.severity, alarm.state) == ("model.null_share", "page", "firing")
    found = re.search(r"rose from (.+) % to (.+) % \((\d+) of (\d+) utterances\) since", alarm.condition.reason)
    assert found is not None, alarm.condition.reason
    assert float(found[1]) < 5
    assert float(found[2]) == pytest.approx(100 * int(found[3]) / int(found[4]), rel=0.01)
    put(store, traffic(3000, start=2600, first=2600, seed=3))
    for now in (5600, 5800):
        watcher.tick(now)
    assert [alarm.state for alarm in sink.alarms] == ["firing", "resolved"]


def test_a_restart_goes_on_where_it_was_and_counts_nothing_twice(store: Store) -> None:
    sink = Sink()
    watched(store, sink)
    put(store, traffic(600, start=1000, first=1000, null_share=0.15, seed=2))
    for _ in range(3):  # each reads on from what the one before committed
        Watcher(SPEC, store, [sink], OPTIONS).tick(1600)
    assert [alarm.condition.metric for alarm in sink.alarms] == ["model.null_share"]
    windows = Watcher(SPEC, store, [], OPTIONS).archive.windows(0, 10_000)
    assert merge_all(windows).records == 1600


def test_an_alarm_goes_on_over_a_restart_though_nobody_speaks(store: Store) -> None:
    sink = Sink()
    watcher = watched(store, sink)
    put(store, traffic(600, start=1000, first=1000, null_share=0.15, seed=2))
    watcher.tick(1600)
    again = Watcher(SPEC, store, [sink], OPTIONS)
    for now in (1602, 1700, 4000):
        again.tick(now)
    assert [alarm.state for alarm in sink.alarms] == ["firing"]
    (alarm,) = again.archive.alarms()
    assert alarm.state == "firing"


def test_an_alarm_ends_minutes_after_its_traffic_went_to_another_bundle(store: Store) -> None:
    sink = Sink()
    watcher = watched(store, sink)
    put(store, traffic(600, start=1000, first=1000, null_share=0.15, seed=2))
    watcher.tick(1600)
    for start in range(1600, 2200, 100):
        put(store, [replace(one, bundle="before") for one in traffic(100, start=start, first=start, seed=start)])
        watcher.tick(start + 100)
    ours = [alarm.state for alarm in sink.alarms if alarm.condition.metric == "model.null_share"]
    assert ours == ["firing", "resolved"]
    assert sink.alarms[-1].resolved_at == pytest.approx(2100, abs=101)


def test_an_alarm_ends_an_hour_after_its_traffic(store: Store) -> None:
    sink = Sink()
    watcher = watched(store, sink)
    put(store, traffic(600, start=1000, first=1000, null_share=0.15, seed=2))
    for now in (1600, 5100, 5300, 5500):
        watcher.tick(now)
    assert [alarm.state for alarm in sink.alarms] == ["firing", "resolved"]
    put(store, traffic(600, start=6000, first=6000, null_share=0.15, seed=4))
    watcher.tick(6600)
    assert [alarm.state for alarm in sink.alarms] == ["firing", "resolved", "firing"], "it has come back"


def test_a_store_that_fails_in_mid_batch_is_followed_again_from_where_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = watched(store, Sink())
    watcher.tick(1000)
    control = DriftWatch(SPEC, OPTIONS.budget)  # sees every record once
    control.compare_with(pinned(watcher.archive.references()))
    control.restore(watcher.archive.cursor()[1])
    more = traffic(200, start=1000, first=1000, seed=1)
    put(store, more)
    plain = watcher.archive.commit
    monkeypatch.setattr(watcher.archive, "commit", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    for _ in range(5):
        with pytest.raises(OSError, match="disk full"):
            watcher.tick(1200)
    monkeypatch.setattr(watcher.archive, "commit", plain)
    watcher.tick(1200)
    for record in more:
        control.update(Grouping().group(record), record)
    assert merge_all(watcher.archive.windows(0, 2000)).records == 1200
    assert control.state() == watcher.archive.cursor()[1]


def test_two_processes_on_one_store_count_everything_once(store: Store) -> None:
    one, two = Watcher(SPEC, store, [], OPTIONS), Watcher(SPEC, store, [], OPTIONS)
    for step in range(6):
        put(store, traffic(100, start=100.0 * step, first=100 * step, seed=step))
        (one, two)[step % 2].tick(100.0 * step + 100)
    one.tick(700)
    two.tick(700)
    assert merge_all(one.archive.windows(0, 1000)).records == 600


@mostly_sqlite("store")
def test_a_fixed_limit_needs_no_reference(store: Store) -> None:
    sink = Sink()
    watcher = Watcher(SPEC, store, [sink], OPTIONS)
    put(store, traffic(100, null_share=0.9))
    watcher.tick(100)
    assert sink.alarms == [], "it must last"
    watcher.tick(170)
    assert [alarm.condition.rule for alarm in sink.alarms] == ["limit"]


@mostly_sqlite("store")
def test_an_announced_change_alarms_nobody(store: Store) -> None:
    sink = Sink()
    watcher = watched(store, sink)
    watcher.archive.announce("", 1000, 3000, "new microphones")
    put(store, traffic(600, start=1000, first=1000, null_share=0.15, seed=2))
    watcher.tick(1600)
    assert sink.alarms == []


def test_feedback_adds_to_the_rate_and_not_to_the_count(store: Store) -> None:
    watcher = Watcher(SPEC, store, [], OPTIONS)
    redo = [unit(9000 + i, 50.0, kind="feedback", outcome="redo", id=f"f{i}") for i in range(5)]
    put(store, [*traffic(100), *redo])
    watcher.tick(100)
    report = health_report(SPEC, Facts(0, 200, watcher.archive.windows(0, 200)))
    row = report.metric("people.redo_rate")
    assert row is not None
    assert row.value == pytest.approx(0.05)
    assert row.count == 100


def test_windows_are_put_together_and_say_the_same(store: Store) -> None:
    watcher = Watcher(SPEC, store, [], OPTIONS)
    for step in range(4):
        put(store, traffic(500, start=500.0 * step, first=500 * step, seed=step))
        watcher.tick(500.0 * step)
    before = watcher.archive.windows(0, 10_000)
    assert watcher.archive.compact(9000) > 0
    after = watcher.archive.windows(0, 10_000)
    assert len(after) < len(before)
    one, other = merge_all(before), merge_all(after)
    assert (one.records, one.outcomes) == (other.records, other.outcomes)
    assert one.get("gate.length_s").total == pytest.approx(other.get("gate.length_s").total)
    median = one.get("gate.length_s").quantile(0.5)
    assert median == pytest.approx(other.get("gate.length_s").quantile(0.5), rel=0.05)
    assert watcher.archive.expire(10_000) == len(after)


@mostly_sqlite("store")
def test_the_report_of_a_degraded_hour_and_of_a_silent_one(store: Store) -> None:
    watcher = watched(store, Sink())
    put(store, traffic(1000, start=3600, first=1000, null_share=0.2, length_s=3.0, seed=4))
    watcher.tick(4600)
    references = pinned(watcher.archive.references())
    hour = Facts(3600, 7200, watcher.archive.windows(3600, 7200), references)
    report = health_report(SPEC, hour)
    verdicts = {row.stage.name: row.grade.label for row in report.stages}
    assert verdicts["gate"] == "ok"
    assert verdicts["model"] == "degraded"
    assert "null output rose" in report.stages[1].reasons[0]
    quiet = health_report(SPEC, Facts(10_000, 13_600, watcher.archive.windows(10_000, 13_600), references))
    assert {row.grade.label for row in quiet.stages} == {"no data"}
    assert quiet.grade.label == "no data"
    nobody = health_report(SPEC, Facts(3600, 7200, hour.windows, references, filters=Filters(channel="listen")))
    assert nobody.units == 0


def test_a_thousand_tenants_do_not_make_a_thousand_groups(store: Store) -> None:
    watcher = Watcher(SPEC, store, [], OPTIONS)
    put(store, [unit(i, 10.0, tenant=f"t{i}", tenant_class="enterprise") for i in range(1000)])
    put(store, [unit(i, 10.0, tenant=f"t{i}", tenant_class="consumer") for i in range(1000, 2000)])
    watcher.tick(20)
    groups = {window.group for window in watcher.archive.windows(0, 100)}
    assert len(groups) == 52
    assert merge_all(watcher.archive.windows(0, 100)).records == 2000


def test_values_that_are_not_numbers_are_not_counted(store: Store) -> None:
    watcher = Watcher(SPEC, store, [], OPTIONS)
    put(store, [unit(0, 1.0, float("nan")), unit(1, 1.0, float("inf")), unit(2, 1.0, 2.0)])
    watcher.tick(10)
    known = merge_all(watcher.archive.windows(0, 100)).get("gate.length_s")
    assert (known.count, known.mean) == (1, 2.0)


def test_after_everything_has_expired_new_records_are_followed(store: Store) -> None:
    watcher = Watcher(SPEC, store, [], OPTIONS)
    put(store, traffic(100))
    watcher.tick(100)
    assert store.expire(1000) == 100
    put(store, traffic(50, start=2000, first=1000))
    watcher.tick(2100)
    assert merge_all(watcher.archive.windows(1900, 3000)).records == 50


def test_old_records_and_windows_are_deleted_in_time(store: Store) -> None:
    watcher = Watcher(SPEC, store, [], WatchOptions(keep_records_s=1000.0, keep_windows_s=5000.0))
    put(store, [*traffic(100), *traffic(100, start=9000, first=1000)])
    watcher.tick(9100)
    watcher.keep_house(9100)
    assert len(list(store.read())) == 100
    assert merge_all(watcher.archive.windows(0, 10_000)).records == 100


@mostly_sqlite("store")
def test_what_comes_after_an_announced_change_is_the_new_normal(store: Store) -> None:
    sink = Sink()
    watcher = watched(store, sink)
    watcher.archive.announce("", 1000, 1500, "new microphones")
    put(store, traffic(700, start=1000, first=1000, null_share=0.15, seed=2))
    watcher.tick(1700)
    assert sink.alarms == [], "200 units after the change are too few for a reference, and drift is expected"
    put(store, traffic(600, start=1700, first=1700, null_share=0.15, seed=5))
    for now in (2300, 2400):
        watcher.tick(now)
    (old, new) = watcher.archive.references()
    assert (old.status, new.status, new.approved_by) == ("retired", "pinned", "announced change 1")
    assert new.since == 1500, "nothing from before or during the change is in it"
    put(store, traffic(600, start=2500, first=2500, null_share=0.15, seed=6))
    watcher.tick(3100)
    assert sink.alarms == []
    put(store, traffic(600, start=3100, first=3100, null_share=0.6, seed=7))
    watcher.tick(3700)
    assert sink.alarms[0].condition.metric == "model.null_share", "a change that nobody announced is told"


@mostly_sqlite("store")
def test_an_announced_change_without_traffic_is_not_waited_for_for_ever(store: Store) -> None:
    sink = Sink()
    watcher = watched(store, sink)
    watcher.archive.announce("", 1000, 1500, "new microphones")
    put(store, traffic(400, start=1500, first=1500, null_share=0.3, seed=2))
    watcher.tick(1900)
    assert sink.alarms == []
    put(store, traffic(1, start=1400 + 8 * 86_400, first=2000))
    watcher.tick(1500 + 8 * 86_400)
    assert [alarm.condition.metric for alarm in sink.alarms] == ["model.null_share"]


def test_a_limit_that_was_crossed_before_a_restart_is_still_crossed(store: Store) -> None:
    sink = Sink()
    put(store, traffic(100, null_share=0.9))
    watcher = Watcher(SPEC, store, [sink], OPTIONS)
    for now in (100, 170):
        watcher.tick(now)
    again = Watcher(SPEC, store, [sink], OPTIONS)
    again.tick(172)
    assert [alarm.state for alarm in sink.alarms] == ["firing"]


@mostly_sqlite("store")
def test_filters_leave_out_alarms_of_other_groups(store: Store) -> None:
    watcher = watched(store, Sink())
    put(store, traffic(600, start=1000, first=1000, null_share=0.3, seed=2))
    watcher.tick(1600)
    windows = watcher.archive.windows(0, 2000)
    alarms = [alarm for alarm in watcher.archive.alarms(0) if alarm.state == "firing"]
    assert len(alarms) == 1
    for channel, shown in (("upload", 1), ("listen", 0)):
        facts = Facts(0, 2000, windows, alarms=alarms, filters=Filters(channel=channel))
        assert len(health_report(SPEC, facts).facts.alarms) == shown


def test_a_bundle_without_a_reference_rings_and_what_people_notice_is_compared_with_the_one_before(
    store: Store,
) -> None:
    sink = Sink()
    watcher = watched(store, sink)
    new = [replace(record, bundle="new") for record in traffic(900, start=2000, first=2000, null_share=0.3, seed=5)]
    put(store, new[:300])
    watcher.tick(2300)
    rang = {alarm.condition.metric: alarm.condition for alarm in sink.alarms}
    assert set(rang) == {"model.null_share"}, "of the rest nothing is known: the bundle is another one"
    references = pinned(watcher.archive.references())
    report = health_report(SPEC, Facts(2000, 2400, watcher.archive.windows(2000, 2400), references))
    assert report.stages[1].grade.label == "degraded"
    put(store, new[300:])
    watcher.tick(2900)
    (said,) = [alarm.condition for alarm in sink.alarms if alarm.condition.rule == "reference"]
    assert "new@1 serves without a reference (860 utterances in the last quarter of an hour)" in said.reason
    assert "only what people notice is compared" in said.reason
    put(store, [replace(record, bundle="b") for record in traffic(700, start=2900, first=4000, seed=6)])
    for now in (3400, 3600):
        watcher.tick(now)
    assert "resolved" in [alarm.state for alarm in sink.alarms if alarm.condition.rule == "reference"]


def test_traffic_that_nothing_is_compared_with_is_not_called_well(store: Store) -> None:
    put(store, traffic(300, start=0))
    watcher = Watcher(SPEC, store, [], OPTIONS)
    watcher.tick(300)
    report = health_report(SPEC, Facts(0, 300, watcher.archive.windows(0, 300)))
    assert {row.grade.label for row in report.stages if row.grade.label != "no data"} == {"not watched"}
    assert report.grade.label == "not watched"


def test_a_drift_alarm_counts_from_the_change_and_not_from_the_first_value_that_fitted_it(store: Store) -> None:
    sink = Sink()
    watcher = watched(store, sink)
    put(store, traffic(200, start=1000, first=1000, null_share=0.05, seed=7))
    put(store, traffic(40, start=1200, first=1200, null_share=1.0, seed=8))
    watcher.tick(1240)
    (alarm,) = [alarm for alarm in sink.alarms if alarm.condition.rule == "drift"]
    found = re.search(r"to 100 % \((\d+) of \1 utterances\) since 00:(\d\d):(\d\d) UTC", alarm.condition.reason)
    assert found is not None, alarm.condition.reason
    assert 60 * int(found[2]) + int(found[3]) == pytest.approx(1200, abs=5)


def test_traffic_that_stops_rings_after_half_an_hour_and_an_empty_night_does_not(store: Store) -> None:
    sink = Sink()
    watcher = Watcher(SPEC, store, [sink], OPTIONS)
    day = 86_400.0
    put(store, traffic(4_000, start=8 * 3_600.0))  # a bit more than an hour, from eight o'clock on
    watcher.tick(8 * 3_600.0 + 4_000)
    for at in (12 * 3_600.0, day, day + 8 * 3_600.0 + 600):
        watcher.tick(at)
    assert sink.alarms == [], "at those times there was no traffic the day before, or half an hour is not over"
    for late_s in (1_900, 1_940, 2_070):
        watcher.tick(day + 8 * 3_600.0 + late_s)
    (alarm,) = sink.alarms
    assert (alarm.condition.metric, alarm.condition.severity) == ("system.no_traffic", "page")
    put(store, traffic(10, start=day + 8 * 3_600.0 + 2_080, first=9_000))
    for late_s in (2_110, 2_150, 2_280):
        watcher.tick(day + 8 * 3_600.0 + late_s)
    assert sink.alarms[-1].state == "resolved"


def test_a_change_history_that_cannot_be_read_does_not_silence_missing_traffic(store: Store) -> None:
    def broken(since: float, until: float) -> list[ServiceChange]:
        raise OSError("the disk is gone")

    sink = Sink()
    watcher = Watcher(SPEC, store, [sink], OPTIONS, ChangeLog([broken]))
    put(store, traffic(4_000, start=8 * 3_600.0))
    for at in (8 * 3_600.0 + 4_000, *(86_400.0 + 8 * 3_600.0 + late_s for late_s in (1_900, 1_940, 2_070, 2_072))):
        with contextlib.suppress(OSError):
            watcher.tick(at)
    assert [alarm.condition.metric for alarm in watcher.archive.alarms() if alarm.state == "firing"] == [
        "system.no_traffic"
    ]


@pytest.mark.parametrize(("share", "most"), [(0.06, 4), (0.1, 3), (0.3, 2)])
def test_an_alarm_of_a_fault_that_goes_on_is_not_told_again_and_again(store: Store, share: float, most: int) -> None:
    sink = Sink()
    watcher = watched(store, sink)
    for part in range(10):
        put(store, traffic(300, start=1000 + 300 * part, first=1000 * (part + 1), null_share=share, seed=part))
        watcher.tick(1300 + 300 * part)
    rang = [one for one in sink.alarms if one.state == "firing" and one.condition.metric == "model.null_share"]
    assert 1 <= len(rang) <= most


def test_a_fault_of_some_values_only_is_not_told_again_and_again(store: Store) -> None:
    sink = Sink()
    watcher = watched(store, sink)
    for part in range(10):
        records = traffic(300, start=1000 + 300 * part, first=1000 * (part + 1), seed=part)
        odd = traffic(300, start=1000 + 300 * part, first=1000 * (part + 1), seed=part, length_s=12.0)
        put(
            store,
            [other if number % 4 == 0 else one for number, (one, other) in enumerate(zip(records, odd, strict=True))],
        )
        watcher.tick(1300 + 300 * part)
    rang = [one for one in sink.alarms if one.state == "firing" and one.condition.metric == "gate.length_s"]
    assert 1 <= len(rang) <= 3
