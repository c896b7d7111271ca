"""Records of sessions, utterances and feedback, and the Prometheus rows that are computed from them."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from speechpipe.foundation.storage.record import Measure, Record
from speechpipe.monitor.exposition import CounterRow, HistogramRow, Read, Row
from speechpipe.serving.telemetry.endpoints import edge_confidence
from speechpipe.types import SAMPLE_RATE_HZ, AudioFeatures, Bundle, NullCause, SessionSummary, Utterance, Word

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
LATENCY_S = (0.01, 0.02, 0.04, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)
SEGMENT_S = (0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0)
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
PER_MINUTE = (0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0)
LEVELS_DBFS = (-80.0, -60.0, -50.0, -40.0, -35.0, -30.0, -25.0, -20.0, -15.0, -10.0, -5.0)
SNR_DB = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0)


UNKNOWN_WORDS = frozenset({"<unk>", "[unk]", "<unknown>", "[unknown]"})

NOTHING: Mapping[str, Measure] = {}


@dataclass(frozen=True, slots=True)
class Context:
    """The fields that all records of a session share."""

    session_id: str
    channel: str
    bundle: Bundle
    tenant: str = ""
    tenant_class: str = "consumer"
    arm: str = "champion"
    route: Mapping[str, Measure] = field(default_factory=dict)  # `route.*` measures of its experiment


@dataclass(frozen=True, slots=True)
class InputFacts:
    """Facts about the input besides its samples."""

    claimed_s: float | None = None
    bytes: int | None = None
    rate_hz: int | None = None
    channels: int | None = None
    codec: str = ""
    channel_correlation: float | None = None
    notices: int = 0
    decode_wall_s: float = 0.0


def utterance_record(
    context: Context, utterance: Utterance, at: float, more: Mapping[str, Measure] = NOTHING
) -> Record:
    """Return the record of one utterance, with `more` measures; `at` is in Unix seconds."""
    transcript, segment = utterance.transcript, utterance.segment
    speech_s = (segment.speech_end - segment.speech_start) / SAMPLE_RATE_HZ
    text = transcript.text
    measures: dict[str, Measure] = {
        "vad.start_s": segment.start / SAMPLE_RATE_HZ,
        "vad.segment_s": segment.duration_s,
        "vad.speech_s": speech_s,
        "vad.mean_probability": segment.mean_probability,
        "vad.cut": int(segment.cut),
        "asr.confidence": transcript.confidence,
        "asr.words": len(transcript.words),
        "asr.characters": len(text),
        "asr.words_per_s": len(transcript.words) / speech_s if speech_s else None,
        "asr.characters_per_s": len(text) / speech_s if speech_s else None,
        "asr.compression_ratio": compression_ratio(text),
        "asr.oov_share": unknown_share(transcript.words),
        "asr.edge_confidence": edge_confidence(transcript.words),
        "asr.queue_s": utterance.stats.queue_s,
        "asr.wall_s": utterance.stats.wall_s,
        "asr.cpu_s": utterance.stats.cpu_s,
        "asr.work_s": utterance.stats.work_s,
        "asr.spare_cpu_s": utterance.stats.spare_cpu_s,
        "asr.speculations": utterance.stats.speculations,
        "asr.speculated": int(utterance.stats.speculated),
        "asr.attempts": utterance.stats.attempts,
        "asr.recovered": int(transcript.recovered),
        **{f"asr.{name}": value for name, value in transcript.facts.items()},
        **_features(utterance.features),
        **more,
    }
    outcome = transcript.null_cause.value if transcript.null_cause is not None else "ok"
    return _record(context, "unit", utterance.id, outcome, at, measures)


def session_record(
    context: Context,
    summary: SessionSummary,
    facts: InputFacts,
    outcome: str,
    timing: tuple[float, float],
    more: Mapping[str, Measure] = NOTHING,
) -> Record:
    """Return the record of one session, with `more` measures; `timing` is (Unix seconds, wall seconds)."""
    accounting = summary.accounting
    duration_s = accounting.received / SAMPLE_RATE_HZ
    measures: dict[str, Measure] = {
        "software.wall_s": timing[1],
        "software.real_time_factor": timing[1] / duration_s if duration_s else None,
        "input.claimed_s": facts.claimed_s,
        "input.bytes": facts.bytes,
        "input.rate_hz": facts.rate_hz,
        "input.channels": facts.channels,
        "input.codec": facts.codec,
        "input.channel_correlation": facts.channel_correlation,
        "input.notices": facts.notices,
        "input.decode_wall_s": facts.decode_wall_s,
        **_features(summary.features),
        "vad.segments": summary.utterances,
        "vad.speech_s": summary.speech_s,
        "vad.speech_ratio": summary.speech_s / duration_s if duration_s else None,
        "vad.triggers_per_minute": summary.utterances * 60 / duration_s if duration_s else None,
        "vad.flips_per_minute": summary.flips * 60 / duration_s if duration_s else None,
        "vad.wall_s": summary.vad_wall_s,
        "vad.cpu_s": summary.vad_cpu_s,
        "asr.cpu_s": summary.asr_cpu_s,
        "asr.spare_cpu_s": summary.asr_spare_cpu_s,
        "asr.nulls": sum(summary.nulls.values()),
        "system.received_samples": accounting.received,
        "system.in_utterances_samples": accounting.in_utterances,
        "system.dropped_by_vad_samples": accounting.dropped_by_vad,
        "system.dropped_by_overload_samples": accounting.dropped_by_overload,
        "system.balanced": int(accounting.balanced),
        **more,
    }
    return _record(context, "session", context.session_id, outcome, timing[0], measures)


def refusal_record(context: Context, cause: str, size: int, at: float) -> Record:
    """Return the record of input that was refused before there was a session: an outcome and the size in bytes."""
    return _record(context, "session", context.session_id, cause, at, {"input.bytes": size})


def _record(context: Context, kind: str, id_: str, outcome: str, at: float, measures: dict[str, Measure]) -> Record:
    bundle = context.bundle
    return Record(
        kind=kind,
        id=id_,
        session_id=context.session_id,
        at=at,
        channel=context.channel,
        bundle=bundle.name,
        bundle_version=bundle.version,
        outcome=outcome,
        tenant=context.tenant,
        tenant_class=context.tenant_class,
        arm=context.arm,
        versions={
            "vad": f"{bundle.vad.name}@{bundle.vad.version}",
            "asr": f"{bundle.asr.name}@{bundle.asr.version}",
        },
        measures={**measures, **context.route},
    )


def _features(features: AudioFeatures) -> dict[str, Measure]:
    return {
        "input.duration_s": features.duration_s,
        "input.level_dbfs": features.level_dbfs,
        "input.peak_dbfs": features.peak_dbfs,
        "input.clipped_share": features.clipped_share,
        "input.zero_run_share": features.zero_run_share,
        "input.dc_offset": features.dc_offset,
        "input.snr_db": features.snr_db,
        "input.bandwidth_hz": features.bandwidth_hz,
        "input.high_band_share": features.high_band_share,
        "input.stretches": features.stretches,
    }


def compression_ratio(text: str) -> float | None:
    """Return UTF-8 bytes divided by zlib bytes (Whisper's measure of repetition); None for an empty text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else None


def unknown_share(words: Sequence[Word]) -> float | None:
    """Return the share of unknown-word tokens; None without words."""
    return sum(word.text.lower() in UNKNOWN_WORDS for word in words) / len(words) if words else None


def churn(partial: str, final: str) -> float | None:
    """Return the share of a partial result's words that the final result changed; None without a partial result."""
    before, after = partial.split(), final.split()
    if not before:
        return None
    same = sum(a == b for a, b in zip(before, after, strict=False))
    return 1 - same / len(before)


def feedback_record(of: Record, kind: str, id_: str, at: float, more: Mapping[str, Measure] = NOTHING) -> Record:
    """Return the record of a user's feedback on the utterance or session `of`, with the same group and versions."""
    route = {name: value for name, value in of.measures.items() if name.startswith("route.")}
    return replace(of, kind="feedback", id=id_, at=at, outcome=kind, measures={**route, **more})


def _number(record: Record, name: str) -> float | None:
    value = record.measures.get(name)
    return float(value) if isinstance(value, int | float) else None


def _of(name: str) -> Read:
    return lambda record: _number(record, name)


def _one(_: Record) -> float:
    return 1.0


ROWS: tuple[Row, ...] = (
    CounterRow(
        "sessions_total",
        "Sessions by outcome.",
        "session",
        _one,
        ("outcome",),
        lambda record: (record.outcome,),
        (("ok",), ("undecodable_audio",)),
    ),
    CounterRow("audio_seconds_total", "Audio received.", "session", _of("input.duration_s")),
    HistogramRow("session_wall_seconds", "Wall time of a session.", "session", _of("software.wall_s"), SECONDS),
    HistogramRow(
        "input_decode_seconds",
        "Wall time of decoding and resampling a session.",
        "session",
        _of("input.decode_wall_s"),
        SECONDS,
    ),
    HistogramRow("input_level_dbfs", "Level of a session.", "session", _of("input.level_dbfs"), LEVELS_DBFS),
    HistogramRow("input_snr_db", "Estimated signal-to-noise ratio.", "session", _of("input.snr_db"), SNR_DB),
    CounterRow(
        "input_clipped_sessions_total",
        "Sessions with more than 0.1 % of their samples at full scale.",
        "session",
        lambda record: float((_number(record, "input.clipped_share") or 0.0) > 0.001),
    ),
    CounterRow("vad_segments_total", "Segments that VAD opened.", "session", _of("vad.segments")),
    CounterRow("vad_speech_seconds_total", "Audio that VAD scored as speech.", "session", _of("vad.speech_s")),
    CounterRow(
        "vad_no_trigger_sessions_total",
        "Sessions without a single segment.",
        "session",
        lambda record: float(record.measures.get("vad.segments") == 0),
    ),
    CounterRow("vad_cut_segments_total", "Segments cut at the maximum length.", "unit", _of("vad.cut")),
    HistogramRow(
        "vad_triggers_per_minute",
        "Segments per minute of audio.",
        "session",
        _of("vad.triggers_per_minute"),
        PER_MINUTE,
    ),
    HistogramRow("vad_speech_ratio", "Share of a session that is speech.", "session", _of("vad.speech_ratio"), SHARES),
    HistogramRow("vad_segment_seconds", "Length of a segment as fed.", "unit", _of("vad.segment_s"), SEGMENT_S),
    HistogramRow("vad_wall_seconds", "Wall time of VAD for a session.", "session", _of("vad.wall_s"), SECONDS),
    CounterRow(
        "asr_transcripts_total",
        "Final results of segments; outcome is ok or the null cause.",
        "unit",
        _one,
        ("outcome",),
        lambda record: (record.outcome,),
        (("ok",), *((cause.value,) for cause in NullCause)),
    ),
    CounterRow("asr_words_total", "Words recognised.", "unit", _of("asr.words")),
    CounterRow("asr_cpu_seconds_total", "CPU time of recognizers.", "unit", _of("asr.cpu_s")),
    CounterRow(
        "asr_spare_cpu_seconds_total",
        "Part of it: partial results, and speculative decodes in vain.",
        "unit",
        _of("asr.spare_cpu_s"),
    ),
    CounterRow(
        "asr_speculations_total",
        "Decodes in a pause, in case the speech has ended.",
        "unit",
        _of("asr.speculations"),
    ),
    CounterRow(
        "asr_speculations_used_total",
        "Speculative decodes that became the final text.",
        "unit",
        _of("asr.speculated"),
    ),
    CounterRow(
        "asr_speculations_wasted_total",
        "Speculative decodes in vain, because the speech went on.",
        "unit",
        lambda record: (_number(record, "asr.speculations") or 0.0) - (_number(record, "asr.speculated") or 0.0),
    ),
    CounterRow(
        "asr_refed_segments_total",
        "Segments that needed more than one worker.",
        "unit",
        lambda record: float((_number(record, "asr.attempts") or 0) > 1),
    ),
    CounterRow(
        "asr_recovered_segments_total",
        "Segments whose last recognizer pass failed; the text is from the previous pass.",
        "unit",
        _of("asr.recovered"),
    ),
    CounterRow(
        "asr_decodes_again_total",
        "Decodes of segments whose first text was doubtful: it repeated itself, or words may have been a neighbour's.",
        "unit",
        _of("asr.again"),
    ),
    CounterRow(
        "asr_shortened_segments_total",
        "Segments whose text had no end and was cut where it began to repeat itself.",
        "unit",
        _of("asr.shortened"),
    ),
    HistogramRow("asr_confidence", "Confidence of a transcript.", "unit", _of("asr.confidence"), SHARES),
    HistogramRow("asr_queue_seconds", "Wait for a recognizer.", "unit", _of("asr.queue_s"), SECONDS),
    HistogramRow("asr_wall_seconds", "Wall time on a recognizer.", "unit", _of("asr.wall_s"), SECONDS),
    HistogramRow(
        "live_endpoint_to_final_seconds",
        "From the decision that a segment has ended to its text.",
        "unit",
        _of("live.endpoint_to_final_s"),
        LATENCY_S,
    ),
    HistogramRow(
        "live_partial_lag_seconds",
        "Received audio that a partial result does not cover yet; the maximum of each segment.",
        "unit",
        _of("live.partial_lag_s"),
        LATENCY_S,
    ),
    CounterRow("live_partials_total", "Partial results.", "session", _of("live.partials")),
    CounterRow(
        "accounting_errors_total",
        "Sessions whose samples do not add up; always 0.",
        "session",
        lambda record: float(record.measures.get("system.balanced") == 0),
    ),
)
