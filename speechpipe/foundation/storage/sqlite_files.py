"""The files of an open SQLite database: whether someone has deleted or replaced them.

SQLite keeps recent transactions in a log beside the database (`-wal`) and an index of the log in a file that all
processes share (`-shm`). If one of them is deleted, the open connections go on with a file that no other process can
see, and what they write is lost when this process ends (sqlite.org/howtocorrupt.html, section 1.4).
"""

import sqlite3
from pathlib import Path

WAIT_S = 2.0
"""How long saving the log waits for transactions in progress."""

LOG, INDEX = "-wal", "-shm"

Identity = tuple[int, int]


def identity(path: Path) -> Identity | None:
    """Return what tells a file from others that have or had its name; None if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class SqliteFiles:
    """The files of one open database. Used under the lock of `Database`.

    A connection is kept open, because SQLite itself deletes log and index with the last connection.
    """

    def __init__(self, path: Path) -> None:
        """Note the files as they are now.

        Raises:
            sqlite3.Error: the database cannot be read.
        """
        self.path = path
        self._database = identity(path)
        self._connection = sqlite3.connect(path, timeout=WAIT_S, check_same_thread=False)
        (mode,) = self._connection.execute("PRAGMA journal_mode").fetchone()
        self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens log and index
        self._beside = {suffix: identity(self.beside(suffix)) for suffix in (LOG, INDEX)} if mode == "wal" else {}
        self._log_size = 0

    def beside(self, suffix: str) -> Path:
        """Return the path of a file that belongs to the database."""
        return self.path.with_name(self.path.name + suffix)

    @property
    def replaced(self) -> bool:
        """Whether the database itself was deleted or replaced."""
        return identity(self.path) != self._database

    @property
    def lost(self) -> str:
        """The name of a file beside the database that was deleted, replaced or cut short; empty if there is none."""
        for suffix, was in self._beside.items():
            if was is None or identity(self.beside(suffix)) != was:
                return self.beside(suffix).name
        if self._beside:
            size = self.beside(LOG).stat().st_size
            if size < self._log_size:  # SQLite overwrites its log from the beginning and does not shorten it
                return self.beside(LOG).name
            self._log_size = size
        return ""

    def save_log(self) -> bool:
        """Copy the log, which is still open although it was deleted, into the database; return whether that worked.

        Not if only the index was deleted: other processes may have gone on in the same log with an index of their own.
        """
        was = self._beside.get(LOG)
        if was is not None and identity(self.beside(LOG)) == was:
            return self.beside(LOG).stat().st_size >= self._log_size
        try:
            busy, in_log, copied = self._connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        except sqlite3.Error:
            return False
        return not busy and in_log == copied

    def forget_log(self) -> None:
        """Delete log and index of a database that was deleted: SQLite would apply them to a new one of that name."""
        was = self._beside.get(LOG)
        if was is not None and identity(self.beside(LOG)) == was:
            for suffix in (LOG, INDEX):
                self.beside(suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
