"""Several servers on one store, and servers that are restarted: nothing is counted twice or forgotten."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

import speechpipe.monitor.repository as archive_module
from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.drift import DriftWatch
from speechpipe.monitor.reference import pinned
from speechpipe.monitor.repository import Archive
from speechpipe.monitor.watch import Watcher
from speechpipe.monitor.windows import Group, Window, merge_all, merged
from tests.databases import DATABASES, Database, place_tables
from tests.monitor.test_watch import OPTIONS, Sink, put, watched
from tests.records import SPEC, traffic, unit

GROUP = Group("consumer", "", "upload", "b@1", "champion")


@pytest.fixture(params=DATABASES, ids=str)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    database: Database = request.param
    with database.ready(tmp_path) as url:
        found = Store(url)
        found.open()
        yield found
        found.close()


def test_a_reference_is_proposed_though_the_server_restarts_again_and_again(store: Store) -> None:
    for day in range(4):
        watcher = Watcher(SPEC, store, [], OPTIONS)
        put(store, traffic(300, start=day * 1000, first=day * 1000, seed=day))
        watcher.tick(day * 1000 + 900)
    (reference,) = watcher.archive.references()
    assert reference.status == "proposed"
    assert reference.units >= 500
    assert watcher.archive.units(GROUP, 0.0) == 1200


def test_two_housekeepers_double_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Archive(lambda: store.engine), Archive(lambda: store.engine)
    windows = [Window(60 * minute, GROUP, records=10, outcomes={"ok": 5}) for minute in (*range(10), 1000)]
    one.commit(0, 1, windows, {})
    plain = merged

    def slow(*arguments: object) -> list[Window]:
        monkeypatch.setattr(archive_module, "merged", plain)
        two.compact(10_000)  # between the other's reading and its deleting
        return plain(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(archive_module, "merged", slow)
    one.compact(10_000)
    found = one.windows(0, 1e9)
    assert merge_all(found).records == 110
    assert len(found) == 2
    assert one.units(GROUP, 0) == 55


def test_late_windows_are_not_lost_to_compaction(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive(lambda: store.engine)
    archive.commit(0, 1, [Window(60 * minute, GROUP, records=10) for minute in range(10)], {})
    plain = merged

    def slow(*arguments: object) -> list[Window]:
        monkeypatch.setattr(archive_module, "merged", plain)
        archive.commit(1, 2, [Window(60, GROUP, records=7)], {})
        return plain(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(archive_module, "merged", slow)
    archive.compact(10_000)
    archive.compact(10_000)
    assert merge_all(archive.windows(0, 1e9)).records == 107
    assert len(archive.windows(0, 1e9)) == 1


@pytest.mark.long
def test_more_windows_than_a_statement_takes_variables(tmp_path: Path) -> None:
    store = Store(place_tables(tmp_path / "a.db"))
    archive = Archive(lambda: store.engine)
    many = [Window(60 * (number % 15), GROUP, records=1) for number in range(270_000)]
    archive.commit(0, 1, many, {})
    assert archive.compact(10_000) == len(many) - 1
    assert merge_all(archive.windows(0, 1e9)).records == len(many)
    store.close()


def test_what_is_too_old_is_deleted_although_putting_together_fails(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(SPEC, store, [], OPTIONS)
    put(store, traffic(100))
    watcher.tick(100)

    def fails(*_: object) -> int:
        raise OperationalError("DELETE", {}, Exception("too many SQL variables"))

    monkeypatch.setattr(watcher.archive, "compact", fails)
    with pytest.raises(OperationalError):
        watcher.keep_house(1e9)
    assert list(store.read()) == []
    assert watcher.archive.windows(0, 1e9) == []


def test_tenants_keep_their_groups_over_a_restart(store: Store) -> None:
    def day(first: int, names: list[str]) -> set[Group]:
        watcher = Watcher(SPEC, store, [], OPTIONS)
        at = 1000.0 * first
        put(store, [unit(first * 100 + n, at, tenant=name, tenant_class="enterprise") for n, name in enumerate(names)])
        watcher.tick(at + 20)
        return {window.group for window in watcher.archive.windows(at - 60, at + 60)}

    names = [f"t{number}" for number in range(60)]
    first = day(0, names)
    again = day(1, names[::-1])
    assert first == again
    assert len(first) == 51
    assert {group.tenant for group in again} == {*names[:50], "(other)"}


def test_the_state_of_retired_references_is_forgotten(store: Store) -> None:
    watcher = watched(store, Sink())
    put(store, traffic(300, start=1000, first=1000, seed=1))
    watcher.tick(1300)
    before = watcher.archive.cursor()[1]
    assert before
    for number in range(3):
        (proposal,) = watcher.archive.references()[:1]
        watcher.archive.approve(watcher.archive.propose(proposal), "ann", 2000.0)
        put(store, traffic(50, start=2000 + 100 * number, first=2000 + 100 * number, seed=number))
        watcher.tick(2100 + 100 * number)
        Watcher(SPEC, store, [], OPTIONS).tick(2100 + 100 * number)
    state = watcher.archive.cursor()[1]
    assert len(state) == len(before)
    again = DriftWatch(SPEC, OPTIONS.budget)
    again.compare_with(pinned(watcher.archive.references()))
    again.restore({**state, "of|an|older|version": {}, **before})
    assert set(again.state()) == set(state)


def test_a_tenant_may_be_called_anything(store: Store) -> None:
    name = 'a|b "c" \\ d'
    watcher = Watcher(SPEC, store, [], OPTIONS)
    put(store, [unit(n, float(n), tenant=name, tenant_class="enterprise") for n in range(250)])
    watcher.tick(300)
    (reference,) = watcher.archive.references()
    watcher.archive.approve(reference.id, "ann", 300)
    put(store, [unit(n, float(n), tenant=name, tenant_class="enterprise") for n in range(250, 300)])
    watcher.tick(310)
    again = Watcher(SPEC, store, [], OPTIONS)
    put(store, [unit(n, float(n), tenant=name, tenant_class="enterprise") for n in range(300, 320)])
    again.tick(330)
    assert merge_all(again.archive.windows(0, 1000)).records == 320
