"""The store: records come back as they went in, and a store that fails costs nothing but records, counted."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.store import Store


def record(number: int, **changes: object) -> Record:
    values = {
        "kind": "unit",
        "id": f"r{number}",
        "session_id": "s",
        "at": float(number),
        "channel": "upload",
        "bundle": "b",
        "bundle_version": "1",
        "versions": {"vad": "v@1"},
        "measures": {"vad.speech_s": number / 7, "asr.confidence": None, "input.codec": "WAV"},
    }
    return Record(**{**values, **changes})  # type: ignore[arg-type]


def eventually(true: Callable[[], bool], wait_s: float = 60.0) -> None:
    until = time.monotonic() + wait_s
    while not true():
        assert time.monotonic() < until, "did not come true"
        time.sleep(0.01)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'deep' / 'folder' / 'records.db'}"


def test_records_come_back_in_the_order_of_time(url: str) -> None:
    store = Store(url)
    store.open()
    sent = [record(number) for number in range(1200)] + [record(5000, kind="session", id="s")]
    for item in sent:
        store.append(item)
    store.close()
    assert store.written == len(sent)
    assert not store.lost
    again = Store(url)
    assert list(again.read()) == sent
    assert list(again.read("session")) == sent[-1:]
    assert list(again.read("unit", since=1190.0)) == sent[1190:1200]
    again.close()
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_full_queue_loses_and_counts_and_never_waits(url: str) -> None:
    store = Store(url, queue_size=10)  # not opened: nobody takes anything out
    for number in range(1000):
        store.append(record(number))  # one that waited would wait for ever
    assert store.lost["queue_full"] == 990


def test_a_database_that_cannot_be_reached_is_said_and_its_records_wait(tmp_path: Path) -> None:
    blocked = tmp_path / "not-a-folder"
    blocked.write_text("in the way")
    store = Store(f"sqlite:///{blocked}/records.db")
    store.open()
    store.append(record(1))
    eventually(lambda: bool(store.failure))
    store.append(record(2))
    assert str(tmp_path) not in store.failure
    assert not store.lost
    blocked.unlink()
    assert store.flush(60)
    assert store.written == 2
    assert not store.failure
    store.close()


def test_how_long_records_wait_for_a_locked_store_is_known(url: str) -> None:
    store = Store(url)
    store.open()
    store.append(record(1))
    assert store.flush(60)
    store.take_wait_s()
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        store.append(record(2))
        eventually(lambda: store.take_wait_s() > 0.5)  # while it is still locked
        other.execute("COMMIT")
    assert store.flush(60)
    assert store.take_wait_s() > 0.5
    assert store.take_wait_s() == 0.0
    store.close()


def test_what_waits_when_the_server_stops_without_its_store_is_counted(tmp_path: Path) -> None:
    blocked = tmp_path / "not-a-folder"
    blocked.write_text("in the way")
    store = Store(f"sqlite:///{blocked}/records.db")
    store.open()
    for number in range(5):
        store.append(record(number))
    eventually(lambda: bool(store.failure))
    store.close()
    assert store.lost == {"store_error": 5}
    assert store.queued == 0


def test_a_record_that_is_refused_does_not_stop_the_next(url: str) -> None:
    store = Store(url)
    store.open()
    for item in (record(1), record(1), record(2)):
        store.append(item)
        store.flush()
    store.close()
    assert store.written == 2
    assert store.lost["refused"] == 1


def test_not_a_number_is_stored_as_not_known(url: str) -> None:
    store = Store(url)
    store.open()
    store.append(record(1, measures={"input.snr_db": float("nan"), "vad.cut": 1}))
    store.close()
    (back,) = Store(url).read()
    assert back.measures == {"input.snr_db": None, "vad.cut": 1}
