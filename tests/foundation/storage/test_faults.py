"""What can happen to a store while the server runs: away, locked, deleted, damaged; records that it cannot take."""

import logging
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, inspect, select, text
from sqlalchemy.exc import OperationalError

from speechpipe.errors import InvalidParameter, StoreUnavailable
from speechpipe.foundation.storage import database
from speechpipe.foundation.storage.database import translating_store_errors
from speechpipe.foundation.storage.schema import about, records
from speechpipe.foundation.storage.store import ORDER, Store
from speechpipe.monitor.watch import Watcher
from speechpipe.monitor.windows import merge_all
from tests.databases import DATABASES, POSTGRES, Database, Postgres
from tests.foundation.storage.test_store import eventually, record
from tests.monitor.test_watch import OPTIONS, put
from tests.patience import PATIENCE_S
from tests.records import SPEC, traffic


@pytest.fixture(params=DATABASES, ids=str)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    found: Database = request.param
    with found.ready(tmp_path) as url:
        yield url


def ids(url: str) -> list[str]:
    reader = Store(url)
    found = [item.id for item in reader.read()]
    reader.close()
    return found


def test_a_database_server_that_is_away_for_a_while_loses_nothing(tmp_path: Path) -> None:
    server = Postgres()
    try:
        with server.empty(tmp_path) as url:
            store = Store(url)
            store.open()
            store.append(record(0))
            assert store.flush(60)
            server.pause()
            for number in range(1, 2500):
                store.append(record(number))
            eventually(lambda: store.task.status.failures >= 3)
            assert store.failure
            assert str(server.folder) not in store.failure + store.task.status.last_failure
            with pytest.raises(StoreUnavailable) as refused, translating_store_errors():
                store.last_seq()
            assert str(server.folder) not in refused.value.message
            server.resume()
            assert store.flush(120)
            assert not store.lost
            assert store.written == 2500
            store.close()
            assert sorted(ids(url)) == sorted(f"r{number}" for number in range(2500))
    finally:
        server.stop()


def test_a_locked_file_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_MS", 20)
    url = f"sqlite:///{tmp_path / 'a.db'}"
    store = Store(url)
    store.open()
    store.append(record(0))
    assert store.flush(60)
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for number in range(1, 1500):
        store.append(record(number))
    eventually(lambda: store.task.status.failures >= 2)
    assert store.failure == "the database is locked"
    other.execute("COMMIT")
    other.close()
    assert store.flush(60)
    store.close()
    assert not store.lost
    assert len(ids(url)) == 1500


def test_only_the_records_that_cannot_be_written_are_dropped(url: str) -> None:
    store = Store(url)
    for number in range(300):
        store.append(record(number))
    store.append(record(1000, id="lone \ud800 surrogate"))
    store.append(record(1001, measures={"vad.x": object()}))
    store.append(record(1002, versions={"vad": "\udfff"}))
    store.append(record(1003, at="yesterday"))
    store.append(record(7))  # is there already
    store.append(record(1004, at=float("nan")))  # a time is needed
    for number in range(300, 600):
        store.append(record(number))
    store.append(record(2000, session_id="nul \0 inside", measures={"input.codec": "W\0AV"}))
    store.open()
    assert store.flush(120)
    store.append(record(600))
    assert store.flush(60)
    store.close()
    assert store.lost["unencodable"] == 4
    assert store.lost["refused"] + store.lost["unencodable"] in (5, 6)  # PostgreSQL knows times that are not numbers
    reader = Store(url)
    found = {item.id: item for item in reader.read()}
    reader.close()
    assert set(found) - {"r1004"} == {f"r{number}" for number in range(601)} | {"r2000"}
    assert found["r2000"].session_id == "nul \ufffd inside"
    assert found["r2000"].measures == {"input.codec": "W\ufffdAV"}


def test_a_commit_whose_outcome_is_unknown_is_repeated_without_duplicates(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(url)
    dialect, calls = store.engine.dialect, list[Any]()
    plain = dialect.do_commit

    def written_and_then_broken(connection: Any) -> None:
        plain(connection)
        calls.append(connection)
        if len(calls) < 3:
            raise OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))

    monkeypatch.setattr(dialect, "do_commit", written_and_then_broken)
    for number in range(900):
        store.append(record(number))
    store.open()
    assert store.flush(120)
    store.close()
    assert len(calls) == 3
    assert not store.lost
    assert store.written == 900
    assert sorted(ids(url)) == sorted(f"r{number}" for number in range(900))


def test_the_writer_goes_on_after_an_unforeseen_exception(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(url)
    dialect, failed = store.engine.dialect, list[Any]()
    plain = dialect.do_commit

    def broken(connection: Any) -> None:
        if len(failed) < 3:
            failed.append(connection)
            raise RuntimeError("unforeseen")
        plain(connection)

    monkeypatch.setattr(dialect, "do_commit", broken)
    store.open()
    store.append(record(1))
    assert store.flush(60)
    store.append(record(2))
    assert store.flush(60)
    assert store.task.status.failures == 3
    assert not store.task.status.failing
    store.close()
    assert not store.lost
    assert ids(url) == ["r1", "r2"]


def test_what_a_caller_was_told_is_not_stored_is_not_stored_later(tmp_path: Path) -> None:
    blocked = tmp_path / "not-a-folder"
    blocked.write_text("in the way")
    url = f"sqlite:///{blocked}/a.db"
    store = Store(url)
    store.open()
    eventually_failing = record(1)
    assert not store.write(eventually_failing, 0.3)
    blocked.unlink()
    assert store.write(record(2), 60.0)
    store.close()
    assert ids(url) == ["r2"]


@pytest.mark.parametrize("left", ["nothing", "wal and shm", "another file"])
def test_a_file_that_is_deleted_or_replaced_is_noticed_and_the_loss_is_said(tmp_path: Path, left: str) -> None:
    path = tmp_path / "a.db"
    store = Store(f"sqlite:///{path}")
    store.open()
    for number in range(10):
        store.append(record(number))
    assert store.flush(60)
    if left == "another file":
        other = Store(f"sqlite:///{tmp_path / 'b.db'}")
        other.open()
        other.append(record(500))
        other.close()
        (tmp_path / "b.db").replace(path)
    else:
        path.unlink()
        if left == "nothing":
            for name in ("a.db-wal", "a.db-shm"):
                (tmp_path / name).unlink()
    for number in range(10, 20):
        store.append(record(number))
    assert store.flush(60)
    assert store.lost["store_replaced"] >= 10
    assert store.last_seq() >= 10, "readers see the new file"
    store.close()
    expected = {f"r{number}" for number in range(10, 20)} | ({"r500"} if left == "another file" else set())
    assert set(ids(store.url)) == expected
    assert set(store.lost) == {"store_replaced"}


@pytest.mark.parametrize("gone", ["-wal", "-shm", "both"])
def test_a_log_that_is_deleted_loses_nothing(tmp_path: Path, gone: str) -> None:
    path = tmp_path / "a.db"
    store = Store(f"sqlite:///{path}")
    store.open()
    assert store.write(record(1), 60)
    for suffix in ("-wal", "-shm") if gone == "both" else (gone,):
        (tmp_path / f"a.db{suffix}").unlink()
    assert store.write(record(2), 60)
    assert [item.id for item in store.read()] == ["r1", "r2"]
    assert read_by_another_process(path) == ["r1", "r2"], "another process sees what this one has acknowledged"
    assert store.write(record(3), 60)
    assert read_by_another_process(path) == ["r1", "r2", "r3"]
    assert not store.lost
    store.close()
    assert ids(store.url) == ["r1", "r2", "r3"]


def test_readers_alone_save_a_deleted_log(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'a.db'}")
    store.open()
    assert store.write(record(1), 60)
    (tmp_path / "a.db-wal").unlink()
    assert [item.id for item in store.read()] == ["r1"]
    assert read_by_another_process(tmp_path / "a.db") == ["r1"]
    store.close()


def test_a_transaction_in_progress_while_the_log_is_deleted_is_waited_for(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'a.db'}")
    store.open()
    assert store.write(record(1), 60)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE records SET id = 'changed'"))
        (tmp_path / "a.db-wal").unlink()
        with pytest.raises(OSError, match="in progress"):
            store.engine  # noqa: B018
    assert [item.id for item in store.read()] == ["changed"]
    store.close()
    assert ids(store.url) == ["changed"]


def test_a_log_that_is_cut_short_is_said_and_the_store_goes_on(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'a.db'}")
    store.open()
    for number in range(50):
        assert store.write(record(number), 60)
    os.truncate(tmp_path / "a.db-wal", 0)
    assert store.write(record(100), 60)
    assert "r100" in [item.id for item in store.read()]
    assert store.lost["store_replaced"] >= 1
    store.close()
    assert "r100" in ids(store.url)


def read_by_another_process(path: Path) -> list[str]:
    query = "sqlite3.connect(sys.argv[1]).execute('SELECT id FROM records')"
    command = [sys.executable, "-c", f"import sqlite3, sys; print(*(row[0] for row in {query}))", str(path)]
    printed: str = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return printed.split()


def test_readers_alone_notice_a_deleted_file_too(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    store = Store(f"sqlite:///{path}")
    store.open()
    assert store.write(record(1), 60)
    path.unlink()
    assert store.last_seq() == 0
    assert store.lost["store_replaced"] == 1
    assert store.write(record(2), 60)
    store.close()
    assert ids(store.url) == ["r2"]


def test_a_damaged_file_kills_nothing_and_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(os.urandom(8192))
    store = Store(f"sqlite:///{path}")
    store.open()
    store.append(record(1))
    eventually(lambda: store.failure == "the database file is damaged")
    assert not store.write(record(2), 0.2)
    path.unlink()
    assert store.flush(60)
    store.close()
    assert ids(store.url) == ["r1"]
    assert not store.lost


@pytest.mark.long
def test_servers_that_start_at_once_on_a_new_file_make_it_once(tmp_path: Path) -> None:
    code = (
        "import sys, logging; logging.basicConfig(level='WARNING');"
        "from speechpipe.foundation.storage.database import connect;"
        "sys.stdin.readline();\n"
        "for n in range(5): connect(f'sqlite:///{sys.argv[1]}/{n}.db').dispose()"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=PATIENCE_S)[0] for process in started]
    assert [process.returncode for process in started] == [0] * 4, said
    assert "".join(said) == ""
    for number in range(5):
        with closing(sqlite3.connect(tmp_path / f"{number}.db")) as connection:
            assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'deep' / 'a.db'}")
    store.open()
    assert store.write(record(1), 60)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep").iterdir()}
    assert set(modes.values()) == {0o600}, modes
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o700
    store.close()


@pytest.mark.parametrize("value", ["a\0b", "\ud800", "x" * 10_000])
def test_asking_for_what_cannot_be_there_is_no_failure_of_the_store(url: str, value: str) -> None:
    store = Store(url)
    with suppress(InvalidParameter), translating_store_errors():  # not: StoreUnavailable
        assert store.find(id_=value) == []
        assert store.find(session_id=value) == []
    store.close()


def test_numbers_become_visible_in_order_and_a_gap_holds_up_nobody() -> None:
    with POSTGRES.empty(Path()) as url:
        one, other = Store(url), Store(url)
        with one.engine.connect() as connection:
            slow = connection.begin()
            connection.execute(select(about.c.key).where(about.c.key == ORDER).with_for_update())
            connection.execute(insert(records), [asdict(record(number)) for number in range(3)])
            other.open()
            other.append(record(10))
            threading.Event().wait(0.3)
            assert other.after(0, 10) == [], "number 4 may not be seen while 1 to 3 may still come"
            slow.rollback()
        assert other.flush(60)
        assert [(seq, item.id) for seq, item in one.after(0, 10)] == [(4, "r10")]
        one.close()
        other.close()


def test_old_records_are_deleted_some_at_a_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechpipe.foundation.storage.store.EXPIRED_AT_ONCE", 7)
    store = Store(url)
    store.open()
    for number in range(50):
        store.append(record(number))
    assert store.flush(60)
    assert store.expire(30.0) == 30
    assert len(list(store.read())) == 20
    store.close()


def test_the_text_of_the_driver_is_for_the_log_only(caplog: pytest.LogCaptureFixture) -> None:
    store = Store("postgresql+psycopg://somebody:secret@127.0.0.1:1/private")
    with caplog.at_level(logging.ERROR):
        store.open()
        store.append(record(1))
        eventually(lambda: bool(store.failure))
        store.close()
    assert store.failure == "the database cannot be reached"
    assert "127.0.0.1" not in store.failure + store.task.status.last_failure
    assert "127.0.0.1" in caplog.text


def test_a_database_whose_tables_were_dropped_is_set_up_again(url: str) -> None:
    store = Store(url)
    store.open()
    assert store.write(record(1), 60)
    with store.engine.begin() as connection:
        for table in inspect(connection).get_table_names():
            connection.execute(text(f"DROP TABLE {table}" + ("" if "sqlite" in url else " CASCADE")))
        if "sqlite" not in url:
            for name in connection.execute(text("SELECT proname FROM pg_proc WHERE proname LIKE '%_refuse'")).scalars():
                connection.execute(text(f"DROP FUNCTION {name} CASCADE"))
    store.append(record(2))
    assert store.flush(60)
    assert [item.id for item in store.read()] == ["r2"]
    store.close()


def test_a_file_that_is_emptied_in_place_kills_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    store = Store(f"sqlite:///{path}")
    store.open()
    for number in range(500):
        store.append(record(number))
    assert store.flush(60)
    os.truncate(path, 0)
    for number in range(500, 600):
        store.append(record(number))
    eventually(lambda: bool(store.failure) or store.written == 600)
    for name in ("a.db", "a.db-wal", "a.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    store.append(record(700))
    assert store.flush(60)
    assert "r700" in {item.id for item in store.read()}
    assert store.task.status.alive
    store.close()


def test_a_deleted_number_ends_no_reading(url: str) -> None:
    store = Store(url)
    store.open()
    for number in range(50):
        store.append(record(number))
    assert store.flush(60)
    with store.engine.begin() as connection:
        connection.execute(delete(records).where(records.c.seq == 20))
    assert len(Store.after(store, 0, 1000)) == 49, "a reader that asks once has everything"
    store.close()


def test_the_watch_goes_on_in_the_file_that_is_there_now(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'a.db'}")
    store.open()
    watcher = Watcher(SPEC, store, [], OPTIONS)
    put(store, traffic(600))
    watcher.tick(600)
    (tmp_path / "a.db").unlink()
    put(store, traffic(100, start=1000, first=1000))
    watcher.tick(1100)
    assert merge_all(watcher.archive.windows(0, 10_000)).records == 100
    assert watcher.archive.references() == []
    put(store, traffic(500, start=1100, first=1100))
    for now in (1600, 1700):
        watcher.tick(now)
    assert len(watcher.archive.references()) == 1
    store.close()
