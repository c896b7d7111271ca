"""OpenTelemetry spans made from records: session -> vad, asr (one for each utterance). Needs the extra `otel`.

Spans are made after the session from its records and their times, so tracing costs the cascade only a queue. Names and
attributes follow the semantic conventions if there are any: `gen_ai.*` of
https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ for the recognizer, `error.type`, `session.id`.
The destination is configured by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, ...).
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from speechpipe.foundation.storage.record import Record

MOST_SESSIONS = 2_000
"""Most running sessions whose utterances are kept; above it the oldest session's are dropped."""

NS = 1_000_000_000


class Tracing:
    """Makes spans from records. `emit` may be called on any thread."""

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        """Send spans to `processor`; without one, by OTLP over HTTP in batches."""
        if processor is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            processor = BatchSpanProcessor(OTLPSpanExporter())
        self._provider = TracerProvider(resource=Resource.create({"service.name": "speechpipe"}))
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("speechpipe")
        self._units: OrderedDict[str, list[Record]] = OrderedDict()

    def emit(self, record: Record) -> None:
        """Take a record; a session's spans are made from its session record, which comes last."""
        if record.kind == "unit":
            self._units.setdefault(record.session_id, []).append(record)
            if len(self._units) > MOST_SESSIONS:
                self._units.popitem(last=False)
        elif record.kind == "session":
            self._session(record, self._units.pop(record.session_id, []))

    def close(self) -> None:
        """Send the remaining spans."""
        self._provider.shutdown()

    def _session(self, record: Record, units: list[Record]) -> None:
        end = record.at
        begin = end - _seconds(record, "software.wall_s")
        root = self._span("session", None, (begin, end), record, _common(record))
        context = trace.set_span_in_context(root)
        vad_s = _seconds(record, "vad.wall_s")
        attributes = {
            "speechpipe.cascade.vad.segments": record.measures.get("vad.segments"),
            "speechpipe.cascade.vad.speech_ratio": record.measures.get("vad.speech_ratio"),
            "speechpipe.version": record.versions.get("vad"),
        }
        # VAD works in many small steps; its span has their total duration, at the beginning of the session.
        self._span("vad", context, (begin, begin + vad_s), record, attributes).end(_ns(begin + vad_s))
        for unit in units:
            stop = unit.at
            start = stop - _seconds(unit, "asr.wall_s")
            self._span("asr transcription", context, (start, stop), unit, _recognizer(unit)).end(_ns(stop))
        root.end(_ns(end))

    def _span(
        self, name: str, context: Any, times: tuple[float, float], record: Record, attributes: Mapping[str, Any]
    ) -> trace.Span:
        known = {key: value for key, value in attributes.items() if value is not None}
        span = self._tracer.start_span(name, context, start_time=_ns(times[0]), attributes=known)
        if record.outcome not in ("ok", "empty", "withdrawn", "finished"):
            span.set_attribute("error.type", record.outcome)
            span.set_status(trace.StatusCode.ERROR, record.outcome)
        return span


def _common(record: Record) -> dict[str, Any]:
    return {
        "session.id": record.session_id,
        "speechpipe.channel": record.channel,
        "speechpipe.bundle": f"{record.bundle}@{record.bundle_version}",
        "speechpipe.arm": record.arm,
        "speechpipe.audio_s": record.measures.get("input.duration_s"),
        "speechpipe.level_dbfs": record.measures.get("input.level_dbfs"),
    }


def _recognizer(unit: Record) -> dict[str, Any]:
    name, _, version = unit.versions.get("asr", "").partition("@")
    return {
        "gen_ai.operation.name": "transcription",
        "gen_ai.request.model": name,
        "gen_ai.response.model": f"{name}@{version}",
        "gen_ai.output.type": "text",
        "gen_ai.response.id": unit.id,
        "speechpipe.segment_s": unit.measures.get("vad.segment_s"),
        "speechpipe.queue_s": unit.measures.get("asr.queue_s"),
        "speechpipe.confidence": unit.measures.get("asr.confidence"),
        "speechpipe.attempts": unit.measures.get("asr.attempts"),
        "speechpipe.outcome": unit.outcome,
    }


def _seconds(record: Record, name: str) -> float:
    value = record.measures.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _ns(at: float) -> int:
    return int(at * NS)
