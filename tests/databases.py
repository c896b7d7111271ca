"""The databases that stores are tested on: SQLite always, PostgreSQL where Debian's is installed.

Most tests begin with the tables made (`ready`, `place_tables`), as a copy: migrations take longer than many tests do.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from speechpipe.foundation.storage.database import connect

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@cache
def _tables() -> bytes:
    """A SQLite file with the tables of this version and no rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ready.db"
        connect(f"sqlite:///{path}").dispose()
        return path.read_bytes()


def place_tables(path: Path) -> str:
    """Write a SQLite file with all tables and no rows, if there is no file; return its URL."""
    if not path.exists():
        path.write_bytes(_tables())
        path.chmod(0o600)
    return f"sqlite:///{path}"


class Database:
    def empty(self, folder: Path) -> contextlib.AbstractContextManager[str]:
        """Yield the URL of a database without tables."""
        raise NotImplementedError

    def ready(self, folder: Path) -> contextlib.AbstractContextManager[str]:
        """Yield the URL of a database with all tables and no rows."""
        raise NotImplementedError


@dataclass(frozen=True)
class Sqlite(Database):
    @contextlib.contextmanager
    def empty(self, folder: Path) -> Iterator[str]:
        yield f"sqlite:///{folder / 'records.db'}"

    @contextlib.contextmanager
    def ready(self, folder: Path) -> Iterator[str]:
        yield place_tables(folder / "records.db")

    def __str__(self) -> str:
        return "sqlite"


class Postgres(Database):
    """One server for the whole test run, started on first use; a database for each test."""

    def __init__(self) -> None:
        self._folder = ""
        self._count = 0
        self._template = ""

    def _start(self) -> str:
        if not self._folder:
            if not BINARIES or shutil.which("pg_ctl", path=str(BINARIES[-1])) is None:
                pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
            self._folder = tempfile.mkdtemp(prefix="speechpipe-pg-", dir="/tmp")
            if os.getuid() == 0:  # it refuses to run as root
                shutil.chown(self._folder, "postgres", "postgres")
            self._run("initdb", "-D", f"{self._folder}/data", "-A", "trust", "-U", "speechpipe", "--no-sync")
            self.resume()
        return self._folder

    @property
    def folder(self) -> str:
        """Where it lives."""
        return self._folder

    def pause(self) -> None:
        """Stop the server; the databases stay."""
        self._run("pg_ctl", "-D", f"{self._folder}/data", "-m", "fast", "-w", "stop")

    def resume(self) -> None:
        """Start it again."""
        options = f"-c listen_addresses='' -c fsync=off -k {self._folder}"
        log = f"{self._folder}/log"
        self._run("pg_ctl", "-D", f"{self._folder}/data", "-l", log, "-w", "-o", options, "start")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(BINARIES[-1] / program), *arguments]
        user = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
        subprocess.run(command, check=True, capture_output=True, cwd="/tmp", **user)  # type: ignore[call-overload]

    @contextlib.contextmanager
    def empty(self, folder: Path) -> Iterator[str]:
        del folder
        self._start()
        yield self._url(self._made("template0"))

    @contextlib.contextmanager
    def ready(self, folder: Path) -> Iterator[str]:
        del folder
        self._start()
        if not self._template:
            self._template = self._made("template0")
            connect(self._url(self._template)).dispose()
        yield self._url(self._made(self._template))

    def _made(self, template: str) -> str:
        self._count += 1
        name = f"test{self._count}"
        self._run("createdb", "-h", self._folder, "-U", "speechpipe", "-T", template, name)
        return name

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://speechpipe@/{name}?host={self._folder}"

    def stop(self) -> None:
        """Stop the server, if it was started."""
        if self._folder:
            self._run("pg_ctl", "-D", f"{self._folder}/data", "-m", "immediate", "stop")
            shutil.rmtree(self._folder, ignore_errors=True)

    def __str__(self) -> str:
        return "postgresql"


POSTGRES = Postgres()
DATABASES = [Sqlite(), POSTGRES]


def mostly_sqlite(fixture: str) -> pytest.MarkDecorator:
    """Mark a test of what is concluded from rows, with statements that other tests run on both: PostgreSQL is long."""
    databases = [DATABASES[0], pytest.param(POSTGRES, marks=pytest.mark.long)]
    return pytest.mark.parametrize(fixture, databases, indirect=True, ids=str)
