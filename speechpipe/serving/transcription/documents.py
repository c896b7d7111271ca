"""Results of uploads as plain data for JSON: the `speechpipe` object, and OpenAI's formats.

Reference: https://platform.openai.com/docs/api-reference/audio (transcription objects).
"""

import math
from typing import Any

from speechpipe.cascade.catalog.figures import Figures
from speechpipe.serving.automation import Author
from speechpipe.serving.automation.policy import EffectivePolicy
from speechpipe.serving.telemetry.records import compression_ratio
from speechpipe.serving.text import TextOptions
from speechpipe.serving.transcription.transcriber import Result
from speechpipe.types import SAMPLE_RATE_HZ, Accounting, Bundle, Notice, Transcript, Utterance

LEAST_PROBABILITY = 1e-6  # keeps logarithms finite

AUTHOR = Author.MACHINE
"""Author of results without review; reviewed ones are made in `control/review/documents.py`."""


def notice(item: Notice) -> dict[str, str]:
    """Return a warning as plain data."""
    return {"code": item.code, "message": item.message}


def written_as(options: TextOptions) -> dict[str, Any]:
    """Return `formatting`: how the client asked texts to be written; nothing if it did not ask."""
    asked = options.document()
    return {"formatting": asked} if asked else {}


def accounting(item: Accounting) -> dict[str, int]:
    """Return the accounting in samples at 16 kHz."""
    names = ("received", "in_utterances", "dropped_by_vad", "dropped_by_overload", "pending")
    return {name: getattr(item, name) for name in names}


def bundle(item: Bundle) -> dict[str, Any]:
    """Return the bundle with all parameters that were used."""
    return {
        "name": item.name,
        "version": item.version,
        "vad": {
            "name": item.vad.name,
            "version": item.vad.version,
            "parameters": {**item.vad.options, **item.segmenter},
        },
        "asr": {"name": item.asr.name, "version": item.asr.version, "parameters": dict(item.asr.options)},
    }


def figures(item: Figures | None) -> dict[str, Any] | None:
    """Return what was measured of a bundle, without the machine and the recordings; None if nothing was."""
    names = ("wer", "wer_low", "wer_high", "words", "cpu", "final_p50_ms", "final_p95_ms", "worker_rss_mb", "date")
    return {name: getattr(item, name) for name in names} if item is not None else None


def total_accounting(result: Result) -> dict[str, int]:
    """Return the sum of the accountings of all channels."""
    parts = [accounting(channel.summary.accounting) for channel in result.channels]
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def words(transcript: Transcript, terms: EffectivePolicy) -> list[dict[str, Any]]:
    """Return words with times in seconds and confidences (None if the recognizer has none, or its card no table)."""
    return [
        {
            "word": word.text,
            "start": word.start_s,
            "end": word.end_s,
            "confidence": _round(word.confidence),
            "calibrated_confidence": terms.calibrated_word(word.confidence),
        }
        for word in transcript.words
    ]


def segment(channel: int, utterance: Utterance, terms: EffectivePolicy) -> dict[str, Any]:
    """Return an utterance with its text or null cause."""
    transcript = utterance.transcript
    return {
        "id": utterance.id,
        "channel": channel,
        "start": round(utterance.start_s, 3),
        "end": round(utterance.end_s, 3),
        # The audio given to the recognizer, with pre-roll and padding.
        "heard": [round(at / SAMPLE_RATE_HZ, 5) for at in (utterance.segment.start, utterance.segment.end)],
        "text": transcript.text,
        "words": words(transcript, terms),
        "confidence": _round(transcript.confidence),
        "calibrated_confidence": terms.calibrated(transcript.confidence),
        "null_cause": transcript.null_cause,
        "detail": transcript.detail,
        "recovered": transcript.recovered,
    }


def details(result: Result) -> dict[str, Any]:
    """Return the `speechpipe` object of an API response."""
    features = result.channels[0].summary.features
    label = result.terms.label
    return {
        "id": result.id,
        "bundle": bundle(result.bundle),
        "degree": result.terms.degree,
        "author": AUTHOR,
        "accounting": total_accounting(result),
        "segments": [
            segment(channel, utterance, result.terms) | label(utterance.transcript.confidence)
            for channel, utterance in result.utterances
        ],
        "input": {
            "container": result.info.container,
            "codec": result.info.codec,
            "sample_rate": result.info.rate_hz,
            "channels": result.info.channels,
            "track": result.info.track,
            "tracks": result.info.tracks,
            "claimed_s": result.info.claimed_s,
            "level_dbfs": round(features.level_dbfs, 1),
            "clipped_share": round(features.clipped_share, 6),
            "snr_db": features.snr_db,
            "bandwidth_hz": features.bandwidth_hz,
        },
        "stages": stages(result),
        "warnings": [notice(item) for item in result.notices],
    } | written_as(result.text_options)


def stages(result: Result) -> dict[str, float | int]:
    """Return figures of each stage: seconds, segments, CPU time."""
    summaries = [channel.summary for channel in result.channels]
    stats = [utterance.stats for _, utterance in result.utterances]
    return {
        "audio_s": round(result.duration_s, 3),
        "speech_s": round(sum(summary.speech_s for summary in summaries), 3),
        "segments": sum(summary.utterances for summary in summaries),
        "nulls": sum(sum(summary.nulls.values()) for summary in summaries),
        "vad_cpu_s": round(sum(summary.vad_cpu_s for summary in summaries), 4),
        "asr_cpu_s": round(sum(summary.asr_cpu_s for summary in summaries), 4),
        "queue_s": round(sum(item.queue_s for item in stats), 4),
        "wall_s": round(result.wall_s, 4),
    }


def file_document(file: str, result: Result) -> dict[str, Any]:
    """Return the object that `speechpipe transcribe --format json` prints for one file."""
    return {
        "file": file,
        "text": result.text,
        "duration": round(result.duration_s, 4),
        "segments": [segment(channel, utterance, result.terms) for channel, utterance in result.utterances],
        "bundle": bundle(result.bundle),
        "accounting": total_accounting(result),
        "stages": stages(result),
        "warnings": [notice(item) for item in result.notices],
    }


def verbose(result: Result, language: str, granularities: frozenset[str]) -> dict[str, Any]:
    """Return OpenAI's `TranscriptionVerbose`, with our additions under `speechpipe`."""
    document: dict[str, Any] = {
        "task": "translate" if result.translated else "transcribe",
        "language": language,
        "duration": round(result.duration_s, 4),
        "text": result.text,
        "usage": usage(result),
    }
    texts = [utterance for _, utterance in result.utterances if utterance.transcript.text]
    if "segment" in granularities:
        document["segments"] = [_verbose_segment(number, utterance) for number, utterance in enumerate(texts)]
    if "word" in granularities:
        document["words"] = [
            {"word": word.text, "start": word.start_s, "end": word.end_s}
            for utterance in texts
            for word in utterance.transcript.words
        ]
    return document | {"speechpipe": details(result)}


def _verbose_segment(number: int, utterance: Utterance) -> dict[str, Any]:
    transcript = utterance.transcript
    known = [word.confidence for word in transcript.words if word.confidence is not None]
    mean = sum(log_probability(value) for value in known) / len(known) if known else None
    return {
        "id": number,
        "seek": round(utterance.start_s * 100),  # 10 ms frames, as in Whisper
        "start": round(utterance.start_s, 3),
        "end": round(utterance.end_s, 3),
        "text": transcript.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": _round(mean),
        "compression_ratio": _round(compression_ratio(transcript.text)),
        "no_speech_prob": _round(1.0 - utterance.segment.mean_probability),
    }


def usage(result: Result) -> dict[str, Any]:
    """Return OpenAI's `usage` object: the duration in seconds, rounded up."""
    return {"type": "duration", "seconds": math.ceil(result.duration_s)}


def logprobs(result: Result) -> list[dict[str, Any]]:
    """Return OpenAI's `logprobs`, one entry for each word that has a confidence."""
    return [
        {"token": word.text, "logprob": round(log_probability(word.confidence), 4), "bytes": list(word.text.encode())}
        for _, utterance in result.utterances
        for word in utterance.transcript.words
        if word.confidence is not None
    ]


def log_probability(value: float) -> float:
    """Return the natural logarithm of a probability, at least that of `LEAST_PROBABILITY`."""
    return math.log(max(value, LEAST_PROBABILITY))


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
