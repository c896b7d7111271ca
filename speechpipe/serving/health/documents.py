"""The health report as plain data, for `GET /v1/health/report` and the pages."""

import math
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from speechpipe.monitor.alarms import Alarm
from speechpipe.monitor.concerned import Concerned
from speechpipe.monitor.incidents import UNDATED_S, Incident, incidents
from speechpipe.monitor.reference import Progress, Reference
from speechpipe.monitor.report import MetricRow, Report, StageRow
from speechpipe.monitor.seasons import Season

BEFORE = timedelta(minutes=10)
"""Time before an incident that the command to look at it takes along, for comparison."""

ACCOUNTING = ("received_s", "in_utterances_s", "dropped_by_vad_s", "dropped_by_overload_s")


def document(report: Report, people: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the report as plain data; times are Unix seconds, shares 0..1, None means unknown.

    `people`: the review figures of the period (`control/review/documents.py`), if there are reviews.
    """
    facts = report.facts
    missing = report.metric("input.missing_share")
    lost = report.metric("system.records_lost")
    return {
        "cascade": report.cascade,
        "since": facts.since,
        "until": facts.until,
        "verdict": report.grade.label,
        "filters": {
            "tenant_class": facts.filters.tenant_class,
            "channel": facts.filters.channel,
            "bundle": facts.filters.bundle,
            "arm": facts.filters.arm,
        },
        "traffic": {
            "sessions": report.sessions,
            "utterances": report.units,
            "audio_s": _value(report, "software.audio_s", facts.until - facts.since),
        },
        "nulls": {
            "share": 1 - report.outcomes.get("ok", 0) / report.units if report.units else None,
            "by_cause": {name: count for name, count in report.outcomes.items() if name != "ok"},
        },
        "missing_input": {"share": missing.value if missing else None},
        "accounting": accounting(report),
        "server": dict(facts.server),
        "people": dict(people) if people is not None else None,
        "records_lost": lost.value if lost else None,
        "stages": [_stage(row) for row in report.stages],
        "incidents": [incident(item, facts.concerned.get(item.id, Concerned())) for item in incidents(facts.alarms)],
        "alarms": [alarm(item) for item in facts.alarms],
        "changes": [{"at": item.at, "text": item.text} for item in facts.changes],
        "blame": [
            {"at": item.at, "group": item.group._asdict(), "group_label": item.group.label, **item.document}
            for item in facts.verdicts
        ],
        "bundles": _bundles(report),
        "groups": [group._asdict() for group in report.groups],
        "without_reference": [group._asdict() for group in report.without_reference],
        "references": {
            "pinned": [reference(item) for item in facts.references.values()],
            "proposed": [reference(item) for item in facts.proposals],
            "progress": [progress(item) for item in facts.progress],
            "seasons": [
                _season(item, facts.seasons[item.id]) for item in facts.references.values() if item.id in facts.seasons
            ],
        },
        "distributions": _distributions(report),
    }


def _bundles(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "bundle": row.bundle,
            "arm": row.arm,
            "sessions": row.sessions,
            "utterances": row.units,
            "share": row.units / report.units if report.units else None,
            "null_share": row.null_share,
            "metrics": {name: _finite(value) for name, value in row.values.items()},
        }
        for row in report.bundles
    ]


def _distributions(report: Report) -> list[dict[str, Any]]:
    return [
        {"metric": row.name, "edges": row.edges, "now": row.now, "reference": row.reference}
        for row in report.distributions
    ]


def accounting(report: Report) -> dict[str, float | bool | None]:
    """Return the accounting, in seconds, of sessions that ended in the period, and whether it is balanced."""
    sums = {name: _value(report, f"system.{name}", 1.0) for name in ACCOUNTING}
    unbalanced = report.metric("system.unbalanced_share")
    balanced = None if unbalanced is None or unbalanced.value is None else unbalanced.value == 0
    return {**sums, "balanced": balanced}


def _value(report: Report, name: str, times: float) -> float | None:
    row = report.metric(name)
    return None if row is None or row.value is None else row.value * times


def _stage(row: StageRow) -> dict[str, Any]:
    return {
        "name": row.stage.name,
        "title": row.stage.title,
        "parents": list(row.stage.parents),
        "verdict": row.grade.label,
        "reasons": list(row.reasons),
        "metrics": [_metric(metric) for metric in row.metrics],
    }


def _metric(row: MetricRow) -> dict[str, Any]:
    metric = row.metric
    p50, p95, p99 = row.quantiles or (None, None, None)
    return {
        "name": metric.name,
        "unit": metric.unit,
        "help": metric.help,
        "catches": metric.catches,
        "key": metric.key,
        "verdict": row.grade.label,
        "count": row.count,
        "value": _finite(row.value),
        "p50": p50,
        "p95": p95,
        "p99": p99,
        "reference": _finite(row.expected),
        "rests_on": row.rests_on or None,
        "band": row.band,
        "limit": metric.limit,
        "drift": {
            "psi": row.drift.psi,
            "jensen_shannon": row.drift.jensen_shannon,
            "wasserstein": row.drift.wasserstein,
        },
        "reasons": list(row.reasons),
        "series": [[point.at, _finite(point.value), point.count] for point in row.series],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def alarm(item: Alarm) -> dict[str, Any]:
    """Return an alarm as plain data."""
    condition = item.condition
    return {
        "id": item.id,
        "state": item.state,
        "severity": condition.severity,
        "stage": condition.stage,
        "metric": condition.metric,
        "rule": condition.rule,
        "group": condition.group,
        "reason": condition.reason,
        "value": _finite(condition.value),
        "expected": _finite(condition.expected),
        "pending_at": item.pending_at,
        "firing_at": item.firing_at,
        "resolved_at": item.resolved_at,
        "blame": item.blame or None,
        "since": condition.since,
        "incident": item.incident or None,
        "acknowledged_at": item.acknowledged_at,
        "acknowledged_by": item.acknowledged_by,
        "runbook": _runbook(item),
    }


def _runbook(item: Alarm) -> str:
    return f"docs/runbook.md#{item.condition.metric.replace('.', '')}"


def _look(item: Incident, tenant: str) -> str:
    """Return the command that looks at an incident, whenever it is typed; with a tenant, at that tenant's traffic."""
    whose = f" --tenant {shlex.quote(tenant)}" if tenant else ""
    since = datetime.fromtimestamp(item.since if item.is_dated else item.since - UNDATED_S, UTC)
    if (ended_at := item.ended_at) is None:
        return f"speechpipe blame --since {since - BEFORE:%Y-%m-%dT%H:%M}{whose}"
    until = datetime.fromtimestamp(ended_at, UTC)
    return f"speechpipe blame --window {since:%Y-%m-%dT%H:%M:%S} {until:%Y-%m-%dT%H:%M:%S}{whose}"


def incident(item: Incident, sessions: Concerned) -> dict[str, Any]:
    """Return an incident as plain data, with the sessions that it concerns, as far as that is known."""
    return {
        "id": item.id,
        "state": "firing" if item.resolved_at is None else "resolved",
        "severity": item.severity,
        "reason": item.first.condition.reason,
        "group": item.first.condition.group,
        "groups": list(item.groups),
        "since": item.since,
        "firing_at": item.firing_at,
        "resolved_at": item.resolved_at,
        "blame": item.blame or None,
        "alarms": [alarm.id for alarm in item.alarms],
        "metrics": list(dict.fromkeys(alarm.condition.metric for alarm in item.alarms)),
        "sessions": list(sessions.examples),
        "concerned": None if not sessions.sessions else {"sessions": sessions.sessions, "of": sessions.of},
        "tenants": [{"name": one.name, "sessions": one.sessions, "of": one.of} for one in sessions.tenants],
        "look": _look(item, sessions.tenant),
        "runbook": _runbook(item.first),
        "acknowledged": all(
            alarm.acknowledged_at is not None for alarm in item.alarms if alarm.is_open or item.resolved_at is not None
        ),
    }


def _season(item: Reference, season: Season) -> dict[str, Any]:
    return {
        "reference": item.id,
        "group_label": item.group.label,
        "about": season.about,
        "days": season.days,
        "since": season.since,
        "until": season.until,
        "metrics": sorted(season.rhythms),
    }


def reference(item: Reference) -> dict[str, Any]:
    """Return a reference as plain data."""
    return {
        "id": item.id,
        "group": item.group._asdict(),
        "status": item.status,
        "since": item.since,
        "until": item.until,
        "utterances": item.units,
        "records": item.window.records,
        "approved_at": item.approved_at,
        "approved_by": item.approved_by,
    }


def progress(item: Progress) -> dict[str, Any]:
    """Return a group's progress towards its first reference as plain data."""
    return {
        "group": item.group._asdict(),
        "group_label": item.group.label,
        "utterances": item.units,
        "needed": item.needed,
        "hindered_by": item.hindered_by,
    }


def progress_text(item: Mapping[str, Any]) -> str:
    """Return what `progress` returned in words."""
    said = f"{item['utterances']} of {item['needed']} utterances"
    if item["hindered_by"]:
        said += f", which count from when {item['hindered_by']} is within its limit"
    return said
