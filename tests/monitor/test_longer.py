"""A reference of some hours: once a day was healthy, that day is proposed instead."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.alarms import Alarm, Condition
from speechpipe.monitor.longer import DAY_S, short
from speechpipe.monitor.reference import Reference
from speechpipe.monitor.watch import Watcher, WatchOptions
from speechpipe.monitor.windows import Group, Window
from tests.databases import place_tables
from tests.records import SPEC, traffic

GROUP = Group("consumer", "", "upload", "b@1", "champion")
HOURS = Reference(1, GROUP, 0.0, 3_600.0, 3_600.0, "pinned", Window(0, GROUP, 0))


def page(group: str, resolved_at: float | None, severity: str = "page") -> Alarm:
    condition = Condition("drift", "m.x", "m", severity, group, "x changed")
    return Alarm("a", condition, "firing" if resolved_at is None else "resolved", 0.0, 100.0, resolved_at)


def test_it_is_due_after_a_day() -> None:
    assert short([HOURS], [], DAY_S - 1) == []
    assert short([HOURS], [], DAY_S) == [HOURS]


@pytest.mark.parametrize(
    "other",
    [
        replace(HOURS, until=DAY_S),
        replace(HOURS, status="retired"),
        replace(HOURS, group=GROUP._replace(arm="canary")),
        replace(HOURS, group=Group("", "", "", "", "")),
    ],
    ids=["of a day", "retired", "a candidate's", "the server's"],
)
def test_others_stay(other: Reference) -> None:
    assert short([other], [], 2 * DAY_S) == []


def test_a_day_with_a_page_is_not_proposed() -> None:
    label = GROUP.label
    assert short([HOURS], [page(label, None)], DAY_S) == []
    assert short([HOURS], [page(label, DAY_S + 5)], 2 * DAY_S) == []
    assert short([HOURS], [page(label, 50_000.0)], 2 * DAY_S) == [HOURS]
    assert short([HOURS], [page("another group", None), page(label, None, "investigate")], DAY_S) == [HOURS]


def test_nothing_is_proposed_twice() -> None:
    waiting = replace(HOURS, id=2, status="proposed", since=DAY_S)
    assert short([HOURS, waiting], [], 3 * DAY_S) == []
    assert short([HOURS, replace(waiting, since=0.0)], [], 3 * DAY_S) == [HOURS], "that one is as old"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(place_tables(tmp_path / "records.db"))
    store.open()
    yield store
    store.close()


def test_a_watcher_proposes_the_day_once(store: Store) -> None:
    hours = [replace(record, at=record.at * 60.0) for record in traffic(1_600)]  # a session a minute
    for record in hours:
        store.append(record)
    store.flush()
    watcher = Watcher(SPEC, store, [], WatchOptions(verdicts=False))
    first = 600 * 60.0
    watcher.tick(first)
    (reference,) = watcher.archive.references()
    watcher.archive.approve(reference.id, "ann", first)
    for now in (DAY_S - 3_600.0, 1_600 * 60.0, 1_600 * 60.0 + 3_700.0):
        watcher.tick(now)
    _, longer = watcher.archive.references()
    assert (longer.status, longer.group) == ("proposed", reference.group)
    assert longer.days == pytest.approx(1.0)
    assert longer.units > reference.units
    assert reference.days < 0.5


def test_a_day_with_traffic_of_an_hour_is_not_proposed(store: Store) -> None:
    for record in traffic(1_000):  # a session a second
        store.append(record)
    store.flush()
    watcher = Watcher(SPEC, store, [], WatchOptions(verdicts=False))
    watcher.tick(1_000.0)
    (reference,) = watcher.archive.references()
    watcher.archive.approve(reference.id, "ann", 1_000.0)
    for record in traffic(900, start=50_000.0, first=5_000):
        store.append(record)
    store.flush()
    watcher.tick(DAY_S + 2_000.0)
    assert len(watcher.archive.references()) == 1
