"""Verdicts in the watcher: when they are made, and with which alarms and reports they stand."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from speechpipe.errors import InvalidParameter, UnknownName
from speechpipe.foundation.storage.record import Record
from speechpipe.interfaces.web.health import whole
from speechpipe.monitor.alarm_verdicts import AlarmVerdicts
from speechpipe.monitor.alarms import Alarm
from speechpipe.monitor.blame.repository import StoredVerdict
from speechpipe.monitor.reference import Reference
from speechpipe.monitor.windows import Group
from speechpipe.serving.health.documents import document as report_document
from speechpipe.serving.health.operations import HealthOperations
from tests.monitor.toy_cascade import SPEC, Watching, reference, traffic


def test_an_alarm_and_the_report_say_whom_blame_names(tmp_path: Path) -> None:
    told: list[Alarm] = []
    watching = Watching(tmp_path, [SimpleNamespace(name="test", send=told.extend)])
    proposal = watching.begin()
    watching.put(traffic(300, start=600, seed=1), 900.0)
    assert told == []
    watching.put(traffic(300, start=900, seed=2, gate=-1.0), 1200.0)
    drifts = [alarm for alarm in told if alarm.condition.rule == "drift"]
    assert drifts
    assert all(alarm.blame.startswith("gate: ") for alarm in drifts)
    operations = HealthOperations(SPEC, watching.store, clock=lambda: 1200.0)
    report = operations.report(1000)
    (found,) = report.facts.verdicts
    assert (found.label, found.document["stage"]) == ("gate", "gate")
    assert 'data-blame="gate"' in whole(report)
    known = {name: value for name, value in found.document.items() if name != "perhaps"}
    earlier = replace(report, facts=replace(report.facts, verdicts=[replace(found, document=known)]))
    assert 'data-blame="gate"' in whole(earlier), "a verdict that an earlier version has stored"
    (one,) = report_document(report)["incidents"]
    assert {alarm["incident"] for alarm in report_document(report)["alarms"] if alarm["rule"] == "drift"} == {one["id"]}
    assert (one["state"], one["blame"].split(":")[0], len(one["sessions"])) == ("firing", "gate", 5)
    assert f'data-incident="{one["id"]}"' in whole(report)
    (alarm,) = {alarm.blame for alarm in operations.report(1000).facts.alarms if alarm.blame}
    assert alarm.startswith("gate: ")
    worth = {row.metric: row for row in operations.value(1000)}
    assert sum(row.blamed for row in worth.values()) == sum(row.alarms for row in worth.values()) > 0
    assert [name for name, row in worth.items() if row.decisive] == ["gate.open"]  # the only metric of its stage
    watching.put(traffic(300, start=1200, seed=3, bundle="other"), 1500.0)
    groups = dict(operations.verdicts(0.0, 1500.0))
    (other,) = [verdict for group, verdict in groups.items() if group.bundle == "other@1"]
    assert other.reason == "compared with b@1: nothing relevant has changed"
    asked = operations.verdicts(0.0, 1500.0, number=proposal.id)
    assert len(asked) == 2, "also of another bundle, where somebody asks for it"
    watching.put([replace(record, channel="d") for record in traffic(300, start=1500, seed=4)], 1800.0)
    (unheard,) = [verdict for group, verdict in operations.verdicts(1500.0, 1800.0) if group.channel == "d"]
    assert not unheard.decided
    assert unheard.reason.startswith("not watched: ")
    with pytest.raises(InvalidParameter, match="the traffic is of"):
        operations.verdicts(1500.0, 1800.0, number=proposal.id)
    with pytest.raises(UnknownName, match="no reference 99"):
        operations.verdicts(0.0, 1500.0, number=99)


def test_the_verdict_on_an_alarm_follows_the_cases_and_outlives_the_fault(tmp_path: Path) -> None:
    watching = Watching(tmp_path)
    watching.begin()
    fault = traffic(200, start=600, seed=2, gate=-2.0)
    watching.put([record for record in fault if record.at < 610], 610.0)
    assert set(watching.blamed.values()) <= {"none"}, "there are too few cases for a verdict"
    watching.put([record for record in fault if record.at >= 610], 800.0)
    assert set(watching.blamed.values()) == {"gate"}
    watching.put(traffic(150, start=800, seed=3), 950.0)
    assert set(watching.blamed.values()) <= {"gate"}, "it says what the alarm was about"


def test_verdicts_are_made_after_fifty_sessions_and_stored_when_they_say_something_else(tmp_path: Path) -> None:
    watching = Watching(tmp_path, budget=0.001)
    watching.begin()

    def stored(records: list[Record], now: float) -> list[tuple[float, str]]:
        watching.put(records, now)
        return [(one.at, one.label) for one in watching.watcher.blame.archive.history(0.0, now)]

    assert stored(traffic(60, start=1000, seed=1), 1060.0) == [(1060.0, "none")]  # the first, which is due anyway
    assert stored(traffic(60, start=1060, seed=2), 1120.0) == [(1060.0, "none")], "the same as before"
    assert stored(traffic(60, start=1120, seed=3, gate=-2.0), 1180.0) == [(1060.0, "none"), (1180.0, "gate")]


def test_verdicts_take_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []
    passed = [0.0]

    def stored(group: Group, of: Reference, since: float, now: float, repeat_s: float) -> StoredVerdict:
        made.append(now)
        passed[0] += 2.0  # it takes two seconds
        return StoredVerdict(now, group, "none", {"decided": True, "reason": ""})

    monkeypatch.setattr("speechpipe.monitor.alarm_verdicts.time.thread_time", lambda: passed[0])
    archive = SimpleNamespace(alarms=list)
    verdicts = AlarmVerdicts(SPEC, archive, SimpleNamespace(stored=stored, read_once=nullcontext), [])  # type: ignore[arg-type]
    verdicts.make(999.0, {}, [])  # the periodic ones
    pinned = {one.group: one for one in (reference(1, "b@1"), reference(2, "c@1"))}
    for now in range(1000, 1300, 5):
        verdicts.heard(dict.fromkeys(pinned, 60))
        verdicts.make(float(now), pinned, [])
    assert made == [1000.0, 1000.0, 1080.0, 1080.0, 1160.0, 1160.0, 1240.0, 1240.0]


def test_a_verdict_on_what_began_later_is_not_said_with_an_alarm_that_has_one(tmp_path: Path) -> None:
    watching = Watching(tmp_path)
    watching.begin()
    watching.put(traffic(200, start=600, seed=2, gate=-2.0), 800.0)
    assert watching.blamed["gate.open"] == "gate"
    watching.put(traffic(60, start=800, seed=4, gate=-2.0), 860.0)
    watching.put(traffic(200, start=860, seed=3, gate=-2.0, level=-9.0), 1060.0)
    assert watching.blamed["source.level"] == "source"
    assert watching.blamed["gate.open"] == "gate", "it fired before the level fell"


def test_what_people_say_of_sessions_without_a_unit_is_not_counted_for_the_next_units(tmp_path: Path) -> None:
    watching = Watching(tmp_path, budget=0.01)
    watching.begin()
    silent = [record for record in traffic(60, start=600, seed=1) if record.kind == "session"]
    redone = [replace(record, kind="feedback", id=f"f-{record.id}", outcome="redo", measures={}) for record in silent]
    watching.put([*silent, *redone, *traffic(60, start=660, seed=2)], 720.0)
    assert "people.redo" not in watching.blamed
    watching.put(traffic(60, start=720, seed=3, redo=0.9), 780.0)
    assert "people.redo" in watching.blamed, "that of sessions with units is"


def test_sessions_without_a_unit_get_a_verdict(tmp_path: Path) -> None:
    watching = Watching(tmp_path)
    watching.begin()
    watching.put([one for one in traffic(200, start=600, seed=2, gate=-3.0) if one.kind == "session"], 1000.0)
    (found,) = watching.watcher.blame.archive.verdicts(0.0, 2000.0)
    assert found.label == "infra", "none of their units reached the store"


def test_the_verdict_on_all_traffic_is_told_where_that_on_a_group_names_no_stage(tmp_path: Path) -> None:
    watching = Watching(tmp_path)

    def put(now: float, *, count: int, start: float, gate: float = 0.0) -> None:
        found = []
        for number, channel in enumerate("cdef"):
            for record in traffic(count, start=start, seed=number + int(start), gate=gate):
                told = replace(record, id=f"{channel}{record.id}", session_id=f"{channel}{record.session_id}")
                found.append(replace(told, channel=channel))
        watching.put(found, now)

    put(600.0, count=600, start=0.0)
    archive = watching.watcher.archive
    for one in archive.references():
        archive.approve(one.id, "ann", 600.0)
    put(700.0, count=100, start=600.0)
    put(720.0, count=20, start=700.0, gate=-1.5)
    watching.watcher.tick(1100.0)
    put(1101.0, count=5, start=1100.0, gate=-1.5)
    found = {verdict.group.label: verdict for verdict in watching.watcher.blame.archive.verdicts(0.0, 2000.0)}
    assert found["b@1 champion"].label == "gate"
    said = {alarm.blame for alarm in watching.drifts}
    assert said
    assert all(text.startswith("gate: ") for text in said)
