"""What is said of changes of the service: by each subject's history, near an onset, and to those who get alarms."""

import contextlib
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from speechpipe.app import change_log
from speechpipe.control.review.policy_repository import Automation
from speechpipe.control.rollout.repository import Entry, RolloutArchive
from speechpipe.control.rollout.routes import RouteState
from speechpipe.control.training import Kind, Request, State
from speechpipe.control.training.repository import Retrainings
from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.alarms import Alarm
from speechpipe.monitor.change_log import ChangeLog, ServiceChange, near
from speechpipe.monitor.change_sources import STARTED
from speechpipe.monitor.watch import Watcher
from speechpipe.serving.health.documents import document
from speechpipe.serving.health.operations import HealthOperations
from tests.databases import place_tables
from tests.records import SPEC, traffic

NOW = 10_000.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store in which one of everything was changed, a minute apart, beginning ten minutes ago."""
    found = Store(place_tables(tmp_path / "r.db"))
    found.open()
    started = Record("system", "start", "", NOW - 600, "", "", "", outcome=STARTED, versions={"speechpipe": "0.2.0"})
    found.append(started)
    found.flush()
    archive = RolloutArchive(lambda: found.engine, {})
    state = RouteState(champion="b@1").changed()
    archive.save(state, Entry(NOW - 540, "ann", "promote", "all guards hold", "b@2", {}))
    archive.save(state.changed(), Entry(NOW - 480, "speechpipe", "ask", "every guard is within its margin", "b@3", {}))
    Automation(lambda: found.engine, lambda: NOW - 420).set("shop", {"degree": "assist"}, "bob", "a test")
    jobs = Retrainings(lambda: found.engine, lambda: NOW - 360)
    jobs.end(jobs.add(Request(Kind.LM, "b@1"), owner="me"), State.FAILED, "me", "the disk is full")
    return found


def test_every_subject_says_what_was_changed_by_whom_and_why(store: Store) -> None:
    found = change_log(store).between(NOW - 3600, NOW)
    assert [(change.at, change.told) for change in found] == [
        (NOW - 600, False),
        (NOW - 540, True),
        (NOW - 480, True),
        (NOW - 420, False),
        (NOW - 360, True),
    ]
    start, promoted, asks, automated, retrained = [change.text for change in found]
    assert start == "a server started (speechpipe 0.2.0)"
    assert promoted == "promote of b@2 by ann: all guards hold"
    assert asks.endswith("it waits for you: `speechpipe rollout approve` or `rollback`")
    assert "automation of shop" in automated
    assert "to assist by bob: a test" in automated
    assert retrained.endswith("of b@1 is failed: the disk is full")
    assert change_log(store).between(NOW - 500, NOW - 400) == found[2:4]


def test_those_who_get_alarms_are_told_once(store: Store) -> None:
    told: list[Alarm] = []
    watcher = Watcher(SPEC, store, [SimpleNamespace(name="test", send=told.extend)], change_log=change_log(store))
    for now in (NOW, NOW + 2):
        watcher.tick(now)
    assert {alarm.condition.group for alarm in told} == {"server: route 1", "server: route 2", "server: retraining 1 2"}
    for now in (NOW + 1000, NOW + 1002, NOW + 1200):
        watcher.tick(now)
    assert [alarm.state for alarm in told].count("resolved") == 3
    assert len(told) == 6


def test_a_report_lists_changes_and_is_no_worse_for_them(store: Store) -> None:
    for record in traffic(300, start=NOW - 300):
        store.append(record)
    store.flush()
    watcher = Watcher(SPEC, store, [], change_log=change_log(store))
    watcher.tick(NOW)
    report = HealthOperations(SPEC, store, clock=lambda: NOW, change_log=change_log(store)).report(3600)
    assert len(document(report)["changes"]) == 5
    assert report.grade.label == "not watched"


@pytest.mark.parametrize(
    ("onset", "named"),
    [(NOW - 500, ["promote of b@2", "ask of b@3", "set of the automation"]), (NOW - 3000, []), (NOW + 700, [])],
)
def test_what_was_changed_shortly_before_an_onset_is_named(store: Store, onset: float, named: list[str]) -> None:
    said = near(change_log(store).between(0.0, NOW + 1.0), onset)
    texts = re.findall(r"(?:min before|just then), at \S+ UTC (.*?)(?=; \d+ min|; just|$)", said)
    assert [text for text, name in zip(texts, named, strict=True) if not text.startswith(name)] == []


def test_a_reference_that_was_pinned_is_not_named_as_why_something_changed() -> None:
    pinned = ServiceChange(90.0, "reference 3", "reference 3 was pinned by ann", told=False, of_service=False)
    started = ServiceChange(80.0, "start", "a server started")
    assert near([started, pinned], 100.0).endswith("a server started")
    assert near([pinned], 100.0) == ""


def test_a_history_that_cannot_be_read_silences_no_alarm(tmp_path: Path) -> None:
    store = Store(place_tables(tmp_path / "r.db"))
    store.open()
    told: list[Alarm] = []

    def broken(since: float, until: float) -> list[ServiceChange]:
        raise KeyError("judgement")

    sink = SimpleNamespace(name="test", send=told.extend)
    watcher = Watcher(SPEC, store, [sink], change_log=ChangeLog([broken]))

    def tick(now: float) -> None:
        with contextlib.suppress(KeyError):
            watcher.tick(now)

    for record in traffic(1000):
        store.append(record)
    store.flush()
    tick(1000)
    watcher.archive.approve(watcher.archive.references()[0].id, "ann", 1000)
    for record in traffic(600, start=1000, first=1000, null_share=0.4, seed=2):
        store.append(record)
    store.flush()
    for now in (1600, 1602, 1604):
        tick(now)
    assert "model.null_share" in {alarm.condition.metric for alarm in told}
