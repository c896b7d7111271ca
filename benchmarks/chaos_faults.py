"""The faults of `chaos.py`: each is one function that does harm while it is open and undoes it in the end."""

import contextlib
import random
import resource
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import psutil
from chaos_subject import DRAIN_S, Subject

FEW = 64
AWAY_S = 60.0
MOST_TO_END_S = DRAIN_S + 10.0


@dataclass(frozen=True)
class Fault:
    """A kind of harm.

    Attributes:
        do: makes it, holds it for a while, and undoes it.
        cannot: why it cannot be made here; empty if it can.
        forgets: what was acknowledged before may be gone afterwards.
        kills: records of the last moments may be gone afterwards: the server had no time to write them.
    """

    do: Callable[[Subject, random.Random], AbstractContextManager[None]]
    cannot: Callable[[Subject], str] = lambda _: ""
    forgets: bool = False
    kills: bool = False


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def _some(subject: Subject, dice: random.Random) -> list[psutil.Process]:
    workers = subject.workers()
    return workers if dice.random() < 0.5 else dice.sample(workers, min(len(workers), 1))


@contextlib.contextmanager
def workers_killed(subject: Subject, dice: random.Random) -> Iterator[None]:
    _signal(_some(subject, dice), signal.SIGKILL)
    yield


@contextlib.contextmanager
def workers_killed_repeatedly(subject: Subject, dice: random.Random) -> Iterator[None]:
    for _ in range(4):
        _signal(subject.workers(), signal.SIGKILL)
        time.sleep(dice.uniform(0.2, 1.5))
    yield


@contextlib.contextmanager
def workers_stopped(subject: Subject, dice: random.Random) -> Iterator[None]:
    stopped = _some(subject, dice)
    _signal(stopped, signal.SIGSTOP)
    time.sleep(dice.uniform(1, 8))
    yield
    _signal(stopped, signal.SIGCONT)


@contextlib.contextmanager
def no_fork(subject: Subject, dice: random.Random) -> Iterator[None]:
    flag: Path = subject.places.no_fork
    flag.touch()
    _signal(_some(subject, dice), signal.SIGKILL)
    time.sleep(dice.uniform(1, 8))
    yield
    flag.unlink()


@contextlib.contextmanager
def server_killed(subject: Subject, dice: random.Random) -> Iterator[None]:
    time.sleep(dice.uniform(0, 1))
    subject.kill()
    yield
    subject.start()


@contextlib.contextmanager
def server_terminated(subject: Subject, dice: random.Random) -> Iterator[None]:
    """End it as a service manager does: what runs is finished, what is known is written."""
    time.sleep(dice.uniform(0, 1))
    if (took_s := subject.stop()) > MOST_TO_END_S:
        subject.deaths.append(f"ended {took_s:.0f} s after SIGTERM")
    yield
    subject.start()


def _fill(folder: Path) -> Path:
    path = folder / "filler"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for block in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(block))
    return path


@contextlib.contextmanager
def temporary_folder_full(subject: Subject, dice: random.Random) -> Iterator[None]:
    filler = _fill(subject.places.temporary)
    if dice.random() < 0.7:
        _signal(_some(subject, dice), signal.SIGKILL)
    time.sleep(dice.uniform(1, 5))
    yield
    filler.unlink()


@contextlib.contextmanager
def state_folder_full(subject: Subject, dice: random.Random) -> Iterator[None]:
    filler = _fill(subject.places.state)
    time.sleep(dice.uniform(1, 6))
    yield
    filler.unlink()


@contextlib.contextmanager
def few_descriptors(subject: Subject, dice: random.Random) -> Iterator[None]:
    """Leave it `FEW` descriptors, take those with connections that never end their request, kill workers."""
    pid = subject.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (FEW, before[1]))
    held: list[socket.socket] = []
    with contextlib.suppress(OSError):
        for _ in range(FEW):
            held.append(socket.create_connection(("127.0.0.1", subject.port), timeout=1))
            held[-1].sendall(b"GET /livez HTTP/1.1\r\nX")
    if dice.random() < 0.7:
        _signal(_some(subject, dice), signal.SIGKILL)
    time.sleep(dice.uniform(2, 8))
    yield
    for one in held:
        one.close()
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def store_locked(subject: Subject, dice: random.Random) -> Iterator[None]:
    connection = sqlite3.connect(subject.store, isolation_level=None, timeout=30)
    connection.execute("BEGIN EXCLUSIVE")
    time.sleep(dice.uniform(1, 12))
    yield
    connection.execute("ROLLBACK")
    connection.close()


@contextlib.contextmanager
def store_deleted(subject: Subject, dice: random.Random) -> Iterator[None]:
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{subject.store}{suffix}").unlink()
    time.sleep(dice.uniform(0, 2))
    yield


@contextlib.contextmanager
def postgres_away(subject: Subject, dice: random.Random) -> Iterator[None]:
    assert subject.postgres is not None
    subject.postgres.pause()
    time.sleep(AWAY_S if dice.random() < 0.5 else dice.uniform(1, 15))
    yield
    subject.postgres.resume()


def _sqlite(subject: Subject) -> str:
    return "" if subject.postgres is None else "the store is PostgreSQL"


def _postgres(subject: Subject) -> str:
    return "" if subject.postgres is not None else "the store is SQLite (--postgresql)"


def _mounted(subject: Subject) -> str:
    return f"no file system of its own: {subject.places.mounted}" if subject.places.mounted else ""


FAULTS = {
    "workers killed": Fault(workers_killed),
    "workers killed repeatedly": Fault(workers_killed_repeatedly),
    "workers stopped": Fault(workers_stopped),
    "no process can be forked": Fault(no_fork),
    "server killed": Fault(server_killed, kills=True),
    "server terminated": Fault(server_terminated),
    "temporary folder full": Fault(temporary_folder_full, _mounted),
    "state folder full": Fault(state_folder_full, _mounted, kills=True),
    f"{FEW} descriptors": Fault(few_descriptors),
    "store locked": Fault(store_locked, _sqlite),
    "store deleted": Fault(store_deleted, _sqlite, forgets=True),
    "PostgreSQL away": Fault(postgres_away, _postgres),
}
