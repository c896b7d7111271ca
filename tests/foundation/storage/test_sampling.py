"""Sessions that are read as a sample of a long time, on both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from speechpipe.foundation.storage import sampling
from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.sampling import sampled
from speechpipe.foundation.storage.store import Store
from tests.databases import DATABASES, Database


@pytest.fixture(params=DATABASES, ids=str)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A hundred sessions of two units each, a second one from the other, and a record of the server each second."""
    database: Database = request.param
    with database.ready(tmp_path) as url:
        store = Store(url)
        store.open()
        for number in range(100):
            tenant, at = ("ann", "bob")[number % 2], float(number)
            for kind, name in (("unit", f"a{number}"), ("unit", f"b{number}"), ("session", f"s{number}")):
                store.append(Record(kind, name, f"s{number}", at, "upload", "b", "1", tenant=tenant))
            store.append(Record("system", f"m{number}", "", at, "", "", ""))
        store.append(Record("session", "other", "other", 50.0, "upload", "c", "1"))
        store.append(Record("feedback", "late", "s0", 900.0, "upload", "b", "1", tenant="ann"))
        store.flush()
        yield store
        store.close()


def test_sessions_are_spread_over_the_time_and_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MOST_OF_THE_SERVER", 20)
    monkeypatch.setattr(sampling, "PART", 7)
    found = sampled(store.engine, 10, 0.0, 100.0, bundle="b", bundle_version="1")
    sessions = [one for one in found if one.kind == "session"]
    assert [one.at for one in sessions] == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert {one.session_id for one in found if one.kind == "unit"} == {one.session_id for one in sessions}
    assert sum(one.kind == "unit" for one in found) == 20
    assert [one.id for one in found if one.kind == "feedback"] == ["late"], "it was said of a session within the span"
    system = [one.at for one in found if one.kind == "system"]
    assert (len(system), system[0], system[-1]) == (20, 0.0, 95.0)
    assert system == sorted(system)


def test_all_are_read_if_they_are_few(store: Store) -> None:
    found = sampled(store.engine, 1000, 20.0, 30.0, bundle="b", bundle_version="1", tenant="bob")
    assert [one.at for one in found if one.kind == "session"] == [21, 23, 25, 27, 29]
    assert sum(one.kind == "system" for one in found) == 10
    assert sampled(store.engine, 10, 500.0, 600.0, bundle="b") == []
