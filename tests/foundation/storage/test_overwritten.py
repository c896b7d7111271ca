"""A SQLite store whose files another program overwrites, moves or cuts short while it is open."""

import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from speechpipe.foundation.storage.store import Store
from tests.foundation.storage.test_store import eventually, record
from tests.patience import PATIENCE_S

LONG_S = PATIENCE_S


def opened(path: Path) -> Store:
    store = Store(f"sqlite:///{path}")
    store.open()
    return store


def put(store: Store, first: int, count: int = 20) -> None:
    for number in range(first, first + count):
        store.append(record(number))
    assert store.flush(LONG_S)


def checkpoint(store: Store) -> None:
    with store.engine.connect() as connection:
        connection.execute(text("PRAGMA wal_checkpoint(PASSIVE)"))


def backup(path: Path, to: Path) -> None:
    source, target = sqlite3.connect(path), sqlite3.connect(to)
    source.backup(target)
    source.close()
    target.close()


def after_kill(path: Path) -> set[str]:
    """Return the ids that a server would find that starts after this one was killed now."""
    copy = path.parent / "killed"
    copy.mkdir()
    for suffix in ("", "-wal"):
        if (found := path.with_name(path.name + suffix)).exists():
            shutil.copy(found, copy)
    return ids(copy / path.name)


def ids(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {name for (name,) in connection.execute("SELECT id FROM records")}
    finally:
        connection.close()


def named(first: int, count: int = 20) -> set[str]:
    return {f"r{number}" for number in range(first, first + count)}


def copied(path: Path, old: Path) -> None:
    shutil.copyfile(old, path)


def copied_with_its_times(path: Path, old: Path) -> None:
    shutil.copy2(old, path)


def written_piece_by_piece(path: Path, old: Path) -> None:
    content = old.read_bytes()
    with path.open("r+b") as file:  # as `rsync --inplace` and `dd conv=notrunc` do
        for start in range(0, len(content), 4096):
            file.seek(start)
            file.write(content[start : start + 4096])
        file.truncate(len(content))


def copied_and_log_deleted(path: Path, old: Path) -> None:
    shutil.copyfile(old, path)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()


RESTORED = [copied, copied_with_its_times, written_piece_by_piece, copied_and_log_deleted]


@pytest.mark.parametrize("restore", RESTORED)
@pytest.mark.parametrize("in_log", [True, False], ids=["records in the log", "records in the database"])
def test_a_backup_copied_over_the_open_store_is_used_and_the_loss_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, restore: Callable[[Path, Path], None], in_log: bool
) -> None:
    path, old = tmp_path / "a.db", tmp_path / "old.db"
    store = opened(path)
    put(store, 0)
    backup(path, old)
    put(store, 100, 200)
    if not in_log:
        checkpoint(store)
        assert store.last_seq()
    restore(path, old)
    with caplog.at_level(logging.ERROR):
        put(store, 500)
    assert store.lost["store_replaced"] >= 200
    assert [str(path) in line and "backup.md" in line for line in caplog.messages].count(True) == 1
    assert store.write(record(600), LONG_S)
    assert after_kill(path) == named(0) | named(500) | {"r600"}
    store.close()
    assert ids(path) == named(0) | named(500) | {"r600"}
    assert set(store.lost) == {"store_replaced"}


def test_a_store_that_is_emptied_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    store = opened(path)
    put(store, 0)
    os.truncate(path, 0)
    put(store, 500)
    assert store.lost["store_replaced"] >= 20
    assert after_kill(path) == named(500)
    store.close()


def halved(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(20_000))


def some_pages(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 20))


@pytest.mark.parametrize("damage", [halved, garbage, some_pages])
def test_a_store_that_is_damaged_is_refused_until_a_sound_one_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    path, old = tmp_path / "a.db", tmp_path / "old.db"
    store = opened(path)
    put(store, 0, 200)
    checkpoint(store)
    backup(path, old)
    assert store.write(record(300), LONG_S)
    damage(path)
    with caplog.at_level(logging.ERROR):
        assert not store.write(record(500), 0.5), "what cannot be kept is not acknowledged"
        store.append(record(501))
        eventually(lambda: store.failure == "the database file is damaged")
        assert not store.write(record(502), 0.5)
    assert store.lost["store_replaced"] >= 201
    said = [line for line in caplog.messages if "is damaged" in line and str(path) in line and "backup.md" in line]
    assert len(said) == 1
    shutil.copyfile(old, path)
    assert store.flush(LONG_S)
    assert store.write(record(503), LONG_S)
    store.close()
    assert ids(path) == named(0, 200) | {"r501", "r503"}


def cut_after_stop(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [cut_after_stop, garbage])
def test_a_file_that_is_damaged_at_the_start_is_said_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "a.db"
    store = opened(path)
    put(store, 0, 200)
    store.close()
    damage(path)
    with caplog.at_level(logging.ERROR):
        store = opened(path)
        store.append(record(500))
        eventually(lambda: store.task.status.failures >= 3)
    assert store.failure == "the database file is damaged"
    said = [line for line in caplog.messages if "is damaged" in line and str(path) in line and "backup.md" in line]
    assert len(said) == 1
    path.unlink()
    assert store.flush(LONG_S)
    store.close()
    assert ids(path) == {"r500"}


def test_stopping_does_not_copy_the_log_into_a_backup_that_was_copied_over_the_store(tmp_path: Path) -> None:
    path, old = tmp_path / "a.db", tmp_path / "old.db"
    store = opened(path)
    put(store, 0)
    backup(path, old)
    put(store, 100, 200)
    shutil.copyfile(old, path)
    store.close()
    assert path.read_bytes() == old.read_bytes()
    assert not path.with_name("a.db-wal").exists()
    assert store.lost["store_replaced"] >= 200


def touched(path: Path) -> None:
    path.touch()


def replaced_by_itself(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content)


def hard_linked(path: Path) -> None:
    os.link(path, path.with_name("other"))


def moved_and_hard_linked(path: Path) -> None:
    path.replace(path.with_name("other"))
    os.link(path.with_name("other"), path)


def moved_and_linked(path: Path) -> None:
    big = path.with_name("big")
    big.mkdir()
    path.replace(big / path.name)
    path.symlink_to(big / path.name)


def folder_moved_and_linked(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.symlink_to(path.parent.with_name("moved"))


def checkpointed_by_another_process(path: Path) -> None:
    code = (
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchone())"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def vacuumed(path: Path) -> None:
    connection = sqlite3.connect(path, timeout=10)
    connection.execute("VACUUM")
    connection.close()


def index_cut_short(path: Path) -> None:
    os.truncate(path.with_name(path.name + "-shm"), 0)


HARMLESS = [
    touched,
    replaced_by_itself,
    hard_linked,
    moved_and_hard_linked,
    moved_and_linked,
    folder_moved_and_linked,
    checkpointed_by_another_process,
    vacuumed,
    index_cut_short,
]


@pytest.mark.parametrize("change", HARMLESS)
def test_what_keeps_the_content_loses_nothing(tmp_path: Path, change: Callable[[Path], None]) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    path = folder / "a.db"
    store = opened(path)
    put(store, 0)
    checkpoint(store)
    put(store, 100)
    change(path)
    for number in range(500, 510):
        assert store.write(record(number), LONG_S)
    expected = named(0) | named(100) | named(500, 10)
    assert {item.id for item in store.read()} == expected
    assert after_kill(path.resolve()) == expected
    assert not store.lost
    store.close()
    assert ids(path) == expected


def test_a_store_behind_a_symbolic_link_is_watched_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    path = tmp_path / "a.db"
    path.symlink_to(tmp_path / "big" / "a.db")
    store = opened(path)
    put(store, 0)
    engine = store.engine
    put(store, 100)
    assert store.engine is engine, "it is not opened again for each write"
    (tmp_path / "big" / "a.db-wal").unlink()
    put(store, 200)
    assert not store.lost
    store.close()
    assert ids(path) == named(0) | named(100) | named(200)


def test_many_checkpoints_of_two_stores_are_no_overwriting(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    one, other = opened(path), opened(path)
    for turn in range(20):
        for store, first in ((one, 0), (other, 10_000)):
            for number in range(200):
                store.append(record(first + turn * 200 + number))
        checkpoint(one if turn % 2 else other)
        one.last_seq()
        other.last_seq()
    assert one.flush(LONG_S)
    assert other.flush(LONG_S)
    assert not one.lost
    assert not other.lost
    other.close()
    one.close()
    assert len(ids(path)) == 8000


def test_reading_the_index_keeps_the_locks_of_sqlite_and_no_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    store = opened(path)
    put(store, 0)
    before, kept = locks(path), len(descriptors(path))
    for _ in range(20):
        reader = Store(f"sqlite:///{path}")
        assert reader.last_seq() == 20
        reader.close()
    assert locks(path) == before
    assert len(before) >= 2
    assert len(descriptors(path)) <= kept + 1, "one is kept for the next reader"
    store.close()
    assert descriptors(path) == []


def descriptors(path: Path) -> list[str]:
    """Return the descriptors of the index of a log that this process has open, also of one that was deleted."""
    found = []
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed since it was listed
            found.append(str(file.readlink()))
    return [name for name in found if name.startswith(f"{path}-shm")]


def locks(path: Path) -> list[str]:
    numbers = {str(found.stat().st_ino) for found in path.parent.glob("a.db*")}
    lines = Path("/proc/locks").read_text().splitlines()
    return sorted(line.split(maxsplit=1)[1] for line in lines if line.split()[5].rpartition(":")[2] in numbers)


WRITING = """
import os, sys
from pathlib import Path
from speechpipe.foundation.storage.store import Store
from tests.foundation.storage.test_store import record
store = Store(f"sqlite:///{sys.argv[1]}")
store.open()
for number in range(20):
    assert store.write(record(number), 60)
with store.engine.connect() as connection:
    print("ready", flush=True)
    sys.stdin.readline()
    connection.exec_driver_sql("SELECT count(*) FROM records").fetchone()
"""


def test_a_server_that_dies_of_an_index_cut_short_during_a_query_has_lost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    command = [sys.executable, "-c", WRITING, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.truncate(tmp_path / "a.db-shm", 0)
        process.communicate("\n", timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGBUS
    store = opened(path)
    assert {item.id for item in store.read()} == named(0)
    assert store.write(record(500), LONG_S)
    store.close()
