"""The database of the store: connections, migrations, and error messages without host names or paths."""

import errno
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import DataError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from speechpipe.errors import InvalidParameter, StoreUnavailable
from speechpipe.foundation.state_files import create_file, make_folder
from speechpipe.foundation.storage.sqlite_files import WAIT_S, Arrival, SqliteFiles, identity

HERE = Path(__file__).resolve().parent
FIRST = "0001"
"""Schema version of the first release, which did not store a version yet."""

BUSY_MS, MIGRATING_MS = 5_000, 60_000
MIGRATION_LOCK = 7_217_003  # arbitrary: no other part of this program takes advisory locks
LIBPQ: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
MISSING = "the database lacks a table"
DAMAGED = "the database file is damaged"
REASONS = {
    "locked": "the database is locked",
    "disk is full": "the disk is full",
    "no space left": "the disk is full",
    "readonly": "the database cannot be written",
    "read-only": "the database cannot be written",
    "being replaced": "the database file is being replaced",
    "unable to open": "the database file cannot be opened",
    "not a database": DAMAGED,
    "malformed": DAMAGED,
    "disk i/o error": "the database file cannot be read or written",
    "no such table": MISSING,
    "does not exist": MISSING,
    "connection": "the database cannot be reached",
    "timeout": "the database does not answer in time",
    "terminating": "the database is shutting down",
    "shutting down": "the database is shutting down",
    "starting up": "the database is starting",
}
"""Parts of driver messages, and the reason to report instead."""

log = logging.getLogger(__name__)


class StoreTooNew(Exception):
    """The store was written by a newer speechpipe."""


STORE_ERRORS = (SQLAlchemyError, sqlite3.Error, OSError, StoreTooNew)
"""Raised by a store that is unreachable, too slow, full, damaged or of a newer version."""


def failure_reason(error: Exception) -> str:
    """Return why the store failed, without the driver's own text, which can contain host names and paths."""
    if isinstance(error, StoreTooNew):
        return str(error)
    text = str(error).lower()
    known = next((reason for part, reason in REASONS.items() if part in text), "")
    if known:
        return known
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return f"the database fails ({type(error).__name__})"


@contextmanager
def translating_store_errors() -> Iterator[None]:
    """Translate errors of the store that are raised in the block; the original stays as `__cause__`.

    Raises:
        StoreUnavailable: the store failed.
        InvalidParameter: the store rejected a value, for example a text with a NUL character.
    """
    try:
        yield
    except (DataError, UnicodeEncodeError) as error:
        raise InvalidParameter("a value holds characters that cannot be stored, or is too long") from error
    except STORE_ERRORS as error:
        raise StoreUnavailable(f"the store cannot be used: {failure_reason(error)}") from error


class Database:
    """The SQLAlchemy engine of one store, opened at first use. Thread-safe.

    If a SQLite file is deleted or replaced while it is open, further writes would go to a file that no reader can open.
    `engine` detects this, calls `on_replaced`, and opens (or creates) the file that is at the path now. A file that is
    overwritten in place is treated alike, and opened once it is complete and sound. If only the log beside it was
    deleted, its transactions are first copied into the database.
    """

    def __init__(self, url: str, on_replaced: Callable[[], None] = lambda: None) -> None:
        self.url = url
        self._on_replaced = on_replaced
        self._path = sqlite_path(url)
        self._engine: Engine | None = None
        self._drop: Callable[[], object] = lambda: None  # closes the engine's connections
        self._files: SqliteFiles | None = None
        self._arrival: Arrival | None = None
        self._damaged: tuple[int, int] | None = None  # the file of which that was said
        self._lock = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The engine; the first use opens the database and migrates it.

        Raises:
            StoreTooNew, SQLAlchemyError, sqlite3.Error, OSError: it cannot be opened or migrated.
        """
        with self._lock:
            if self._engine is not None and self._files is not None:
                self._look(self._engine, self._files)
            if self._engine is None:
                try:
                    self._engine = self._open()
                except STORE_ERRORS as error:
                    self._say_damaged(error)
                    raise
            return self._engine

    def _open(self) -> Engine:
        if self._arrival is not None:
            self._arrival.check()
        engine = connect(self.url)
        try:
            if self._path is not None:
                self._files = SqliteFiles(self._path)
        except BaseException:
            engine.dispose()
            raise
        self._arrival = self._damaged = None
        # For stores that are dropped without `close`: Python 3.13 warns of connections that are collected while open.
        self._drop = drop = weakref.finalize(self, engine.dispose)
        drop.atexit = False
        return engine

    def is_current(self, engine: Engine) -> bool:
        """Whether `engine` still writes to the files at the store's path."""
        with self._lock:
            files = self._files
            intact = files is None or not (files.replaced or files.overwritten or files.lost)
            return engine is self._engine and intact

    def close(self) -> None:
        """Close all connections; the next use opens the database again."""
        with self._lock:
            if self._files is not None and not self._files.replaced and self._files.overwritten:
                self._leave(self._files)
            self._close()

    def say_damaged(self, error: Exception) -> None:
        """Log that the file is damaged, if `error` says so; once for each file."""
        with self._lock:
            self._say_damaged(error)

    def _say_damaged(self, error: Exception) -> None:
        if self._path is None or failure_reason(error) != DAMAGED or identity(self._path) == self._damaged:
            return
        self._damaged = identity(self._path)
        log.error(
            "%s is damaged or no database (%s); nothing can be stored. Stop the server and restore a backup "
            "(docs/how-to/backup.md), or set the file aside to begin a new one",
            self._path,
            getattr(error, "orig", error),
        )

    def _close(self) -> None:
        if self._engine is not None:
            self._drop()
            self._engine = None
        if self._files is not None:
            self._files.close()
            self._files = None

    def _look(self, engine: Engine, files: SqliteFiles) -> None:
        """Close the database if its files are no longer those that were opened.

        Raises:
            OSError: a transaction is still in progress in a deleted log; the caller tries again later.
        """
        if files.replaced:
            log.error("%s was deleted or replaced while it was open", files.path)
            self._close()
            files.forget_log()
            self._on_replaced()
        elif files.overwritten:
            _await_transactions(engine)
            self._leave(files)
        elif files.mend_index():
            log.warning("the index of the log of %s was cut short; it is made anew, nothing is lost", files.path)
        elif name := files.lost:
            saved = files.save_log()
            _await_transactions(engine)
            log.error("%s was deleted or cut short; its transactions %s", name, "are saved" if saved else "may be lost")
            if saved:
                self._close()
            else:
                with files.without_checkpoint():  # it would copy what is no longer the log
                    self._close()
                self._on_replaced()

    def _leave(self, files: SqliteFiles) -> None:
        """Close a database that was overwritten in place, without copying its log into the new content."""
        with files.without_checkpoint():
            self._close()
            files.forget_log()
        log.error(
            "%s was overwritten while it was open: what was in it before and in its log is gone. What it holds now is "
            "used, if that is a sound database. If this was not meant, stop the server and restore a backup "
            "(docs/how-to/backup.md)",
            files.path,
        )
        self._arrival = Arrival(files.path)
        self._on_replaced()


def _await_transactions(engine: Engine) -> None:
    """Wait until no connection is in use: a new one would share the index of the deleted log with it."""
    until = time.monotonic() + WAIT_S
    while isinstance(engine.pool, QueuePool) and engine.pool.checkedout():
        if time.monotonic() > until:
            raise OSError(errno.EBUSY, "a transaction is in progress in a deleted log")
        time.sleep(0.01)


def sqlite_path(url: str) -> Path | None:
    """Return the file of a SQLite URL; None if it is in memory or another kind of database."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def connect(url: str) -> Engine:
    """Open a database and migrate its tables. Safe if several processes do so at once.

    Raises:
        StoreTooNew: the tables were written by a newer speechpipe.
        SQLAlchemyError, OSError: the database cannot be opened or migrated.
    """
    engine = open_engine(url)
    try:
        migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def open_engine(url: str) -> Engine:
    """Return an engine, without migrations. For a SQLite file, create its folder and use write-ahead logging."""
    # orjson writes NaN as null: JSON has no NaN, and such a measure is unknown.
    options: dict[str, Any] = {
        "json_serializer": lambda value: orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode(),
        "json_deserializer": orjson.loads,
    }
    if make_url(url).get_backend_name() != "sqlite":
        return _open_server(url, options)
    if (path := sqlite_path(url)) is not None:
        make_folder(path.parent)
        if not path.exists():
            create_file(path)
    engine = create_engine(url, **options)

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _: object) -> None:
        connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=NORMAL")

    return engine


def _write_ahead(connection: Any) -> None:
    """Switch to write-ahead logging; try again while another process is switching, for which SQLite does not wait."""
    until = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _open_server(url: str, options: dict[str, Any]) -> Engine:
    """Return an engine whose calls end with an error if the server or the network does not answer."""
    parsed = make_url(url)
    given = LIBPQ if parsed.get_driver_name() in ("psycopg", "psycopg2") else {}
    arguments = {name: value for name, value in given.items() if name not in parsed.query}
    engine = create_engine(url, pool_pre_ping=True, connect_args=arguments, **options)
    if parsed.get_backend_name() == "postgresql":

        @event.listens_for(engine, "connect")
        def _limits(connection: Any, _: object) -> None:
            with connection.cursor() as cursor:  # a process stopped within a transaction must not block others for ever
                cursor.execute("SET idle_in_transaction_session_timeout = '60s'")
                cursor.execute("SET lock_timeout = '15s'")
            connection.commit()

    return engine


def migrate(engine: Engine) -> None:
    """Migrate the tables to this program's version. One process migrates, concurrent ones wait for it.

    Raises:
        StoreTooNew: the store has a version that this program does not know.
    """
    config = Config()
    config.set_main_option("script_location", str(HERE / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    with engine.connect() as connection:
        if version(connection) == scripts.get_current_head():
            return
    with engine.begin() as connection:
        _migrate(connection, config, scripts)
    engine.dispose()  # drop the connection of the migration, which has a longer lock timeout


def _migrate(connection: Connection, config: Config, scripts: ScriptDirectory) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA busy_timeout={MIGRATING_MS}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver does not begin a transaction before CREATE TABLE
    elif connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    found = version(connection)
    known = {script.revision for script in scripts.walk_revisions()}
    if found is not None and found not in known:
        raise StoreTooNew(
            f"the store has schema version {found}, this speechpipe supports at most {scripts.get_current_head()}: "
            "update speechpipe, or configure another store"
        )
    if found == scripts.get_current_head():
        return
    config.attributes["connection"] = connection
    if found is None and "records" in inspect(connection).get_table_names():
        command.stamp(config, FIRST)
    command.upgrade(config, "head")


def version(connection: Connection) -> str | None:
    """Return the schema version of a database; None if it was never migrated."""
    return MigrationContext.configure(connection).get_current_revision()
