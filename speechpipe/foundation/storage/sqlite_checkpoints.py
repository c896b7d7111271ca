"""Which checkpoints SQLite has made, and whether the database file was written by anything else.

With write-ahead logging only a checkpoint writes to the database file. Each one is recorded in the index of the log
(`-shm`), whichever process makes it. If the file has changed and the index records no checkpoint, another program has
written to the file. Format of the index: sqlite.org/walformat.html, section 2.
"""

import os
import sqlite3
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

SALTS = slice(32, 40)
"""Changed each time the log is begun anew."""

COPIED, ATTEMPTED = slice(96, 100), slice(128, 132)
"""Frames of the log that are in the database, and that the last checkpoint was to copy. Different during one."""

READ = 136

_unused: list[int] = []
_unused_lock = threading.Lock()


class LogIndex:
    """The index of the log, read beside SQLite.

    Closing any descriptor of a file drops all locks that this process has on it, SQLite's too (POSIX). So a descriptor
    is closed only after SQLite has deleted the file, and kept for the next reader until then.
    """

    def __init__(self, path: Path) -> None:
        """Open the index, which SQLite has opened before.

        Raises:
            OSError: it cannot be opened.
        """
        self._file = _open(path)
        self._size = os.fstat(self._file).st_size

    def checkpoints(self) -> bytes | None:
        """Return what differs before and after a checkpoint; None during one, or if one has failed half-way."""
        found = os.pread(self._file, READ, 0)
        if len(found) < READ or found[COPIED] != found[ATTEMPTED]:
            return None
        return found[SALTS] + found[COPIED]

    def salts(self) -> bytes:
        """Return what differs once the log was begun anew."""
        return os.pread(self._file, READ, 0)[SALTS]

    def lengthen(self) -> bool:
        """Give an index that was cut short its length again; return whether it was.

        SQLite has mapped it into memory, and the system kills a process that reads beyond the end of such a file. Of an
        index of zeros SQLite makes a new one from the log.
        """
        size = os.fstat(self._file).st_size
        if size < self._size:
            os.ftruncate(self._file, self._size)
            return True
        self._size = size
        return False

    def close(self) -> None:
        """Release the descriptor; after the connections to the database are closed."""
        with _unused_lock:
            _unused.append(self._file)
            _close_deleted()


def _open(path: Path) -> int:
    with _unused_lock:
        _close_deleted()
        found = path.stat()
        for file in _unused:
            if os.path.samestat(os.fstat(file), found):
                _unused.remove(file)
                return file
        return os.open(path, os.O_RDWR)


def _close_deleted() -> None:
    for file in list(_unused):
        if not os.fstat(file).st_nlink:
            _unused.remove(file)
            os.close(file)


@dataclass(frozen=True)
class _Noted:
    size: int
    changed_ns: int
    checkpoints: bytes
    content: tuple[object, ...]


class DatabaseFile:
    """The database file as of the last checkpoint. Not thread-safe."""

    def __init__(self, path: Path, index: LogIndex) -> None:
        self._path = path
        self._index = index
        self._noted: _Noted | None = None
        self.note()

    def note(self) -> None:
        """Remember the file as it is, unless a checkpoint is in progress."""
        self._noted = None
        checkpoints, found = self._index.checkpoints(), self._path.stat()
        try:
            content = _content(self._path)
        except sqlite3.Error:
            return
        after = self._path.stat()
        same = (found.st_size, found.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        if same and checkpoints is not None and checkpoints == self._index.checkpoints():
            self._noted = _Noted(found.st_size, found.st_mtime_ns, checkpoints, content)

    def overwritten(self) -> bool:
        """Whether another program has changed what is in the file.

        Usually one `pread` and one `stat`. A file that was only touched, or replaced by an equal one, is checked as a
        whole once.

        Raises:
            OSError: the file is gone.
        """
        checkpoints = self._index.checkpoints()  # before `stat`: a checkpoint after it changes the file or this
        found, noted = self._path.stat(), self._noted
        if noted is not None and (found.st_size, found.st_mtime_ns) == (noted.size, noted.changed_ns):
            if checkpoints is not None and checkpoints != noted.checkpoints:  # the log was begun anew
                self._noted = replace(noted, checkpoints=checkpoints)
            return False
        if noted is None or self._index.checkpoints() != noted.checkpoints:
            self.note()
            return False
        if found.st_size != noted.size or not self._intact(noted.content):
            return True
        self.note()
        return False

    def _intact(self, content: tuple[object, ...]) -> bool:
        """Whether the file has the content of before, and passes SQLite's check together with the log."""
        try:
            return _content(self._path) == content and sound(str(self._path))
        except sqlite3.Error:
            return False


def sound(database: str, *, uri: bool = False) -> bool:
    """Return whether a database passes SQLite's check, which reads all of it.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    connection = sqlite3.connect(database, uri=uri)
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    finally:
        connection.close()


def alone(path: Path) -> str:
    """Return a URI with which SQLite reads a database file without its log, and writes and locks nothing."""
    return f"file:{quote(os.fsencode(os.path.realpath(path)))}?immutable=1"


def _content(path: Path) -> tuple[object, ...]:
    """Return what differs between most versions of a database: numbers of pages, of the schema, of the last rows."""
    connection = sqlite3.connect(alone(path), uri=True)
    try:
        found: list[object] = []
        for pragma in ("page_count", "freelist_count", "schema_version"):
            found += connection.execute(f"PRAGMA {pragma}").fetchone()
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        ).fetchall():
            quoted = name.replace('"', '""')
            try:
                found += connection.execute(f'SELECT max(rowid) FROM "{quoted}"').fetchone()  # noqa: S608
            except sqlite3.OperationalError:  # a table without row numbers
                continue
        return tuple(found)
    finally:
        connection.close()
