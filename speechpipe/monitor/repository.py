"""The monitor's tables: windows, references, alarms, announced changes and the cursor over the records."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Engine, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from speechpipe.foundation.storage.schema import alarm_notices as notices
from speechpipe.foundation.storage.schema import alarms, changes, cursors, pinned, watched_tenants, windows
from speechpipe.foundation.storage.swap import ChangedMeanwhile, swap
from speechpipe.monitor.alarms import RAISED, Alarm, Transition
from speechpipe.monitor.calendar import Change
from speechpipe.monitor.reference import Reference
from speechpipe.monitor.rows import (
    alarm_of,
    alarm_row,
    insert_windows,
    notice_row,
    of_group,
    payload_of,
    reference_of,
    window_of,
)
from speechpipe.monitor.spec import Severity
from speechpipe.monitor.windows import Group, Window, merged

CURSOR = "monitor"
COARSE_S = 900
"""The width of compacted windows."""
KEPT = frozenset({"id", "acknowledged_at", "acknowledged_by", "blame", "severity"})
"""Columns of an alarm that `save` does not overwrite: operators and blame write them."""


class Archive:
    """Access to the tables. Thread-safe. `engine` is called for each operation, because a store may be reopened.

    Every method raises `SQLAlchemyError` or `OSError` if the database cannot be used.
    """

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    # ---- cursor and windows ----

    def cursor(self) -> tuple[int, dict[str, Any]]:
        """Return the number of the last processed record, and the detectors' state."""
        with self._engine().connect() as connection:
            row = connection.execute(select(cursors).where(cursors.c.name == CURSOR)).first()
        return (int(row.seq), orjson.loads(row.state)) if row is not None else (0, {})

    def cursor_seq(self) -> int:
        """Return the number of the last processed record."""
        with self._engine().connect() as connection:
            return int(connection.execute(select(cursors.c.seq).where(cursors.c.name == CURSOR)).scalar() or 0)

    def commit(
        self, before: int, after: int, found: Iterable[Window], state: dict[str, Any], tenants: Sequence[str] = ()
    ) -> bool:
        """Write windows and newly watched tenants, and move the cursor from `before` to `after`, in one transaction.

        Returns False, with nothing written, if another process has moved the cursor meanwhile.
        """
        body = orjson.dumps(state)
        with self._engine().begin() as connection:
            if not swap(connection, cursors, {"name": CURSOR, "seq": before}, {"seq": after, "state": body}):
                if before or connection.execute(select(cursors.c.seq).where(cursors.c.name == CURSOR)).first():
                    return False
                connection.execute(insert(cursors), {"name": CURSOR, "seq": after, "state": body})
            insert_windows(connection, found)
            if tenants:
                now = time.time()
                connection.execute(insert(watched_tenants), [{"tenant": tenant, "since": now} for tenant in tenants])
        return True

    def tenants(self) -> list[str]:
        """Return the enterprise tenants that have groups of their own."""
        with self._engine().connect() as connection:
            return list(connection.execute(select(watched_tenants.c.tenant)).scalars())

    def windows(self, since: float, until: float) -> list[Window]:
        """Return all windows that begin between two times, in order."""
        query = select(windows).where(windows.c.start >= since, windows.c.start < until).order_by(windows.c.start)
        with self._engine().connect() as connection:
            return [window_of(row) for row in connection.execute(query)]

    def records(self, since: float, until: float) -> int:
        """Return the records of traffic, not of the server, in the windows that begin between two times."""
        mine = windows.c.start >= since, windows.c.start < until, windows.c.tenant_class != ""
        with self._engine().connect() as connection:
            return int(connection.execute(select(func.sum(windows.c.records)).where(*mine)).scalar() or 0)

    def first_start(self) -> float | None:
        """Return when the first window begins, in unix seconds; None without windows."""
        with self._engine().connect() as connection:
            found = connection.execute(select(func.min(windows.c.start))).scalar()
        return None if found is None else float(found)

    def compact(self, before: float, stop: Callable[[], bool] = lambda: False) -> int:
        """Merge windows older than `before` into quarters of an hour; return how many rows that saved.

        A quarter is written only if its rows have not changed since they were read, so that a second process or late
        windows cause no double counting. `stop` is called before each quarter.
        """
        end, start, saved = before // COARSE_S * COARSE_S, 0, 0
        fine = windows.c.width_s < COARSE_S
        while not stop():
            oldest = select(func.min(windows.c.start)).where(windows.c.start >= start, windows.c.start < end, fine)
            with self._engine().connect() as connection:
                first = connection.execute(oldest).scalar()
            if first is None:
                break
            start = first // COARSE_S * COARSE_S + COARSE_S
            saved += self._compact_quarter([windows.c.start >= start - COARSE_S, windows.c.start < start, fine])
        return saved

    def _compact_quarter(self, mine: Sequence[ColumnElement[bool]]) -> int:
        with self._engine().connect() as connection:
            rows = connection.execute(select(windows).where(*mine)).all()
        coarse = merged((window_of(row) for row in rows), COARSE_S)
        with self._engine().connect() as connection:
            deleted = connection.execute(delete(windows).where(*mine).returning(windows.c.id)).scalars().all()
            if set(deleted) != {row.id for row in rows}:
                connection.rollback()
                return 0  # the next compaction tries again
            insert_windows(connection, coarse)
            connection.commit()
        return len(rows) - len(coarse)

    def expire(self, before: float) -> int:
        """Delete windows, resolved alarms and their notices older than `before`; return the number of windows."""
        with self._engine().begin() as connection:
            old = notices.c.created_at < before, notices.c.state != "due"
            connection.execute(delete(notices).where(*old))
            connection.execute(delete(alarms).where(alarms.c.resolved_at < before))
            return connection.execute(delete(windows).where(windows.c.start < before)).rowcount

    def units(self, group: Group, since: float) -> int:
        """Return the units of a group (for the server: records) in the windows since a time."""
        counted = windows.c.units if any(group) else windows.c.records
        query = select(func.sum(counted)).where(*of_group(group), windows.c.start >= since)
        with self._engine().connect() as connection:
            return int(connection.execute(query).scalar() or 0)

    def first(self, group: Group, since: float, units: int) -> list[Window]:
        """Return the first windows of a group since a time that hold `units` units (for the server: records)."""
        query = select(windows).where(*of_group(group), windows.c.start >= since).order_by(windows.c.start)
        found: list[Window] = []
        with (
            self._engine().connect() as connection,
            connection.execution_options(yield_per=200).execute(query) as rows,
        ):
            for row in rows:
                if units <= 0:
                    break
                found.append(window_of(row))
                units -= row.units if any(group) else row.records
        return found

    # ---- references ----

    def references(self) -> list[Reference]:
        """Return all references, oldest first."""
        with self._engine().connect() as connection:
            return [reference_of(row) for row in connection.execute(select(pinned).order_by(pinned.c.id))]

    def reference_states(self) -> tuple[tuple[int, str], ...]:
        """Return (number, status) of all references: a cheap query to detect changes."""
        with self._engine().connect() as connection:
            rows = connection.execute(select(pinned.c.id, pinned.c.status).order_by(pinned.c.id))
            return tuple((row.id, row.status) for row in rows)

    def propose(self, reference: Reference) -> int:
        """Insert a proposal; return its number."""
        group = reference.group
        values = {
            "created_at": reference.created_at,
            "tenant_class": group.tenant_class,
            "tenant": group.tenant,
            "channel": group.channel,
            "bundle": group.bundle,
            "arm": group.arm,
            "since": reference.since,
            "until": reference.until,
            "records": reference.window.records,
            "status": "proposed",
            "payload": payload_of(reference.window),
        }
        with self._engine().begin() as connection:
            key = connection.execute(insert(pinned), values).inserted_primary_key
            assert key is not None
            return int(key[0])

    def approve(self, number: int, by: str, now: float) -> Reference:
        """Pin a proposal and retire the pinned reference of its group; return the pinned one.

        Raises:
            KeyError: there is no such reference.
        """
        references = {reference.id: reference for reference in self.references()}
        chosen = references[number]
        with self._engine().begin() as connection:
            for other in references.values():
                if other.group == chosen.group and other.status == "pinned":
                    connection.execute(update(pinned).where(pinned.c.id == other.id).values(status="retired"))
            connection.execute(
                update(pinned).where(pinned.c.id == number).values(status="pinned", approved_at=now, approved_by=by)
            )
        return next(reference for reference in self.references() if reference.id == number)

    # ---- alarms ----

    def save(self, changed: Sequence[Transition], sinks: Sequence[str] = (), due_at: float = 0.0) -> None:
        """Write transitions of alarms and a notice for each sink, in one transaction.

        Args:
            changed: what `alarms.step` returned for the alarms in the store.
            sinks: names of the sinks to notify.
            due_at: when sinks are notified of firing alarms, unless `release` allows it earlier (unix seconds).

        Raises:
            ChangedMeanwhile: another process has changed or opened one of the alarms meanwhile; nothing was written.
        """
        try:
            with self._engine().begin() as connection:
                for change in changed:
                    row = alarm_row(change.alarm)
                    if not change.was:
                        connection.execute(insert(alarms), row)
                    else:
                        was = {"id": change.alarm.id, "state": change.was}
                        values = {name: value for name, value in row.items() if name not in KEPT}
                        if not swap(connection, alarms, was, values):
                            raise ChangedMeanwhile(change.alarm.id)
                    if change.event and sinks:
                        due = [notice_row(change, sink, due_at) for sink in sinks]
                        connection.execute(insert(notices), due)
        except IntegrityError as error:
            raise ChangedMeanwhile("another process has opened one of these alarms") from error

    def acknowledge(self, name: str, by: str, now: float) -> list[Alarm]:
        """Note that `by` has acknowledged an alarm, or all of an incident; return those that are open, or none.

        Who has acknowledged last counts.
        """
        if not name:
            return []  # alarms of no incident
        mine = or_(alarms.c.id == name, alarms.c.incident == name), alarms.c.state != "resolved"
        with self._engine().begin() as connection:
            seen = {"acknowledged_at": now, "acknowledged_by": by}
            connection.execute(update(alarms).where(*mine).values(**seen))
            return [alarm_of(row) for row in connection.execute(select(alarms).where(*mine)).all()]

    def annotate(self, alarm_id: str, blame: str) -> None:
        """Store the verdict's label and reason with an alarm."""
        with self._engine().begin() as connection:
            connection.execute(update(alarms).where(alarms.c.id == alarm_id).values(blame=blame))

    def set_severity(self, alarm: Alarm, severity: str, sinks: Sequence[str], now: float) -> None:
        """Change the severity of a firing alarm. If it becomes a page, sinks that know it are notified again, once."""
        with self._engine().begin() as connection:
            mine = {"id": alarm.id, "severity": alarm.condition.severity, "state": "firing"}
            if not swap(connection, alarms, mine, {"severity": severity}) or severity != Severity.PAGE.value:
                return
            of_alarm = select(notices.c.sink, notices.c.event, notices.c.state).where(notices.c.alarm_id == alarm.id)
            known = connection.execute(of_alarm).all()
            skipped = {row.sink for row in known if row.event == RAISED or row.state == "due"}  # it reads the severity
            raised = {"event": RAISED, "created_at": now}
            if due := [notice_row(Transition(alarm, ""), sink, now) | raised for sink in sinks if sink not in skipped]:
                connection.execute(insert(notices), due)

    def release(self, alarm_ids: Sequence[str], now: float) -> None:
        """Make the notices of these alarms due now."""
        with self._engine().begin() as connection:
            for alarm_id in alarm_ids:
                mine = notices.c.alarm_id == alarm_id, notices.c.state == "due", notices.c.tries == 0
                connection.execute(update(notices).where(*mine, notices.c.due_at > now).values(due_at=now))

    def alarms(self, since: float | None = None) -> list[Alarm]:
        """Return open alarms, and with `since` also those resolved after it; newest first."""
        condition = alarms.c.state != "resolved"
        if since is not None:
            condition = or_(condition, alarms.c.resolved_at >= since)
        with self._engine().connect() as connection:
            rows = connection.execute(select(alarms).where(condition).order_by(alarms.c.pending_at.desc()))
            return [alarm_of(row) for row in rows]

    # ---- announced changes ----

    def announce(self, tenant: str, since: float, until: float, note: str) -> int:
        """Insert an announced change of a tenant's data (of all tenants', if empty); return its number."""
        with self._engine().begin() as connection:
            values = {"tenant": tenant, "since": since, "until": until, "note": note}
            key = connection.execute(insert(changes), values).inserted_primary_key
            assert key is not None
            return int(key[0])

    def changes(self) -> list[Change]:
        """Return every announced change, oldest first."""
        with self._engine().connect() as connection:
            return [Change(*row) for row in connection.execute(select(changes).order_by(changes.c.since))]
