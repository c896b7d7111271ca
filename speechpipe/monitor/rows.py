"""Rows of the monitor's tables as objects, and back: windows, references, alarms, notices."""

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
    """Write windows, on a connection whose transaction is the caller's."""
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
    """Return what is stored of a window."""
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
    """Return the window of a row of its table."""
    group = Group(row.tenant_class, row.tenant, row.channel, row.bundle, row.arm)
    return _read_payload(Window(row.start, group, row.width_s), row.payload)


def reference_of(row: Row[Any]) -> Reference:
    """Return the reference of a row of its table."""
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
    """Return an alarm as its table has it."""
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
    }


def notice_row(change: Transition, sink: str, due_at: float) -> dict[str, Any]:
    """Return the notice that a sink is to be told of a transition."""
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
    """Return the conditions that a window is of a group."""
    return [windows.c[name] == value for name, value in group._asdict().items()]


def alarm_of(row: Row[Any]) -> Alarm:
    """Return the alarm of a row of its table."""
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
        firing_at=row.firing_at,
        resolved_at=row.resolved_at,
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
        blame=row.blame,
        gone_at=row.gone_at,
    )
