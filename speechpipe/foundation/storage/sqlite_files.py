"""The files of an open SQLite database: whether someone has deleted or replaced them.

SQLite keeps recent transactions in a log beside the database (`-wal`) and an index of the log in a file that all
processes share (`-shm`). If one of them is deleted, the open connections go on with a file that no other process can
see, and what they write is lost when this process ends (sqlite.org/howtocorrupt.html, section 1.4). The same if the
database itself is moved and a symbolic link is left: SQLite looks for the log beside the file that the link leads to.

If the database is overwritten in place (`cp`), its log belongs to content that is gone. Copied into the new content, as
SQLite does it when the last connection is closed, it would damage that.
"""

import errno
import fcntl
import os
import sqlite3
import struct
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from speechpipe.foundation.storage.sqlite_checkpoints import DatabaseFile, LogIndex, alone, sound

WAIT_S = 2.0
"""How long saving the log waits for transactions in progress."""

QUIET_S = 1.0
"""How long nothing may have written to a database that another program has overwritten, before it is opened."""

LOG, INDEX = "-wal", "-shm"
SHARED_FIRST, SHARED_SIZE = 0x40000002, 510
"""Bytes of the database that SQLite locks while it is open (sqlite.org/src, os_unix.c)."""

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
            sqlite3.Error, OSError: the database cannot be read.
        """
        self.path = path
        self._database = identity(path)
        self._connection = sqlite3.connect(path, timeout=WAIT_S, check_same_thread=False)
        # For databases that are dropped without `close`, as in `Database`.
        drop = weakref.finalize(self, self._connection.close)
        drop.atexit = False
        (mode,) = self._connection.execute("PRAGMA journal_mode").fetchone()
        self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens log and index
        self._beside = {suffix: identity(self.beside(suffix)) for suffix in (LOG, INDEX)} if mode == "wal" else {}
        self._log_size, self._log_salts = 0, b""
        self._index: LogIndex | None = None
        self._file: DatabaseFile | None = None
        if self._beside:
            self._index = LogIndex(self.beside(INDEX))
            self._settle(self._index)

    def _settle(self, index: LogIndex) -> None:
        """Note the database file, after a checkpoint if SQLite has made its index anew from the log."""
        if index.checkpoints() is None:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._file = DatabaseFile(self.path, index)

    def beside(self, suffix: str) -> Path:
        """Return the path of a file that belongs to the database: beside what a symbolic link leads to."""
        path = os.fspath(self.path)
        return Path((os.path.realpath(path) if self.path.is_symlink() else path) + suffix)

    @property
    def replaced(self) -> bool:
        """Whether the database itself was deleted or replaced."""
        return identity(self.path) != self._database

    @property
    def overwritten(self) -> bool:
        """Whether another program has written to the database file.

        Unknown, and False, if only the index was deleted: checkpoints of other processes are in their own index then.
        """
        if self._file is None:
            return False
        try:
            if not self._file.overwritten():
                return False
            return not (self._is_ours(LOG) and not self._is_ours(INDEX))
        except OSError:
            return False

    @property
    def lost(self) -> str:
        """The name of a file beside the database that was deleted, replaced or cut short; empty if there is none."""
        for suffix, was in self._beside.items():
            if was is None or identity(self.beside(suffix)) != was:
                return self.beside(suffix).name
        if self._index is not None:
            size, salts = self.beside(LOG).stat().st_size, self._index.salts()
            if size < self._log_size and salts == self._log_salts:  # only to begin it anew SQLite shortens its log
                return self.beside(LOG).name
            self._log_size, self._log_salts = size, salts
        return ""

    def mend_index(self) -> bool:
        """Lengthen an index that was cut short, so that SQLite makes it anew from the log; return whether it was.

        Raises:
            sqlite3.Error: the index cannot be made.
        """
        if self._index is None or not self._index.lengthen():
            return False
        self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        self._settle(self._index)
        return True

    def _is_ours(self, suffix: str) -> bool:
        was = self._beside.get(suffix)
        return was is not None and identity(self.beside(suffix)) == was

    def save_log(self) -> bool:
        """Copy the log, which is still open although it was deleted, into the database; return whether that worked.

        Not if only the index was deleted: other processes may have gone on in the same log with an index of their own.
        """
        if self._is_ours(LOG):
            return self.beside(LOG).stat().st_size >= self._log_size
        try:
            busy, in_log, copied = self._connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        except sqlite3.Error:
            return False
        return not busy and in_log == copied

    def forget_log(self) -> None:
        """Delete log and index of a database that is gone: SQLite would apply them to a new one of that name."""
        if self._is_ours(LOG):
            for suffix in (LOG, INDEX):
                self.beside(suffix).unlink(missing_ok=True)

    @contextmanager
    def without_checkpoint(self) -> Iterator[None]:
        """While entered, closing the last connection does not copy the log into the database.

        SQLite does so under an exclusive lock, which it does not get while the file is locked as if it were still open.
        """
        try:
            file = os.open(self.path, os.O_RDONLY)
        except OSError:
            yield
            return
        try:
            lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, SHARED_FIRST, SHARED_SIZE, 0)
            with suppress(OSError):  # a file system that has no such locks
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
            yield
        finally:
            os.close(file)

    def close(self) -> None:
        """Close the connection. Last, after those of the engine."""
        self._connection.close()
        if self._index is not None:
            self._index.close()


class Arrival:
    """A database file that another program has overwritten: whether it can be opened. Used under `Database`'s lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] = ()
        self._since = 0.0
        self._sound: bool | None = None

    def check(self) -> None:
        """Return if the file is complete and sound, or was deleted.

        Raises:
            OSError: it was written to a moment ago; the caller tries again later.
            sqlite3.Error: it is damaged, or cannot be read.
        """
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return
        now, seen = time.monotonic(), (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if seen != self._seen:
            self._seen, self._since, self._sound = seen, now, None
        if now - self._since < QUIET_S:
            raise OSError(errno.EBUSY, "the database file is being replaced")
        if self._sound is None:
            self._sound = sound(alone(self._path), uri=True)
        if not self._sound:
            raise sqlite3.DatabaseError("database disk image is malformed")
