"""Where records go: SQLAlchemy Core, SQLite in WAL mode by default, any other database by URL.

One writer thread, batches, a bounded queue. A store that is slow or gone never slows or breaks the cascade:
what it could not take is counted in `lost`, by cause.
"""

import json
import logging
import queue
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Engine,
    Float,
    Index,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    insert,
    make_url,
    select,
)
from sqlalchemy.exc import SQLAlchemyError

from speechpipe.monitor import Record

SCHEMA_VERSION = "1"
BATCH = 500
WAIT_S = 0.2

log = logging.getLogger(__name__)

metadata = MetaData()

records = Table(
    "records",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("session_id", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("channel", String(16), nullable=False),
    Column("bundle", String(64), nullable=False),
    Column("bundle_version", String(32), nullable=False),
    Column("outcome", String(64), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("tenant_class", String(16), nullable=False),
    Column("arm", String(16), nullable=False),
    Column("versions", JSON, nullable=False),
    Column("measures", JSON, nullable=False),
    Index("records_by_time", "kind", "at"),
    Index("records_by_session", "session_id"),
)

about = Table("about", metadata, Column("key", String(32), primary_key=True), Column("value", String(64)))


class Store:
    """Append records from any thread; read them back with `read`."""

    def __init__(self, url: str, queue_size: int = 10_000) -> None:
        self.url = url
        self.lost: Counter[str] = Counter()
        self.written = 0
        self.failure = ""  # why the last batch could not be written
        self._queue: queue.Queue[Record] = queue.Queue(queue_size)
        self._closing = threading.Event()
        self._engine: Engine | None = None
        self._writer = threading.Thread(target=self._write, name="store-writer", daemon=True)

    def open(self) -> None:
        """Start the writer. A database that cannot be reached is tried again with every batch."""
        self._writer.start()

    def append(self, record: Record) -> None:
        """Queue a record; never blocks and never raises."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.lost["queue_full"] += 1

    def flush(self) -> None:
        """Wait until everything queued so far was written or counted lost."""
        self._queue.join()

    def close(self) -> None:
        """Write what is queued and stop."""
        self._closing.set()
        if self._writer.is_alive():
            self._writer.join(10.0)
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    @property
    def queued(self) -> int:
        """Records waiting."""
        return self._queue.qsize()

    def _write(self) -> None:
        while batch := self._batch():
            try:
                self._insert(batch)
            except (SQLAlchemyError, OSError) as error:
                self.lost["store_error"] += len(batch)
                if not self.failure:
                    log.warning("records are lost, the store fails: %s", error)
                self.failure = str(error).splitlines()[0]
            else:
                self.written += len(batch)
                self.failure = ""
            for _ in batch:
                self._queue.task_done()

    def _batch(self) -> list[Record]:
        """Wait for records; an empty list means that the store is closed and the queue empty."""
        batch: list[Record] = []
        while not batch:
            try:
                batch.append(self._queue.get(timeout=WAIT_S))
            except queue.Empty:
                if self._closing.is_set():
                    return []
        while len(batch) < BATCH:
            try:
                batch.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return batch

    def _insert(self, batch: Iterable[Record]) -> None:
        with self._connected().begin() as connection:
            connection.execute(insert(records), [_row(record) for record in batch])

    def _connected(self) -> Engine:
        if self._engine is None:
            engine = open_engine(self.url)
            metadata.create_all(engine)
            with engine.begin() as connection:
                if connection.execute(select(about.c.value).where(about.c.key == "schema")).first() is None:
                    connection.execute(insert(about), {"key": "schema", "value": SCHEMA_VERSION})
            self._engine = engine
        return self._engine

    def read(self, kind: str | None = None, since: float = 0.0) -> Iterator[Record]:
        """Yield records in the order of time."""
        query = select(records).where(records.c.at >= since).order_by(records.c.at, records.c.id)
        if kind is not None:
            query = query.where(records.c.kind == kind)
        with self._connected().connect() as connection:
            for row in connection.execution_options(yield_per=1000).execute(query):
                yield Record(**row._asdict())


def open_engine(url: str) -> Engine:
    """Return an engine; for SQLite files make the directory and switch to write-ahead logging."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    if parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA busy_timeout=5000")

    return engine


def _row(record: Record) -> dict[str, Any]:
    names = ("id", "kind", "session_id", "at", "channel", "bundle", "bundle_version", "outcome", "tenant")
    row = {name: getattr(record, name) for name in (*names, "tenant_class", "arm")}
    # JSON has no NaN; a measure that is not a number is not known.
    measures = {key: None if value != value else value for key, value in record.measures.items()}  # noqa: PLR0124
    return row | {"versions": dict(record.versions), "measures": json.loads(json.dumps(measures))}
