"""Compare-and-swap: of those who change a row at the same time, one succeeds."""

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from speechpipe.foundation.storage.schema import routes
from speechpipe.foundation.storage.store import Store
from speechpipe.foundation.storage.swap import swap
from tests.databases import DATABASES, Database


@pytest.fixture(params=DATABASES, ids=str)
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.param
    return found


def test_a_row_that_is_not_what_it_was_is_left_alone(database: Database, tmp_path: Path) -> None:
    with database.ready(tmp_path) as url:
        store = Store(url)
        row = {"name": "r", "revision": 1, "document": {}, "changed_at": 0.0}
        with store.engine.begin() as connection:
            connection.execute(sa.insert(routes), [row, {**row, "name": "other"}])
            was = {"name": "r", "revision": 1}
            assert swap(connection, routes, was, {"revision": 2, "changed_at": 5.0})
            assert not swap(connection, routes, was, {"revision": 2, "changed_at": 9.0}), "it has revision 2 now"
        with store.engine.connect() as connection:
            found = connection.execute(sa.select(routes.c.name, routes.c.revision, routes.c.changed_at)).all()
        assert sorted(tuple(line) for line in found) == [("other", 1, 0.0), ("r", 2, 5.0)]
        store.close()


def test_of_many_at_once_one_succeeds(database: Database, tmp_path: Path) -> None:
    with database.ready(tmp_path) as url:
        store = Store(url)
        with store.engine.begin() as connection:
            connection.execute(sa.insert(routes), {"name": "r", "revision": 1, "document": {}, "changed_at": 0.0})
        stores = [Store(url) for _ in range(4)]  # as several servers have
        start, won = threading.Barrier(len(stores)), []

        def work(number: int) -> None:
            start.wait()
            with stores[number].engine.begin() as connection:
                if swap(connection, routes, {"name": "r", "revision": 1}, {"revision": 2, "changed_at": float(number)}):
                    won.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(len(stores))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with store.engine.connect() as connection:
            (found,) = connection.execute(sa.select(routes.c.revision, routes.c.changed_at)).all()
        assert len(won) == 1
        assert tuple(found) == (2, float(won[0]))
        for one in (store, *stores):
            one.close()
