"""The database under the store: opened, brought up to date, refused when it is newer than this program."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import SQLAlchemyError

from speechpipe.errors import StoreUnavailable

HERE = Path(__file__).resolve().parent
FIRST = "0001"
"""What the first release wrote, before Alembic kept the version."""


class StoreTooNew(Exception):
    """The store was written by a newer speechpipe."""


STORE_ERRORS = (SQLAlchemyError, OSError, StoreTooNew)
"""What a store that is down, slow, full or strange raises."""


@contextmanager
def reachable() -> Iterator[None]:
    """Say of a store that fails that it does.

    Raises:
        StoreUnavailable: it failed inside.
    """
    try:
        yield
    except STORE_ERRORS as error:
        raise StoreUnavailable(f"the store cannot be used: {str(error).splitlines()[0]}") from error


def connect(url: str) -> Engine:
    """Open a database and bring its tables up to date.

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
    parsed = make_url(url)
    # orjson writes NaN as null: JSON has no NaN, and a measure that is not a number is not known.
    options: dict[str, Any] = {
        "json_serializer": lambda value: orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode(),
        "json_deserializer": orjson.loads,
    }
    if parsed.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, **options)
    if parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, **options)

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA busy_timeout=5000")

    return engine


def migrate(engine: Engine) -> None:
    """Bring the tables up to date.

    Raises:
        StoreTooNew: the store has a version that this program does not know.
    """
    config = Config()
    config.set_main_option("script_location", str(HERE / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
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
