"""Conversion between the monitor's objects and their table rows: windows, references, alarms, notices."""

import struct
from collections.abc import Iterable
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Row, insert

from speechpipe.foundation.stats.sketch import Distribution
from speechpipe.foundation.storage.schema import windows
from speechpipe.monitor.alarms import Alarm, Condition, Transition
from speechpipe.monitor.reference import Reference
from speechpipe.monitor.windows import Group, Window

_LENGTH = struct.Struct("<I")


def insert_windows(connection: Connection, found: Iterable[Window]) -> None:
    """Insert windows, in the caller's transaction."""
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
            "units": window.units,
            "payload": payload_of(window),
        }
        for window in found
    ]
    if rows:
        connection.execute(insert(windows), rows)


def payload_of(window: Window) -> bytes:
    """Return a window's metrics and counts as bytes for its `payload` column."""
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


def window_of(row: Row[Any]) -> Window:
    """Return the window of a table row."""
    group = Group(row.tenant_class, row.tenant, row.channel, row.bundle, row.arm)
    return _read_payload(Window(row.start, group, row.width_s), row.payload)


def reference_of(row: Row[Any]) -> Reference:
    """Return the reference of a table row."""
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


def alarm_row(alarm: Alarm) -> dict[str, Any]:
    """Return the table row of an alarm."""
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
        "gone_at": alarm.gone_at,
        "since": condition.since,
        "incident": alarm.incident,
    }


def notice_row(change: Transition, sink: str, due_at: float) -> dict[str, Any]:
    """Return the table row of a notice about a transition."""
    alarm = change.alarm
    at = alarm.firing_at if change.event == "firing" else alarm.resolved_at
    return {
        "alarm_id": alarm.id,
        "event": change.event,
        "sink": sink,
        "state": "due",
        "created_at": at,
        "due_at": due_at if change.event == "firing" else at,
        "tries": 0,
        "claimed_by": "",
        "claimed_until": 0.0,
        "told_at": None,
        "failure": "",
    }


def of_group(group: Group) -> list[ColumnElement[bool]]:
    """Return the SQL conditions that select the windows of a group."""
    return [windows.c[name] == value for name, value in group._asdict().items()]


def alarm_of(row: Row[Any]) -> Alarm:
    """Return the alarm of a table row."""
    condition = Condition(
        rule=row.rule,
        metric=row.metric,
        stage=row.stage,
        severity=row.severity,
        group=row.group_label,
        reason=row.reason,
        value=row.value,
        expected=row.expected,
        since=row.since,
    )
    return Alarm(
        id=row.id,
        condition=condition,
        state=row.state,
        pending_at=row.pending_at,
        firing_at=row.firing_at,
        resolved_at=row.resolved_at,
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
        blame=row.blame,
        gone_at=row.gone_at,
        incident=row.incident,
    )
