"""The specification of the speech cascade for the monitor: its stages and the catalogue of metrics.

A new metric is one row here and a section in `docs/runbook.md` (a test checks it).
"""

from collections.abc import Sequence

from speechpipe.foundation.storage.record import Measure, Record
from speechpipe.monitor.spec import CascadeSpec, Direction, Metric, MetricKind, Read, Severity, Stage
from speechpipe.types import SAMPLE_RATE_HZ

STAGES = (
    Stage("input", "Input"),
    Stage("vad", "VAD", ("input",)),
    Stage("asr", "Recognizer", ("input", "vad")),
    Stage("people", "People", ("asr",), blame="client"),
    Stage("software", "Software", served=False, blame="infra"),
    Stage("system", "Bookkeeping", served=False, blame="infra"),
)

CLIPPED = 0.001
REPEATED = 2.4
STALLED_S = 10.0
"""Compression ratio above which a text counts as repetitive; Whisper's default."""

UNDECODABLE = (
    "undecodable_audio",
    "undecodable_track",
    "empty_file",
    "no_samples",
    "unsupported_channels",
    "unsupported_sample_rate",
    "audio_too_long",
)
"""Outcomes of sessions whose audio could not be used."""

HEADER_TOLERANCE_S = 0.5
LEAST_CPU_S = 0.01
OVERDUE = 10.0
LATE_S = 2.0
"""Seconds after which a person who waits for a text thinks that something is wrong (Miller, AFIPS 1968)."""

EXPECTED_FIELDS = ("input.snr_db", "input.rate_hz", "input.channels")


def _of(name: str) -> Read:
    def read(record: Record) -> float | None:
        value = record.measures.get(name)
        return float(value) if isinstance(value, int | float) else None

    return read


def _seconds(name: str) -> Read:
    samples_of = _of(name)

    def read(record: Record) -> float | None:
        samples = samples_of(record)
        return None if samples is None else samples / SAMPLE_RATE_HZ

    return read


def _above(name: str, limit: float) -> Read:
    value_of = _of(name)

    def read(record: Record) -> float | None:
        value = value_of(record)
        return None if value is None else float(value > limit)

    return read


def _null(*causes: str) -> Read:
    if not causes:
        return lambda record: float(record.outcome != "ok")
    return lambda record: float(record.outcome in causes)


def _feedback(kind: str) -> Read:
    """Read 0 from each utterance and 1 from each later feedback of this kind."""

    def read(record: Record) -> float | None:
        if record.kind == "unit":
            return 0.0
        return 1.0 if record.outcome == kind else None

    return read


def _undecodable(record: Record) -> float:
    return float(record.outcome in UNDECODABLE)


def _header_wrong(record: Record) -> float | None:
    claimed, real = _of("input.claimed_s")(record), _of("input.duration_s")(record)
    return None if claimed is None or real is None else float(abs(claimed - real) > HEADER_TOLERANCE_S)


def _missing(record: Record) -> float:
    return float(any(record.measures.get(name) is None for name in EXPECTED_FIELDS))


def _left(record: Record) -> float | None:
    """Read whether the client of an upload left before its answer. Live clients leave as they like."""
    return float(record.outcome == "client_gone") if record.channel == "upload" else None


def _heard(name: str) -> Read:
    """Read a measure of sessions whose audio was heard to its end: not of uploads whose clients have left."""
    value_of = _of(name)
    return lambda record: None if _left(record) else value_of(record)


def _silent(record: Record) -> float | None:
    segments = _heard("vad.segments")(record)
    return None if segments is None else float(segments == 0)


def _unbalanced(record: Record) -> float | None:
    balanced = _of("system.balanced")(record)
    return None if balanced is None else 1.0 - balanced


def _waited(record: Record) -> float | None:
    final = _of("live.endpoint_to_final_s")(record)
    queue, wall = _of("asr.queue_s")(record), _of("asr.wall_s")(record)
    if final is not None or wall is None:
        return final
    return wall + (queue or 0.0)


def _late(record: Record) -> float | None:
    waited = _waited(record)
    return None if waited is None else float(waited > LATE_S)


def _stretch(record: Record) -> float | None:
    # Without the time in which live audio was spoken, and with a segment's share only of what was decoded together.
    wall, cpu = _of("asr.work_s")(record) or _of("asr.wall_s")(record), _of("asr.cpu_s")(record)
    return None if wall is None or not cpu else wall / max(cpu, LEAST_CPU_S)


def _overdue(record: Record) -> float | None:
    stretch = _stretch(record)
    return None if stretch is None else float(stretch > OVERDUE)


def _live(name: str) -> Read:
    """Read a measure of live segments only."""
    value_of = _of(name)
    return lambda record: value_of(record) if "live.endpoint_to_final_s" in record.measures else None


def _missing_units(record: Record) -> float | None:
    segments, found = _heard("vad.segments")(record), _of("case.units")(record)
    return None if segments is None or found is None else float(found < segments)


def _joined(session: Record, units: Sequence[Record]) -> dict[str, Measure]:
    """Return measures that need all records of a session."""
    starts = [start for unit in units if (start := _of("vad.start_s")(unit)) is not None]
    return {
        "case.duplicates": float(len(set(starts)) < len(starts)),
        "case.disordered": float(starts != sorted(starts)),
        "case.skewed": float(any(unit.versions != session.versions for unit in units)),
        "case.canary": float(session.arm == "canary"),
    }


UP, DOWN, BOTH = Direction.UP, Direction.DOWN, Direction.BOTH
PAGE, LOOK, SHOWN = Severity.PAGE, Severity.INVESTIGATE, Severity.SHOWN
SHARE, SUM = MetricKind.SHARE, MetricKind.SUM

INPUT = (
    Metric("input.duration_s", "s", "length of a session", "clients that cut uploads short", "session", _of("input.duration_s"), severity=SHOWN, mix=True),
    Metric("input.stretches", "", "stretches of sound in a session, with half a second of quiet between them", "people who pause more, several utterances in a session", "session", _of("input.stretches"), severity=SHOWN, mix=True),
    Metric("input.level_dbfs", "dBFS", "level of the audio", "a microphone turned down, a wrong gain", "session", _of("input.level_dbfs"), key=True, least=3.0),
    Metric("input.snr_db", "dB", "signal-to-noise ratio", "noise, another room, another device", "session", _of("input.snr_db"), direction=DOWN, key=True, least=3.0),
    Metric("input.bandwidth_hz", "Hz", "bandwidth of the audio", "a telephone codec, 8 kHz sent as 16 kHz", "session", _of("input.bandwidth_hz"), least=300.0),
    Metric("input.high_band_share", "", "energy above 4 kHz", "narrow-band audio", "session", _of("input.high_band_share"), least=0.01),
    Metric("input.clipped_share", "", "share of sessions that clip", "overdriven microphones", "session", _above("input.clipped_share", CLIPPED), SHARE, UP),
    Metric("input.zero_run_share", "", "share of sessions with dropped audio", "lost frames, muted clients", "session", _above("input.zero_run_share", 0.05), SHARE, UP),
    Metric("input.dc_offset", "", "DC offset", "broken converters", "session", _of("input.dc_offset"), least=0.01),
    Metric("input.channel_correlation", "", "correlation of the channels", "channels that cancel each other", "session", _of("input.channel_correlation"), direction=DOWN, least=0.1),
    Metric("input.missing_share", "", "share of sessions with fields missing", "clients that send almost no audio", "session", _missing, SHARE, UP, key=True),
    Metric("input.undecodable_share", "", "share of input that cannot be decoded", "a broken encoder, a new format", "session", _undecodable, SHARE, UP, PAGE, key=True, limit=0.5),
    Metric("input.header_mismatch_share", "", "share of uploads shorter or longer than their header says", "truncated uploads", "session", _header_wrong, SHARE, UP),
)  # fmt: skip

VAD = (
    Metric("vad.trigger_rate", "1/min", "VAD trigger rate", "a threshold, weights or a state that is wrong", "session", _heard("vad.triggers_per_minute"), severity=PAGE, confirm=True, key=True, least=1.0),
    Metric("vad.segment_s", "s", "segment length", "padding, silence or cut settings that changed", "unit", _of("vad.segment_s"), severity=PAGE, confirm=True, key=True, least=0.2),
    Metric("vad.speech_ratio", "", "share of audio that is speech", "a VAD that drops speech or accepts noise", "session", _heard("vad.speech_ratio"), key=True, least=0.05),
    Metric("vad.no_trigger_share", "", "share of sessions without a segment", "a VAD that no longer detects speech", "session", _silent, SHARE, UP, PAGE, key=True, limit=0.95),
    Metric("vad.cut_share", "", "share of segments cut at the maximum", "a VAD that does not detect the end of speech", "unit", _of("vad.cut"), SHARE, UP),
    Metric("vad.mean_probability", "", "probability of speech inside segments", "a VAD with less certain scores", "unit", _of("vad.mean_probability"), direction=DOWN, least=0.02),
    Metric("vad.resumed_share", "", "share of segments that begin within 0.3 s after an endpoint", "endpoints that come too early and cut sentences in two", "unit", _of("live.resumed"), SHARE, UP, live=True),
    Metric("vad.endpoint_delay_s", "s", "end of speech to its endpoint", "another silence before endpoints, a VAD that lets go late", "unit", _of("live.endpoint_delay_s"), least=0.1, live=True),
    Metric("vad.unended_share", "", "share of live sessions that end within a segment", "endpoints that never come", "session", _of("live.unended"), SHARE, UP, live=True),
    Metric("vad.flips_per_minute", "1/min", "changes between speech and silence", "an unstable VAD score", "session", _heard("vad.flips_per_minute"), direction=UP, least=2.0),
)  # fmt: skip

ASR = (
    Metric("asr.null_share", "", "share of transcripts that are null", "any failure that leaves clients without a text", "unit", _null(), SHARE, UP, PAGE, key=True, limit=0.5),
    Metric("asr.empty_share", "", "share of transcripts that are empty", "noise taken for speech, a recognizer that finds no words", "unit", _null("empty", "withdrawn"), SHARE, UP),
    Metric("asr.timeout_share", "", "share of transcripts that timed out", "slow or starved workers", "unit", _null("timeout"), SHARE, UP, limit=0.2, blames="software"),
    Metric("asr.crash_share", "", "share of transcripts lost to crashed or missing workers", "a crashing library", "unit", _null("worker_crash", "worker_unavailable"), SHARE, UP, limit=0.05, blames="software"),
    Metric("asr.error_share", "", "share of transcripts that failed", "a broken model or bundle", "unit", _null("error"), SHARE, UP, limit=0.2),
    Metric("asr.overload_share", "", "share of transcripts given up under load", "too few workers", "unit", _null("overload"), SHARE, UP, limit=0.2, blames="software"),
    Metric("asr.confidence", "", "confidence", "a recognizer or an input that became worse", "unit", _of("asr.confidence"), direction=DOWN, key=True, least=0.02),
    Metric("asr.edge_confidence", "", "confidence of first and last words, less that of the others", "segments that begin or end within words", "unit", _of("asr.edge_confidence"), direction=DOWN, least=0.05, blames="vad"),
    Metric("asr.words_per_s", "1/s", "words per second of speech", "truncated or invented text", "unit", _of("asr.words_per_s"), key=True, least=0.2),
    Metric("asr.characters_per_s", "1/s", "characters per second of speech", "truncated or invented text", "unit", _of("asr.characters_per_s"), least=1.0),
    Metric("asr.repeated_share", "", "share of texts that repeat themselves", "a decoder in a loop", "unit", _above("asr.compression_ratio", REPEATED), SHARE, UP),
    Metric("asr.compression_ratio", "", "compression ratio of the text", "repetition", "unit", _of("asr.compression_ratio"), direction=UP, severity=SHOWN),
    Metric("asr.oov_share", "", "share of words the recognizer does not know", "another vocabulary", "unit", _of("asr.oov_share"), direction=UP, least=0.02),
    Metric("asr.speculations", "", "speculative decodes of a live segment", "speech with many pauses", "unit", _live("asr.speculations"), severity=SHOWN, blames="software", pressure=True),
    Metric("asr.speculated_share", "", "share of live segments whose text was decoded before their end", "a loaded machine", "unit", _live("asr.speculated"), SHARE, severity=SHOWN, blames="software", pressure=True),
    Metric("asr.churn", "", "share of the last partial result that the final changed", "unstable partial results", "unit", _of("live.churn"), direction=UP, least=0.05, live=True),
)  # fmt: skip

PEOPLE = (
    Metric("people.redo_rate", "", "share of utterances that people repeat", "wrong texts", "unit", _feedback("redo"), SHARE, UP, PAGE, key=True, late="feedback"),
    Metric("people.switch_to_typing_rate", "", "share of utterances after which people type", "people who gave up speaking", "unit", _feedback("switch_to_typing"), SHARE, UP, key=True, late="feedback"),
    Metric("people.abandon_rate", "", "share of utterances that people abandon", "people who gave up", "unit", _feedback("abandon"), SHARE, UP, late="feedback"),
    Metric("people.correction_rate", "", "share of utterances that people correct", "wrong words", "unit", _feedback("correction"), SHARE, UP, late="feedback"),
    Metric("people.edit_share", "", "share of a text that corrections change", "wrong words", "feedback", _of("people.edit_share"), direction=UP, key=True, least=0.05),
    Metric("people.rating", "", "rating", "dissatisfied users", "feedback", _of("people.rating"), direction=DOWN, least=0.2),
    Metric("people.wer", "", "word error rate of reviewed texts", "a recognizer that became worse", "feedback", _of("people.wer"), direction=UP, least=0.03),
    Metric("people.auto_accept_share", "", "share of results delivered without review", "confidences that are no longer reliable", "unit", _of("people.auto_accepted"), SHARE, DOWN, severity=SHOWN),
)  # fmt: skip

SOFTWARE = (
    Metric("software.decode_s", "s", "time to read a session", "slow decoding, slow clients", "session", _of("input.decode_wall_s"), direction=UP, severity=SHOWN, mix=True),
    Metric("software.vad_s", "s", "time of VAD for a session", "a starved CPU", "session", _of("vad.wall_s"), direction=UP, severity=SHOWN, mix=True),
    Metric("software.asr_s", "s", "time of a segment on a recognizer", "slow or starved workers", "unit", _of("asr.wall_s"), direction=UP, key=True, least=0.3, mix=True),
    Metric("software.queue_s", "s", "wait for a recognizer", "too few workers", "unit", _of("asr.queue_s"), direction=UP, key=True, least=0.3, pressure=True),
    Metric("software.wait_s", "s", "wait from the end of speech to its text", "a machine or workers that are too slow", "unit", _waited, direction=UP, key=True, least=0.3, pressure=True, felt=True),
    Metric("software.late_share", "", "share of texts that came more than 2 s after the speech", "workers that hang, die or starve: a tail that means do not show", "unit", _late, SHARE, UP, PAGE, pressure=True),
    Metric("software.endpoint_to_final_s", "s", "end of speech to final text", "a pipeline that is late", "unit", _of("live.endpoint_to_final_s"), direction=UP, severity=PAGE, key=True, least=0.1, pressure=True, felt=True),
    Metric("software.left_share", "", "share of uploads whose clients left before the answer", "answers that take too long", "session", _left, SHARE, UP, key=True, pressure=True),
    Metric("software.partial_lag_s", "s", "age of partial results", "a pipeline that is late", "unit", _of("live.partial_lag_s"), direction=UP, least=0.1, pressure=True),
    Metric("software.real_time_factor", "", "real-time factor", "a pipeline that does not keep up", "session", _of("software.real_time_factor"), direction=UP, least=0.1, mix=True),
    Metric("software.audio_s", "s/s", "audio received", "traffic that stops or surges", "session", _of("input.duration_s"), SUM, severity=SHOWN, key=True),
    Metric("software.refed_share", "", "share of segments whose worker died", "crashing workers", "unit", _above("asr.attempts", 1), SHARE, UP),
    Metric("software.queue_depth", "", "segments waiting", "too few workers", "system", _of("software.queue_depth"), direction=UP, severity=SHOWN, mix=True),
    Metric("software.restarts", "", "worker restarts", "crashing workers", "system", _of("software.restarts"), SUM, UP, SHOWN, limit=2.0),
    Metric("software.hung", "", "workers that owe an answer for half of their time limit, every 10 s", "a library or a disk that hangs", "system", _of("software.hung"), SUM, UP, SHOWN, limit=2.0),
    Metric("software.loop_lag_s", "s", "delay of the event loop", "heavy work on the event loop", "system", _of("software.loop_lag_s"), direction=UP, limit=0.5, pressure=True),
    Metric("software.cpu_share", "", "CPU in use by the service", "a machine at its limit", "system", _of("software.cpu_share"), direction=UP, severity=SHOWN, mix=True),
    Metric("software.rss_mb", "MB", "memory of server and workers", "a leak", "system", _of("software.rss_mb"), direction=UP, least=200.0, pressure=True),
    Metric("software.open_streams", "", "live sessions", "traffic", "system", _of("software.open_streams"), severity=SHOWN, mix=True),
    Metric("software.refused", "", "requests refused", "overload, bad clients", "system", _of("software.refused"), SUM, UP, SHOWN, limit=50.0),
    Metric("software.load_share", "", "share of the CPU that sessions need", "a machine at its limit", "system", _of("software.load_share"), direction=UP, severity=SHOWN, key=True, limit=0.98, mix=True),
)  # fmt: skip

SYSTEM = (
    Metric("system.received_s", "s", "audio received", "", "session", _seconds("system.received_samples"), SUM, severity=SHOWN),
    Metric("system.in_utterances_s", "s", "audio in utterances", "", "session", _seconds("system.in_utterances_samples"), SUM, severity=SHOWN),
    Metric("system.dropped_by_vad_s", "s", "audio that VAD dropped", "", "session", _seconds("system.dropped_by_vad_samples"), SUM, severity=SHOWN),
    Metric("system.dropped_by_overload_s", "s", "audio dropped under load", "too few workers", "session", _seconds("system.dropped_by_overload_samples"), SUM, UP, SHOWN),
    Metric("system.unbalanced_share", "", "share of sessions whose audio does not add up", "lost audio", "session", _unbalanced, SHARE, UP, PAGE, key=True, limit=0.0),
    Metric("system.records_lost", "", "records lost", "a store that is down, slow or full", "system", _of("system.records_lost"), SUM, UP, PAGE, key=True, limit=0.0),
    Metric("system.store_wait_s", "s", "longest wait of a record for the store, every 10 s", "a store that is locked, slow or away", "system", _of("system.store_wait_s"), direction=UP, least=3.0),
    Metric("system.store_stalls", "", "records that had waited more than 10 s for the store, looked at every 10 s", "a store that is locked, slow or away", "system", _above("system.store_wait_s", STALLED_S), SUM, UP, SHOWN, limit=2.0),
    Metric("system.webhooks_lost", "", "alarm messages lost", "a webhook that hangs or fails", "system", _of("system.webhooks_lost"), SUM, UP, LOOK, limit=0.0),
    Metric("system.probe_failed_share", "", "share of probes that failed", "a pipeline that fails while there is no traffic", "probe", _null(), SHARE, UP, PAGE, limit=0.2),
)  # fmt: skip

JOINED = (
    Metric("software.stretch", "", "time on a recognizer over its CPU time", "starved or slow workers", "unit", _stretch, direction=UP, least=0.5, pressure=True),
    Metric("software.overdue_share", "", "share of segments that took ten times their CPU time", "starved or slow workers", "unit", _overdue, SHARE, UP, pressure=True),
    Metric("system.missing_records_share", "", "share of sessions with fewer records than segments", "a store or a router that loses records", "case", _missing_units, SHARE, UP),
    Metric("system.duplicate_share", "", "share of sessions with duplicate results", "a router that delivers results twice", "case", _of("case.duplicates"), SHARE, UP),
    Metric("system.disordered_share", "", "share of sessions whose answers are out of order", "a router that mixes answers up", "case", _of("case.disordered"), SHARE, UP),
    Metric("system.version_skew_share", "", "share of sessions answered by another version", "workers that were not updated", "case", _of("case.skewed"), SHARE, UP),
    Metric("system.canary_share", "", "share of sessions on a canary", "a router with wrong weights", "case", _of("case.canary"), SHARE),
)  # fmt: skip

CASCADE = CascadeSpec(
    "speech",
    STAGES,
    (*INPUT, *VAD, *ASR, *PEOPLE, *SOFTWARE, *SYSTEM),
    distributions=("vad.segment_s",),
    joined=JOINED,
    join=_joined,
)
