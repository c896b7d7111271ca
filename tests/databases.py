"""The databases that stores are tested on: SQLite always, PostgreSQL where Debian's is installed."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


class Database:
    @contextlib.contextmanager
    def empty(self, folder: Path) -> Iterator[str]:
        """Yield the URL of an empty database."""
        raise NotImplementedError


@dataclass(frozen=True)
class Sqlite(Database):
    @contextlib.contextmanager
    def empty(self, folder: Path) -> Iterator[str]:
        yield f"sqlite:///{folder / 'records.db'}"

    def __str__(self) -> str:
        return "sqlite"


class Postgres(Database):
    """One server for the whole test run, started on first use; a database for each test."""

    def __init__(self) -> None:
        self._folder = ""
        self._count = 0

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
        where = self._start()
        self._count += 1
        name = f"test{self._count}"
        self._run("createdb", "-h", where, "-U", "speechpipe", name)
        yield f"postgresql+psycopg://speechpipe@/{name}?host={where}"

    def stop(self) -> None:
        """Stop the server, if it was started."""
        if self._folder:
            self._run("pg_ctl", "-D", f"{self._folder}/data", "-m", "immediate", "stop")
            shutil.rmtree(self._folder, ignore_errors=True)

    def __str__(self) -> str:
        return "postgresql"


POSTGRES = Postgres()
DATABASES = [Sqlite(), POSTGRES]
