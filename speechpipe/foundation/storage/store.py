"""The store of records: a bounded queue, a writer thread that inserts batches, and queries.

SQLAlchemy Core; SQLite in WAL mode by default, other databases by URL. A slow or unreachable store does not affect the
cascade: the writer keeps its batch and tries again, the queue fills up, and records that find no room are counted in
`lost`.
"""

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, and_, delete, func, insert, or_, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from speechpipe.errors import StoreUnavailable
from speechpipe.foundation.background import BackgroundTask
from speechpipe.foundation.storage.database import MISSING, STORE_ERRORS, Database, failure_reason
from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.record_rows import numbered
from speechpipe.foundation.storage.schema import about, records

__all__ = [
    "Store",
]

BATCH = 1000
WAIT_S = 0.2
SETTLE_LOOK_S = 0.02
BACK_OFF_S = (0.2, 0.5, 1.0, 2.0)
IDS = 400
"""Ids in one query; databases limit the number of variables in a statement."""

EXPIRED_AT_ONCE = 5_000
LOGGED_EVERY = 1_000
ORDER = "record_order"
"""Row of `about` that writers lock, so that records become visible in the order of their numbers."""

UNENCODABLE = (TypeError, ValueError, OverflowError, AttributeError, RecursionError)

log = logging.getLogger(__name__)


class _Item:
    """A queued record; `done` is set when it was written or lost."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.at = time.monotonic()  # when it was queued
        self.row: dict[str, Any] = {}
        self.done = threading.Event()
        self.written = False
        self.withdrawn = False  # `write` has returned False for it: it must not be stored later


class Store:
    """Takes records from any thread, writes them on its own thread, and reads them back. Thread-safe.

    `lost` counts lost records by cause:
        queue_full: the queue had no room.
        unencodable: a value was neither text nor a number.
        refused: the database rejected the record, for example because its id exists already.
        store_error: the server stopped while the store could not be written.
        store_replaced: the SQLite file was deleted, replaced or overwritten while open; at least 1 each time.
    """

    def __init__(self, url: str, queue_size: int = 10_000) -> None:
        self.url = url
        self.lost: Counter[str] = Counter()
        self.written = 0
        self.cpu_s = 0.0  # of the writer's thread
        self.task = BackgroundTask("store-writer", self._write, back_off_s=BACK_OFF_S)
        self._failure = ""
        self._queue: queue.Queue[_Item] = queue.Queue(queue_size)
        self._held: list[_Item] = []  # the batch in progress
        self._unknown = False  # a commit that raised may have succeeded
        self._settled = 0  # records written, lost or withdrawn
        self._waited_s = 0.0  # the longest since the last `take_wait_s`
        self._in_file = 0  # records that this process wrote to the current file
        self._database = Database(url, self._replaced)
        self._opened = False

    def open(self) -> None:
        """Start the writer. An unreachable database does not raise here; each batch tries it again."""
        self._opened = True
        self.task.start()

    def append(self, record: Record) -> None:
        """Queue a record; never blocks and never raises."""
        try:
            self._queue.put_nowait(_Item(record))
        except queue.Full:
            self.lost["queue_full"] += 1

    def write(self, record: Record, wait_s: float) -> bool:
        """Queue a record and wait up to `wait_s` seconds until it is in the database.

        Returns False if it was lost or took longer. It is then not stored later, unless the database was writing it at
        that moment.
        """
        item = _Item(record)
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self.lost["queue_full"] += 1
            return False
        if not item.done.wait(wait_s):
            item.withdrawn = True
        return item.written

    def flush(self, wait_s: float | None = None) -> bool:
        """Wait until the queue is empty, all records written or lost; False after `wait_s` seconds."""
        with self._queue.all_tasks_done:
            return self._queue.all_tasks_done.wait_for(lambda: not self._queue.unfinished_tasks, wait_s)

    def settle(self, wait_s: float) -> bool:
        """Wait until the records queued before this call are written or lost; False after `wait_s` seconds.

        Later records are not waited for, because under steady traffic the queue is never empty.
        """
        goal = self._settled + self._queue.unfinished_tasks
        limit = time.monotonic() + wait_s
        while self._settled < goal and self._queue.unfinished_tasks:
            if time.monotonic() >= limit:
                return False
            time.sleep(SETTLE_LOOK_S)
        return True

    def close(self) -> None:
        """Write the queued records and stop the writer; records that cannot be written now are counted as lost."""
        ended = self.task.close()
        if self._opened and ended:
            self._drain()
        self._database.close()

    def _drain(self) -> None:
        try:
            while self._held or not self._queue.empty():
                self._write()
        except (*STORE_ERRORS, StoreUnavailable) as error:
            left = [*self._held, *self._queued_items()]
            self.lost["store_error"] += len(left)
            log.error("%d records are lost: the store failed while the server was stopping: %s", len(left), error)
            self._finished(left, written=False)

    @property
    def queued(self) -> int:
        """Records that are not written yet."""
        return self._queue.qsize() + len(self._held)

    def take_wait_s(self) -> float:
        """Return for how many seconds a record has waited for the database at most since the last call."""
        longest, self._waited_s = self._waited_s, 0.0
        now = time.monotonic()
        return max([longest, *(now - item.at for item in tuple(self._held))])

    @property
    def failure(self) -> str:
        """Why the last batch could not be written; empty if it was written."""
        status = self.task.status
        return self._failure or (status.last_failure.partition(":")[0] if status.failing else "")

    # ---- the writer ----

    def _write(self) -> None:
        if not self._held:
            self._held = self._batch()
        try:
            self._work_off()
        except STORE_ERRORS as error:
            self._unknown = True
            self._failure = failure_reason(error)
            self._database.say_damaged(error)
            if self._failure == MISSING:  # the database was recreated while open: connect and migrate again
                self._database.close()
            raise StoreUnavailable(f"records cannot be written and wait: {self._failure}") from error
        finally:
            self.cpu_s = time.thread_time()

    def _batch(self) -> list[_Item]:
        """Wait up to `WAIT_S` for a record; return up to `BATCH` that are queued."""
        try:
            first = self._queue.get(timeout=0 if self.task.closing else WAIT_S)
        except (queue.Empty, ValueError):
            return []
        return [first, *self._queued_items(BATCH - 1)]

    def _queued_items(self, most: int | None = None) -> list[_Item]:
        found: list[_Item] = []
        while most is None or len(found) < most:
            try:
                found.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return found

    def _work_off(self) -> None:
        """Write the batch. A record that cannot be encoded or is refused is dropped; the others are written."""
        for item in list(self._held):
            if item.withdrawn:
                self._finished([item], written=False)
            elif not item.row:
                try:
                    item.row = _row(item.record)
                except UNENCODABLE as error:
                    self._drop(item, "unencodable", error)
        parts = [list(self._held)] if self._held else []
        while parts:
            part = parts.pop()
            try:
                self._insert(part)
            except _Refused as refused:
                if len(part) == 1:
                    self._drop(part[0], "refused", refused.error)
                else:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
            else:
                self._finished(part, written=True)
        self._unknown = False
        self._failure = ""

    def _insert(self, part: Sequence[_Item]) -> None:
        """Insert records in one transaction, without those that an earlier commit of unknown result has written.

        Raises:
            _Refused: the database rejected one of them.
            SQLAlchemyError, OSError, StoreTooNew: the store failed; the records may or may not be written.
        """
        engine = self._database.engine
        try:
            with engine.begin() as connection:
                if connection.dialect.name != "sqlite":  # SQLite allows one writer at a time anyway
                    connection.execute(select(about.c.key).where(about.c.key == ORDER).with_for_update())
                known = _existing(connection, [item.row["id"] for item in part]) if self._unknown else set()
                if rows := [item.row for item in part if item.row["id"] not in known]:
                    connection.execute(insert(records), rows)
        except (IntegrityError, DataError, UnicodeEncodeError, OverflowError) as error:
            raise _Refused(error) from error
        except StatementError as error:
            if isinstance(error, DBAPIError):
                raise
            raise _Refused(error) from error
        if not self._database.is_current(engine):
            raise OSError("the database file was deleted or replaced during the write")
        self._in_file += len(part)

    def _drop(self, item: _Item, cause: str, error: Exception) -> None:
        self.lost[cause] += 1
        if self.lost[cause] % LOGGED_EVERY == 1:
            log.warning("a record (%s) is lost, %s: %s", item.record.kind, cause, type(error).__name__, exc_info=error)
        self._finished([item], written=False)

    def _finished(self, items: Sequence[_Item], *, written: bool) -> None:
        done = set(map(id, items))
        self._held = [item for item in self._held if id(item) not in done]
        if written:
            self.written += len(items)
        self._settled += len(items)
        now = time.monotonic()
        self._waited_s = max([self._waited_s, *(now - item.at for item in items)])
        for item in items:
            item.written = written
            item.done.set()
            self._queue.task_done()

    def _replaced(self) -> None:
        self.lost["store_replaced"] += max(1, self._in_file)
        self._in_file = 0

    @property
    def engine(self) -> Engine:
        """The engine of the database, opened at first use.

        Raises:
            StoreTooNew, SQLAlchemyError, OSError: it cannot be opened.
        """
        return self._database.engine

    # ---- reading ----

    def read(self, kind: str | None = None, since: float = 0.0) -> Iterator[Record]:
        """Yield the records since a Unix time, of one kind or all, ordered by time."""
        query = select(records).where(records.c.at >= since).order_by(records.c.at, records.c.id)
        if kind is not None:
            query = query.where(records.c.kind == kind)
        for _, record in numbered(self.engine, query):
            yield record

    def find(self, *, id_: str = "", session_id: str = "") -> list[Record]:
        """Return the record with the id `id_`, or the records of a session, in the order of writing."""
        column, value = (records.c.id, id_) if id_ else (records.c.session_id, session_id)
        return [
            record
            for _, record in numbered(self.engine, select(records).where(column == value).order_by(records.c.seq))
        ]

    def after(self, seq: int, most: int) -> list[tuple[int, Record]]:
        """Return up to `most` records with numbers above `seq`, as (number, record).

        A gap in the numbers is final: numbers become visible in order, so no record appears in it later.
        """
        return list(
            numbered(self.engine, select(records).where(records.c.seq > seq).order_by(records.c.seq).limit(most))
        )

    def between(self, since: float, until: float) -> Iterator[Record]:
        """Yield the records of a time span (Unix seconds, end excluded), in the order of writing."""
        query = select(records).where(records.c.at >= since, records.c.at < until).order_by(records.c.seq)
        for _, record in numbered(self.engine, query):
            yield record

    def latest(self, most: int, since: float, until: float, bundle: str = "", version: str = "") -> list[Record]:
        """Return the newest `most` records in a span, oldest first.

        With a bundle: its own and those of the server (kind `system`).
        """
        query = select(records).where(records.c.at >= since, records.c.at < until)
        if bundle:
            mine = and_(records.c.bundle == bundle, records.c.bundle_version == version)
            query = query.where(or_(mine, records.c.kind == "system"))
        query = query.order_by(records.c.seq.desc()).limit(most)
        return [record for _, record in numbered(self.engine, query)][::-1]

    def last_seq(self) -> int:
        """Return the number of the last record; 0 if there is none."""
        with self.engine.connect() as connection:
            return int(connection.execute(select(func.max(records.c.seq))).scalar() or 0)

    def expire(self, before: float) -> int:
        """Delete the records before a Unix time, in small transactions; return how many were deleted."""
        some = select(records.c.seq).where(records.c.at < before).limit(EXPIRED_AT_ONCE)
        count = 0
        while True:
            with self.engine.begin() as connection:
                deleted = connection.execute(delete(records).where(records.c.seq.in_(some))).rowcount
            count += deleted
            if deleted < EXPIRED_AT_ONCE:
                return count


class _Refused(Exception):
    """The database rejected a record of a batch."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _existing(connection: Connection, ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(ids), IDS):
        query = select(records.c.id).where(records.c.id.in_(ids[start : start + IDS]))
        found |= set(connection.execute(query).scalars())
    return found


def _row(record: Record) -> dict[str, Any]:
    """Return the record as a row of the table.

    Raises:
        TypeError, ValueError and others of `UNENCODABLE`: a value is neither text nor a number, or cannot be encoded.
    """
    texts = ("id", "kind", "session_id", "channel", "bundle", "bundle_version", "outcome", "tenant", "tenant_class")
    row: dict[str, Any] = {name: _text(getattr(record, name)) for name in (*texts, "arm")}
    row["at"] = float(record.at)
    for name in ("versions", "measures"):
        values = {
            _text(key): _text(value) if isinstance(value, str) else value
            for key, value in getattr(record, name).items()
        }
        orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
        row[name] = values
    return row


def _text(value: str) -> str:
    """Return a text with NUL replaced, which PostgreSQL cannot store; UnicodeEncodeError if it is not valid Unicode."""
    value.encode()
    return value.replace("\0", "\ufffd")
