"""What the monitor keeps beside the records: windows, references, alarms, announced changes, how far it has read."""

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, Row, delete, insert, or_, select, update

from speechpipe.monitor.alarms import Alarm, Condition
from speechpipe.monitor.calendar import Change
from speechpipe.monitor.reference import Reference
from speechpipe.monitor.schema import alarms, changes, cursors, pinned, windows
from speechpipe.monitor.sketch import Distribution
from speechpipe.monitor.windows import Group, Window, merged

CURSOR = "monitor"
COARSE_S = 900
_LENGTH = struct.Struct("<I")


class Archive:
    """Thread-safe as the database is. `engine` is asked for each time: a store may come back."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    # ---- following the records ----

    def cursor(self) -> tuple[int, dict[str, Any]]:
        """Return the number of the last record that was taken into account, and the detectors' state."""
        with self._engine().connect() as connection:
            row = connection.execute(select(cursors).where(cursors.c.name == CURSOR)).first()
        return (int(row.seq), orjson.loads(row.state)) if row is not None else (0, {})

    def commit(self, before: int, after: int, found: Iterable[Window], state: dict[str, Any]) -> bool:
        """Write windows and move on from record `before` to `after`, both or neither.

        Returns False if another process has moved on meanwhile: then nothing was written.
        """
        body = orjson.dumps(state)
        with self._engine().begin() as connection:
            moved = connection.execute(
                update(cursors).where(cursors.c.name == CURSOR, cursors.c.seq == before).values(seq=after, state=body)
            ).rowcount
            if not moved:
                if before or connection.execute(select(cursors.c.seq).where(cursors.c.name == CURSOR)).first():
                    return False
                connection.execute(insert(cursors), {"name": CURSOR, "seq": after, "state": body})
            _insert_windows(connection, found)
        return True

    def windows(self, since: float, until: float) -> list[Window]:
        """Return all windows that begin in that time, in order."""
        query = select(windows).where(windows.c.start >= since, windows.c.start < until).order_by(windows.c.start)
        with self._engine().connect() as connection:
            return [_window(row) for row in connection.execute(query)]

    def compact(self, before: float) -> int:
        """Put windows from before that time together, in quarters of an hour; return how many rows that saved."""
        old = windows.c.start < before // COARSE_S * COARSE_S, windows.c.width_s < COARSE_S
        with self._engine().begin() as connection:
            rows = connection.execute(select(windows).where(*old).order_by(windows.c.start)).all()
            coarse = merged((_window(row) for row in rows), COARSE_S)
            if rows:
                connection.execute(delete(windows).where(windows.c.id.in_([row.id for row in rows])))
                _insert_windows(connection, coarse)
        return len(rows) - len(coarse)

    def expire(self, before: float) -> int:
        """Delete windows and resolved alarms from before that time; return how many windows."""
        with self._engine().begin() as connection:
            connection.execute(delete(alarms).where(alarms.c.resolved_at < before))
            return connection.execute(delete(windows).where(windows.c.start < before)).rowcount

    # ---- references ----

    def references(self) -> list[Reference]:
        """Return all references, the oldest first."""
        with self._engine().connect() as connection:
            return [_reference(row) for row in connection.execute(select(pinned).order_by(pinned.c.id))]

    def reference_states(self) -> tuple[tuple[int, str], ...]:
        """Return (number, status) of all references: cheap, to see whether anything has changed."""
        with self._engine().connect() as connection:
            rows = connection.execute(select(pinned.c.id, pinned.c.status).order_by(pinned.c.id))
            return tuple((row.id, row.status) for row in rows)

    def propose(self, reference: Reference) -> int:
        """Write a proposal; return its number."""
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
            "payload": _payload(reference.window),
        }
        with self._engine().begin() as connection:
            key = connection.execute(insert(pinned), values).inserted_primary_key
            assert key is not None
            return int(key[0])

    def approve(self, number: int, by: str, now: float) -> Reference:
        """Pin a proposal and retire what was pinned for the same group.

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

    def save(self, changed: Sequence[Alarm]) -> None:
        """Write alarms as they are now."""
        with self._engine().begin() as connection:
            for alarm in changed:
                connection.execute(delete(alarms).where(alarms.c.id == alarm.id))
                connection.execute(insert(alarms), _alarm_row(alarm))

    def alarms(self, since: float | None = None) -> list[Alarm]:
        """Return open alarms, and with `since` those that were resolved after it; the newest first."""
        condition = alarms.c.state != "resolved"
        if since is not None:
            condition = or_(condition, alarms.c.resolved_at >= since)
        with self._engine().connect() as connection:
            rows = connection.execute(select(alarms).where(condition).order_by(alarms.c.pending_at.desc()))
            return [_alarm(row) for row in rows]

    # ---- announced changes ----

    def announce(self, tenant: str, since: float, until: float, note: str) -> int:
        """Write down that a tenant's data (everybody's, if empty) is about to change; return its number."""
        with self._engine().begin() as connection:
            values = {"tenant": tenant, "since": since, "until": until, "note": note}
            key = connection.execute(insert(changes), values).inserted_primary_key
            assert key is not None
            return int(key[0])

    def changes(self) -> list[Change]:
        """Return every announced change."""
        with self._engine().connect() as connection:
            return [Change(*row) for row in connection.execute(select(changes).order_by(changes.c.since))]


def _insert_windows(connection: Connection, found: Iterable[Window]) -> None:
    rows = [
        {
            "start": window.start,
            "width_s": window.width_s,
            "tenant_class": window.group.tenant_class,
            "tenant": window.group.tenant,
            "channel": window.group.channel,
            "bundle": window.group.bundle,
            "arm": window.group.arm,
            "records": window.records,
            "payload": _payload(window),
        }
        for window in found
    ]
    if rows:
        connection.execute(insert(windows), rows)


def _payload(window: Window) -> bytes:
    head = orjson.dumps(
        {
            "outcomes": window.outcomes,
            "metrics": list(window.metrics),
            "records": window.records,
            "sessions": window.sessions,
        }
    )
    return b"".join([_LENGTH.pack(len(head)), head, *(metric.dump() for metric in window.metrics.values())])


def _read_payload(window: Window, payload: bytes) -> Window:
    data = memoryview(payload)
    (length,) = _LENGTH.unpack_from(data)
    head = orjson.loads(data[_LENGTH.size : _LENGTH.size + length])
    data = data[_LENGTH.size + length :]
    window.outcomes, window.records, window.sessions = head["outcomes"], head["records"], head["sessions"]
    for name in head["metrics"]:
        window.metrics[name], data = Distribution.load(data)
    return window


def _window(row: Row[Any]) -> Window:
    group = Group(row.tenant_class, row.tenant, row.channel, row.bundle, row.arm)
    return _read_payload(Window(row.start, group, row.width_s), row.payload)


def _reference(row: Row[Any]) -> Reference:
    group = Group(row.tenant_class, row.tenant, row.channel, row.bundle, row.arm)
    return Reference(
        id=row.id,
        group=group,
        since=row.since,
        until=row.until,
        created_at=row.created_at,
        status=row.status,
        window=_read_payload(Window(0, group, 0), row.payload),
        approved_at=row.approved_at,
        approved_by=row.approved_by,
    )


def _alarm_row(alarm: Alarm) -> dict[str, Any]:
    condition = alarm.condition
    return {
        "id": alarm.id,
        "fingerprint": condition.fingerprint,
        "rule": condition.rule,
        "metric": condition.metric,
        "stage": condition.stage,
        "severity": condition.severity,
        "group_label": condition.group,
        "state": alarm.state,
        "reason": condition.reason,
        "value": condition.value,
        "expected": condition.expected,
        "pending_at": alarm.pending_at,
        "firing_at": alarm.firing_at,
        "resolved_at": alarm.resolved_at,
        "acknowledged_at": alarm.acknowledged_at,
        "acknowledged_by": alarm.acknowledged_by,
        "blame": alarm.blame,
    }


def _alarm(row: Row[Any]) -> Alarm:
    condition = Condition(
        rule=row.rule,
        metric=row.metric,
        stage=row.stage,
        severity=row.severity,
        group=row.group_label,
        reason=row.reason,
        value=row.value,
        expected=row.expected,
    )
    return Alarm(
        id=row.id,
        condition=condition,
        state=row.state,
        pending_at=row.pending_at,
        seen_at=row.resolved_at or row.firing_at or row.pending_at,
        firing_at=row.firing_at,
        resolved_at=row.resolved_at,
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
        blame=row.blame,
    )
