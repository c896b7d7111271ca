"""Where records go: SQLAlchemy Core, SQLite in WAL mode by default, any other database by URL.

One writer thread, batches, a bounded queue. A store that is slow or gone never slows or breaks the cascade:
what it could not take is counted in `lost`, by cause.
"""

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Engine, Select, and_, delete, func, insert, or_, select
from sqlalchemy.exc import IntegrityError

from speechpipe.monitor import Record
from speechpipe.monitor.database import STORE_ERRORS, connect
from speechpipe.monitor.schema import records

BATCH = 1000
WAIT_S = 0.2
AGAIN_S = 1.0
"""After a failure the same batch is tried once more after so long; meanwhile the queue fills."""

SETTLE_LOOK_S = 0.02

GAP_S = 5.0
"""Numbers of records come in order, but are not always seen in order where several processes write to one database: a
number that is missing for longer than this was given to a transaction that failed."""

log = logging.getLogger(__name__)


class _Awaited:
    """A record that somebody waits for."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.done = threading.Event()
        self.written = False


class Store:
    """Append records from any thread; read them back with `read`."""

    def __init__(self, url: str, queue_size: int = 10_000) -> None:
        self.url = url
        self.lost: Counter[str] = Counter()
        self.written = 0
        self.cpu_s = 0.0  # of the writer
        self.failure = ""  # why the last batch could not be written
        self._queue: queue.Queue[Record | _Awaited] = queue.Queue(queue_size)
        self._closing = threading.Event()
        self._engine: Engine | None = None
        self._opening = threading.Lock()
        self._gaps: dict[int, float] = {}  # numbers that are missing, and since when; several may read at once
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

    def write(self, record: Record, wait_s: float) -> bool:
        """Queue a record and wait until it is in the database; False if that fails or takes longer."""
        awaited = _Awaited(record)
        try:
            self._queue.put_nowait(awaited)
        except queue.Full:
            self.lost["queue_full"] += 1
            return False
        return awaited.done.wait(wait_s) and awaited.written

    def flush(self) -> None:
        """Wait until everything queued so far was written or counted lost."""
        self._queue.join()

    def settle(self, wait_s: float) -> bool:
        """Wait until the records queued before this call were written or counted lost; False if that takes longer.

        Records that come meanwhile are not waited for: under steady traffic the queue is never empty.
        """
        done = lambda: self.written + self.lost.total() - self.lost["queue_full"]  # noqa: E731
        goal = done() + self._queue.unfinished_tasks
        limit = time.monotonic() + wait_s
        while done() < goal and self._queue.unfinished_tasks:
            if time.monotonic() >= limit:
                return False
            time.sleep(SETTLE_LOOK_S)
        return True

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
            plain = [item.record if isinstance(item, _Awaited) else item for item in batch]
            written = self._insert(plain) or (not self._closing.wait(AGAIN_S) and self._insert(plain))
            if not written:
                self.lost["store_error"] += len(batch)
            for item in batch:
                if isinstance(item, _Awaited):
                    item.written = written
                    item.done.set()
                self._queue.task_done()
            self.cpu_s = time.thread_time()

    def _batch(self) -> list[Record | _Awaited]:
        """Wait for records; an empty list means that the store is closed and the queue empty."""
        batch: list[Record | _Awaited] = []
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

    def _insert(self, batch: Sequence[Record]) -> bool:
        """Write a batch; one that is there already is lost alone."""
        try:
            rows = [_row(record) for record in batch]
            try:
                with self.engine.begin() as connection:
                    connection.execute(insert(records), rows)
            except IntegrityError:
                self._insert_one_by_one(rows)
            else:
                self.written += len(rows)
        except STORE_ERRORS as error:
            if not self.failure:
                log.warning("records are lost, the store fails: %s", error)
            self.failure = str(error).splitlines()[0]
            return False
        self.failure = ""
        return True

    def _insert_one_by_one(self, rows: Sequence[dict[str, Any]]) -> None:
        with self.engine.begin() as connection:
            for row in rows:
                try:
                    with connection.begin_nested():
                        connection.execute(insert(records), row)
                except IntegrityError:
                    self.lost["refused"] += 1
                else:
                    self.written += 1

    @property
    def engine(self) -> Engine:
        """The database, opened when it is first needed.

        Raises:
            StoreTooNew, SQLAlchemyError, OSError: it cannot be.
        """
        with self._opening:
            if self._engine is None:
                self._engine = connect(self.url)
            return self._engine

    # ---- reading ----

    def read(self, kind: str | None = None, since: float = 0.0) -> Iterator[Record]:
        """Yield records in the order of time."""
        query = select(records).where(records.c.at >= since).order_by(records.c.at, records.c.id)
        if kind is not None:
            query = query.where(records.c.kind == kind)
        for _, record in self._yield(query):
            yield record

    def find(self, *, id_: str = "", session_id: str = "") -> list[Record]:
        """Return the record of that id, or those of a session."""
        column, value = (records.c.id, id_) if id_ else (records.c.session_id, session_id)
        return [record for _, record in self._yield(select(records).where(column == value).order_by(records.c.seq))]

    def after(self, seq: int, most: int) -> list[tuple[int, Record]]:
        """Return up to `most` records written after number `seq`, with their numbers, without jumping over any."""
        found = list(self._yield(select(records).where(records.c.seq > seq).order_by(records.c.seq).limit(most)))
        expected = seq + 1
        for index, (number, _) in enumerate(found):
            if number != expected and self._waits_for(expected):
                return found[:index]
            expected = number + 1
        return found

    def _waits_for(self, missing: int) -> bool:
        now = time.monotonic()
        self._gaps = {number: since for number, since in self._gaps.items() if now - since < 10 * GAP_S}
        return now - self._gaps.setdefault(missing, now) < GAP_S

    def latest(self, most: int, since: float, until: float, bundle: str, version: str) -> list[Record]:
        """Return the newest `most` records of a bundle, and of the server, between two times; the oldest first."""
        mine = and_(records.c.bundle == bundle, records.c.bundle_version == version)
        query = select(records).where(records.c.at >= since, records.c.at < until)
        query = query.where(or_(mine, records.c.kind == "system")).order_by(records.c.seq.desc()).limit(most)
        return [record for _, record in self._yield(query)][::-1]

    def last_seq(self) -> int:
        """Return the number of the last record; 0 of an empty store."""
        with self.engine.connect() as connection:
            return int(connection.execute(select(func.max(records.c.seq))).scalar() or 0)

    def expire(self, before: float) -> int:
        """Delete records from before that time; return how many."""
        with self.engine.begin() as connection:
            return connection.execute(delete(records).where(records.c.at < before)).rowcount

    def _yield(self, query: Select[Any]) -> Iterator[tuple[int, Record]]:
        with self.engine.connect() as connection:
            for row in connection.execution_options(yield_per=1000).execute(query):
                values = row._asdict()
                yield values.pop("seq"), Record(**values)


def _row(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "kind": record.kind,
        "session_id": record.session_id,
        "at": record.at,
        "channel": record.channel,
        "bundle": record.bundle,
        "bundle_version": record.bundle_version,
        "outcome": record.outcome,
        "tenant": record.tenant,
        "tenant_class": record.tenant_class,
        "arm": record.arm,
        "versions": dict(record.versions),
        "measures": dict(record.measures),
    }
