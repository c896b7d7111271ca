"""Prometheus rules and a Grafana dashboard for the catalogue's metrics; `ops/` is generated from them."""

from collections.abc import Mapping
from typing import Any

from speechpipe.monitor.spec import CascadeSpec, Direction, Metric, Severity
from speechpipe.serving.telemetry.cascade_metrics import UNDECODABLE

PERIOD = "15m"


def _share(part: str, total: str) -> str:
    return f"sum(rate(speechpipe_{part}[{PERIOD}])) / sum(rate(speechpipe_{total}[{PERIOD}]))"


def _mean(histogram: str) -> str:
    return _share(f"{histogram}_sum", f"{histogram}_count")


def _median(histogram: str) -> str:
    """For a figure that can be negative, whose histogram has no sum."""
    return f"histogram_quantile(0.5, sum by (le) (rate(speechpipe_{histogram}_bucket[{PERIOD}])))"


def _outcome(cause: str) -> str:
    return _share(f'asr_transcripts_total{{outcome="{cause}"}}', "asr_transcripts_total")


EXPRESSIONS: Mapping[str, str] = {
    "input.level_dbfs": _median("input_level_dbfs"),
    "input.snr_db": _mean("input_snr_db"),
    "input.clipped_share": _share("input_clipped_sessions_total", "sessions_total"),
    "input.undecodable_share": _share(f'sessions_total{{outcome=~"{"|".join(UNDECODABLE)}"}}', "sessions_total"),
    "vad.trigger_rate": _mean("vad_triggers_per_minute"),
    "vad.segment_s": _mean("vad_segment_seconds"),
    "vad.speech_ratio": _mean("vad_speech_ratio"),
    "vad.no_trigger_share": _share("vad_no_trigger_sessions_total", "sessions_total"),
    "vad.cut_share": _share("vad_cut_segments_total", "vad_segments_total"),
    "asr.null_share": _share('asr_transcripts_total{outcome!="ok"}', "asr_transcripts_total"),
    "asr.timeout_share": _outcome("timeout"),
    "asr.crash_share": _outcome("worker_crash"),
    "asr.error_share": _outcome("error"),
    "asr.overload_share": _outcome("overload"),
    "asr.confidence": _mean("asr_confidence"),
    "software.asr_s": _mean("asr_wall_seconds"),
    "software.queue_s": _mean("asr_queue_seconds"),
    "software.endpoint_to_final_s": _mean("live_endpoint_to_final_seconds"),
    "software.loop_lag_s": "max(speechpipe_loop_lag_seconds)",
    "software.load_share": "max(speechpipe_live_busy_share)",
    "system.unbalanced_share": f"sum(rate(speechpipe_accounting_errors_total[{PERIOD}]))",
    "system.records_lost": f"sum(rate(speechpipe_records_lost_total[{PERIOD}]))",
}
"""PromQL of the metrics that `/metrics` exposes; the others are computed from the store."""


def alert_rules(spec: CascadeSpec) -> dict[str, Any]:
    """Return a Prometheus rule file: an alert for each metric that has a limit and an expression."""
    rules = [_rule(metric) for metric in spec.metrics if metric.limit is not None and metric.name in EXPRESSIONS]
    own = [
        _own("Down", 'up{job="speechpipe"} == 0', "2m", "page", "speechpipe cannot be scraped"),
        _own("StoreFailing", "speechpipe_store_failing == 1", "2m", "page", "records cannot be written to the store"),
        _own(
            "BackgroundTaskFailing",
            "speechpipe_background_task_failing == 1 or speechpipe_background_task_alive == 0",
            "10m",
            "investigate",
            "the background task {{ $labels.task }} keeps failing",
        ),
    ]
    return {"groups": [{"name": "speechpipe", "rules": [*own, *rules]}]}


def _own(name: str, expression: str, for_: str, severity: str, summary: str) -> dict[str, Any]:
    """Return a rule about the server itself, without a metric in the catalogue."""
    return {
        "alert": f"Speechpipe{name}",
        "expr": expression,
        "for": for_,
        "labels": {"severity": severity, "stage": "software"},
        "annotations": {"summary": summary},
    }


def _rule(metric: Metric) -> dict[str, Any]:
    sign = "<" if metric.direction is Direction.DOWN else ">"
    name = "".join(part.capitalize() for part in metric.name.replace(".", "_").split("_"))
    severity = "page" if metric.severity is Severity.PAGE else "investigate"
    return {
        "alert": f"Speechpipe{name}",
        "expr": f"{EXPRESSIONS[metric.name]} {sign} {metric.limit:g}",
        "for": "0m" if metric.limit == 0 else "5m",
        "labels": {"severity": severity, "stage": metric.stage},
        "annotations": {
            "summary": f"{metric.help}: {{{{ $value | humanize }}}}",
            "runbook": f"docs/runbook.md#{metric.name.replace('.', '')}",
        },
    }


def grafana_dashboard(spec: CascadeSpec) -> dict[str, Any]:
    """Return a Grafana dashboard: a row of panels for each stage."""
    panels: list[dict[str, Any]] = []
    y = 0
    for stage in spec.stages:
        shown = [metric for metric in spec.of_stage(stage.name) if metric.name in EXPRESSIONS]
        if not shown:
            continue
        place = {"x": 0, "y": y, "w": 24, "h": 1}
        panels.append({"id": len(panels) + 1, "type": "row", "title": stage.title, "gridPos": place, "panels": []})
        for index, metric in enumerate(shown):
            panels.append(_panel(metric, len(panels) + 1, {"x": index % 3 * 8, "y": y + 1 + index // 3 * 7}))
        y += 1 + -(-len(shown) // 3) * 7
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    return {
        "uid": "speechpipe",
        "title": "speechpipe",
        "schemaVersion": 39,
        "version": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }


def _panel(metric: Metric, number: int, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number,
        "type": "timeseries",
        "title": f"{metric.help} ({metric.unit})" if metric.unit else metric.help,
        "description": f"{metric.name}: catches {metric.catches}",
        "datasource": source,
        "gridPos": {**place, "w": 8, "h": 7},
        "targets": [{"refId": "A", "expr": EXPRESSIONS[metric.name], "datasource": source}],
        "fieldConfig": {"defaults": {"unit": {"s": "s", "dBFS": "dB", "dB": "dB"}.get(metric.unit, "none")}},
    }
