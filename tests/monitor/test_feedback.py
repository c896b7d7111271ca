"""Feedback that comes at once after the answer, before the session's record is in the store."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from speechpipe.config import Settings
from speechpipe.errors import StoreUnavailable, UnknownName
from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.store import Store
from speechpipe.serving.health.service import Feedback, MonitoringService
from tests.databases import place_tables


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(place_tables(tmp_path / "records.db"))
    yield found
    found.close()


def watching(store: Store, folder: Path) -> MonitoringService:
    return MonitoringService(Settings(state_dir=folder), store, store.append)


def session(name: str) -> Record:
    return Record("session", f"session-{name}", name, 1.0, "upload", "b", "1", "ok")


def test_a_record_that_waits_for_the_writer_is_waited_for(store: Store, tmp_path: Path) -> None:
    for number in range(50):
        store.append(session(f"s{number}"))  # the writer does not run yet: nothing is in the database
    starting = threading.Timer(0.3, store.open)
    starting.start()
    record = watching(store, tmp_path).feedback(Feedback("redo", session_id="s49"))
    starting.join()
    assert (record.session_id, record.outcome) == ("s49", "redo")


def test_it_is_not_waited_for_what_comes_after(store: Store, tmp_path: Path) -> None:
    store.open()
    over = threading.Event()

    def traffic() -> None:
        number = 0
        while not over.is_set():
            number += 1
            store.append(session(f"later{number}"))
            time.sleep(0.001)

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        with pytest.raises(UnknownName):
            watching(store, tmp_path).feedback(Feedback("redo", session_id="nobody"))
    finally:
        over.set()
        thread.join()


def test_an_unknown_session_is_unknown_and_a_store_that_is_gone_says_try_again(store: Store, tmp_path: Path) -> None:
    store.open()
    with pytest.raises(UnknownName):
        watching(store, tmp_path).feedback(Feedback("redo", session_id="nobody"))
    gone = Store("sqlite:////proc/nowhere/records.db")
    gone.open()
    gone.append(session("s"))
    with pytest.raises(StoreUnavailable) as refused:
        watching(gone, tmp_path).feedback(Feedback("redo", session_id="s"))
    assert refused.value.retry_after_s > 0
    gone.close()


def test_records_that_cannot_be_written_are_not_called_unknown(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(session("s"))
    monkeypatch.setattr(store, "settle", lambda _: False)  # the writer hangs
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        watching(store, tmp_path).feedback(Feedback("redo", session_id="s"))
