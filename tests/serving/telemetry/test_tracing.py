"""Spans out of records."""

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from speechpipe.foundation.storage.record import Record
from speechpipe.serving.telemetry.tracing import MOST_SESSIONS, Tracing


def record(kind: str, id_: str, at: float, outcome: str = "ok", session: str = "s", **measures: float) -> Record:
    named = {name.replace("__", "."): value for name, value in measures.items()}
    versions = {"vad": "silero@6", "asr": "pocketsphinx@5"}
    return Record(kind, id_, session, at, "upload", "default", "1", outcome, versions=versions, measures=named)


def test_a_session_is_a_trace_of_its_stages_with_the_times_of_the_records() -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter))
    tracing.emit(record("unit", "s-0", 102.0, asr__wall_s=1.5))
    tracing.emit(record("unit", "s-1", 104.0, "timeout", asr__wall_s=1.0))
    assert exporter.get_finished_spans() == ()
    tracing.emit(record("session", "s", 105.0, software__wall_s=5.0, vad__wall_s=0.25, input__duration_s=30.0))
    spans = exporter.get_finished_spans()
    by_name = {span.name: span for span in spans}
    root = by_name["session"]
    assert [span.name for span in spans] == ["vad", "asr transcription", "asr transcription", "session"]
    assert len({span.context.trace_id for span in spans if span.context is not None}) == 1
    assert all(span.parent is not None for span in spans if span is not root)
    assert (root.start_time, root.end_time) == (100 * 10**9, 105 * 10**9)
    first, failed = (span for span in spans if span.name == "asr transcription")
    assert (first.start_time, first.end_time) == (int(100.5 * 10**9), 102 * 10**9)
    assert first.attributes is not None
    assert first.attributes["gen_ai.request.model"] == "pocketsphinx"
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "timeout"


def test_sessions_that_never_end_are_forgotten() -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter))
    for number in range(MOST_SESSIONS + 10):
        tracing.emit(record("unit", f"{number}-0", 1.0, session=str(number)))
    for number, spans in ((9, 2), (10, 3)):  # only the newest sessions still have what was heard in them
        exporter.clear()
        tracing.emit(record("session", f"session {number}", 1.0, session=str(number)))
        assert len(exporter.get_finished_spans()) == spans


def test_a_collector_that_is_not_there_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    tracing = Tracing()
    for number in range(100):
        tracing.emit(record("session", str(number), 1.0, session=str(number)))
    tracing.close()
