"""The database under the store: opened, brought up to date, refused when it is newer than this program."""

import logging
import os
import sqlite3
import threading
import time
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

from speechpipe.errors import InvalidParameter, StoreUnavailable
from speechpipe.foundation.state_files import create_file, make_folder

HERE = Path(__file__).resolve().parent
FIRST = "0001"
"""What the first release wrote, before Alembic kept the version."""

BUSY_MS, MIGRATING_MS = 5_000, 60_000
MIGRATION_LOCK = 7_217_003  # any number: nothing else of ours takes advisory locks
LIBPQ: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
MISSING = "the database lacks a table"
TOLD = {
    "locked": "the database is locked",
    "disk is full": "the disk is full",
    "no space left": "the disk is full",
    "readonly": "the database cannot be written",
    "read-only": "the database cannot be written",
    "unable to open": "the database file cannot be opened",
    "not a database": "the database file is damaged",
    "malformed": "the database file is damaged",
    "disk i/o error": "the database file cannot be read or written",
    "no such table": MISSING,
    "does not exist": MISSING,
    "connection": "the database cannot be reached",
    "timeout": "the database does not answer in time",
    "terminating": "the database is shutting down",
    "shutting down": "the database is shutting down",
    "starting up": "the database is starting",
}
"""Parts of the messages of drivers, and what they mean."""

log = logging.getLogger(__name__)


class StoreTooNew(Exception):
    """The store was written by a newer speechpipe."""


STORE_ERRORS = (SQLAlchemyError, OSError, StoreTooNew)
"""What a store that is down, slow, full or strange raises."""


def told(error: Exception) -> str:
    """Return why a store fails, for people and clients: without the driver's text, which names hosts and paths."""
    if isinstance(error, StoreTooNew):
        return str(error)
    text = str(error).lower()
    known = next((said for part, said in TOLD.items() if part in text), "")
    if known:
        return known
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return f"the database fails ({type(error).__name__})"


@contextmanager
def translating_store_errors() -> Iterator[None]:
    """Translate what a store raises inside into errors of this program; the driver's text stays in the cause.

    Raises:
        StoreUnavailable: the store failed.
        InvalidParameter: it does not take a value, such as a text with a NUL character.
    """
    try:
        yield
    except (DataError, UnicodeEncodeError) as error:
        raise InvalidParameter("a value holds characters that cannot be stored, or is too long") from error
    except STORE_ERRORS as error:
        raise StoreUnavailable(f"the store cannot be used: {told(error)}") from error


class Database:
    """The engine of one store, opened at first use. Thread-safe.

    A SQLite file that is deleted or replaced while it is open would go on to be written without anybody ever reading
    it: `engine` notices, calls `on_replaced`, and opens what is at the path now, or creates it.
    """

    def __init__(self, url: str, on_replaced: Callable[[], None] = lambda: None) -> None:
        self.url = url
        self._on_replaced = on_replaced
        self._path = sqlite_path(url)
        self._engine: Engine | None = None
        self._identity: tuple[int, int] | None = None
        self._log: tuple[int, int] | None = None
        self._lock = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The database, opened and brought up to date if it is not.

        Raises:
            StoreTooNew, SQLAlchemyError, OSError: it cannot be.
        """
        with self._lock:
            if self._engine is not None and self._moved():
                log.error("%s was deleted or replaced while it was open", self._path)
                self._engine.dispose()
                self._engine = None
                self._forget_log()
                self._on_replaced()
            if self._engine is None:
                self._engine = connect(self.url)
                self._identity = _identity(self._path)
            return self._engine

    def is_current(self, engine: Engine) -> bool:
        """Whether what `engine` wrote is in the file that the next call of `engine` would read."""
        with self._lock:
            return engine is self._engine and not self._moved()

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None

    def _moved(self) -> bool:
        if self._path is None:
            return False
        if _identity(self._path) != self._identity:
            return True
        self._log = _identity(self._beside("-wal"))
        return False

    def _forget_log(self) -> None:
        """Delete the write-ahead log of the file that is gone: SQLite would apply it to the one in its place."""
        if self._log is not None and _identity(self._beside("-wal")) == self._log:
            for suffix in ("-wal", "-shm"):
                self._beside(suffix).unlink(missing_ok=True)

    def _beside(self, suffix: str) -> Path:
        assert self._path is not None
        return self._path.with_name(self._path.name + suffix)


def _identity(path: Path | None) -> tuple[int, int] | None:
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found is not None else None


def sqlite_path(url: str) -> Path | None:
    """Return the file of a SQLite URL; None of a database in memory, or of another kind."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def connect(url: str) -> Engine:
    """Open a database and bring its tables up to date. Several processes may do so at once.

    Raises:
        StoreTooNew: a newer speechpipe has been here.
        SQLAlchemyError, OSError: it cannot be reached.
    """
    engine = open_engine(url)
    try:
        migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def open_engine(url: str) -> Engine:
    """Return an engine; for SQLite files make the directory and switch to write-ahead logging."""
    # orjson writes NaN as null: JSON has no NaN, and a measure that is not a number is not known.
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
    """Switch to write-ahead logging. SQLite does not wait for another process that is just doing the same."""
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
    """Return an engine whose calls end though the server, or the network, does not answer."""
    parsed = make_url(url)
    given = LIBPQ if parsed.get_driver_name() in ("psycopg", "psycopg2") else {}
    arguments = {name: value for name, value in given.items() if name not in parsed.query}
    engine = create_engine(url, pool_pre_ping=True, connect_args=arguments, **options)
    if parsed.get_backend_name() == "postgresql":

        @event.listens_for(engine, "connect")
        def _limits(connection: Any, _: object) -> None:
            with connection.cursor() as cursor:  # a server that was stopped in mid-transaction holds up nobody for ever
                cursor.execute("SET idle_in_transaction_session_timeout = '60s'")
                cursor.execute("SET lock_timeout = '15s'")
            connection.commit()

    return engine


def migrate(engine: Engine) -> None:
    """Bring the tables up to date, one process at a time; the others wait and find it done.

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
    engine.dispose()  # this connection would wait for locks for longer than others


def _migrate(connection: Connection, config: Config, scripts: ScriptDirectory) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA busy_timeout={MIGRATING_MS}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver begins none before CREATE TABLE
    elif connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    found = version(connection)
    known = {script.revision for script in scripts.walk_revisions()}
    if found is not None and found not in known:
        raise StoreTooNew(
            f"the store has version {found}, this speechpipe knows {scripts.get_current_head()} at most: "
            "update speechpipe, or give it another store"
        )
    if found == scripts.get_current_head():
        return
    config.attributes["connection"] = connection
    if found is None and "records" in inspect(connection).get_table_names():
        command.stamp(config, FIRST)
    command.upgrade(config, "head")


def version(connection: Connection) -> str | None:
    """Return which version of the tables a database has; None if no migration was ever run."""
    return MigrationContext.configure(connection).get_current_revision()
