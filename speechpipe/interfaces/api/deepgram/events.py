"""Live events as messages of Deepgram's protocol.

`is_final`: this range of time will not change; ranges of finals are contiguous. `speech_final`: an endpoint was found.
"""

import datetime
import uuid

from speechpipe.errors import SpeechpipeError
from speechpipe.interfaces.api.deepgram.query import ListenQuery, extras
from speechpipe.interfaces.api.errors import public_text
from speechpipe.serving.automation.policy import EffectivePolicy
from speechpipe.serving.live import (
    ClockAdvanced,
    Ended,
    Event,
    Final,
    LiveRequest,
    Message,
    Partial,
    Paused,
    Settled,
    SpeechEnded,
    SpeechStarted,
)
from speechpipe.serving.text.formatter import TextFormatter
from speechpipe.serving.text.plain import plain_word
from speechpipe.serving.transcription import documents
from speechpipe.types import Utterance, Word

NAMESPACE = uuid.UUID("6e2f1b52-7c1d-4a4e-9a0b-0d1c5a3b9f10")


class Deepgram:
    """A `Dialect` with the state of one stream."""

    def __init__(self, query: ListenQuery, request: LiveRequest, formatter: TextFormatter) -> None:
        self._query = query
        self._request = request
        self._formatter = formatter
        self._channels = request.wire.sessions
        self._committed = [0.0] * self._channels
        self._last_word = [None] * self._channels if query.utterance_end_ms else []  # type: list[float | None]
        self._speaking = [False] * self._channels
        self._silent_s = [0.0] * self._channels  # time without audio; 0 while audio arrives
        bundle = request.bundle
        self._uuid = str(uuid.uuid5(NAMESPACE, bundle.id))
        arch = f"{bundle.vad.name}+{bundle.asr.name}"
        self._info = {"name": bundle.name, "version": bundle.version, "arch": arch}
        self._created = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")

    def render(self, event: Event) -> list[Message]:
        """Return the messages for an event."""
        messages: list[Message] = []
        match event:
            case SpeechStarted():
                self._speaking[event.channel] = True
                self._silent_s[event.channel] = 0.0
                if self._query.vad_events and not event.continued:
                    channel = [event.channel, self._channels]
                    messages = [{"type": "SpeechStarted", "channel": channel, "timestamp": round(event.start_s, 3)}]
            case SpeechEnded():
                self._speaking[event.channel] = False
            case Partial():
                messages = [self._interim(event)]
            case Final():
                messages = [self._final(event), *self._utterance_end(event.channel, event.at_s)]
            case Settled():
                messages = [self._settled(event), *self._utterance_end(event.channel, event.now_s)]
            case ClockAdvanced():
                self._silent_s[event.channel] = 0.0
                messages = self._utterance_end(event.channel, event.now_s)
            case Paused():
                self._silent_s[event.channel] = event.silent_s
                messages = self._utterance_end(event.channel, event.now_s)
            case Ended():
                messages = self._ended(event)
        return messages

    def _results(self, channel: int, until_s: float, transcript: str, words: list[Message]) -> Message:
        start = self._committed[channel]
        message = {
            "type": "Results",
            "channel_index": [channel, self._channels],
            "duration": round(max(0.0, until_s - start), 3),
            "start": round(start, 3),
            "is_final": False,
            "speech_final": False,
            "channel": {"alternatives": [{"transcript": transcript, "words": words}]},
            "metadata": {
                "request_id": self._request.id,
                "model_info": self._info,
                "model_uuid": self._uuid,
            },
            "from_finalize": False,
        }
        if self._query.extra:
            message["metadata"] |= {"extra": extras(self._query)}  # type: ignore[operator]
        return message

    def _interim(self, event: Partial) -> Message:
        text, stable = self._formatter.partial(event.text, event.stable)
        message = self._results(event.channel, event.until_s, text, [])
        ours = {"index": event.index, "lag_s": round(event.lag_s, 3), "stable": stable}
        return message | {"speechpipe": ours}

    def _final(self, event: Final) -> Message:
        utterance = self._formatter.utterance(event.utterance)
        transcript = utterance.transcript
        words = [self._word(word) for word in transcript.words]
        message = self._results(event.channel, event.until_s, transcript.text, words)
        self._committed[event.channel] = event.until_s
        if transcript.confidence is not None:
            message["channel"]["alternatives"][0]["confidence"] = round(transcript.confidence, 4)
        if self._last_word and transcript.words:
            self._last_word[event.channel] = transcript.words[-1].end_s
        endpoint = self._query.endpointing is not False and not utterance.segment.cut
        message |= {"is_final": True, "speech_final": endpoint, "from_finalize": event.flushed}
        return message | {"speechpipe": stages(utterance, event, self._request.terms)}

    def _word(self, word: Word) -> Message:
        message: Message = {"word": plain_word(word.text) or word.text}
        message |= {"start": round(word.start_s, 3), "end": round(word.end_s, 3)}
        if word.confidence is not None:
            message["confidence"] = round(word.confidence, 4)
        if (calibrated := self._request.terms.calibrated_word(word.confidence)) is not None:
            message["calibrated_confidence"] = calibrated
        return message if self._query.punctuate is False else message | {"punctuated_word": word.text}

    def _settled(self, event: Settled) -> Message:
        message = self._results(event.channel, event.until_s, "", [])
        self._committed[event.channel] = max(self._committed[event.channel], event.until_s)
        return message | {"is_final": True, "from_finalize": event.flushed}

    def _utterance_end(self, channel: int, now_s: float) -> list[Message]:
        """Return UtteranceEnd if enough time has passed since the last word, including time without audio."""
        if not self._last_word or self._speaking[channel]:
            return []
        last, wait_ms = self._last_word[channel], self._query.utterance_end_ms
        if last is None or wait_ms is None or now_s + self._silent_s[channel] - last < wait_ms / 1000:
            return []
        self._last_word[channel] = None
        return [{"type": "UtteranceEnd", "channel": [channel, self._channels], "last_word_end": round(last, 3)}]

    def _ended(self, event: Ended) -> list[Message]:
        messages = [] if event.error is None else [error_message(event.error)]
        return [
            *messages,
            {
                "type": "Metadata",
                "transaction_key": "deprecated",
                "request_id": self._request.id,
                "sha256": event.sha256,
                "created": self._created,
                "duration": round(event.duration_s, 3),
                "channels": self._channels,
                "models": [self._uuid],
                "model_info": {self._uuid: self._info},
                "tags": self._query.tag,
                "speechpipe": {
                    "outcome": event.outcome,
                    "bundle": documents.bundle(self._request.bundle),
                    "accounting": [documents.accounting(item) for item in event.accounting],
                    "warnings": [documents.notice(item) for item in (*event.notices, *self._formatter.notices)],
                }
                | documents.written_as(self._query.text),
            },
        ]


def stages(utterance: Utterance, event: Final, terms: EffectivePolicy) -> Message:
    """Return what each stage did for a final. All dialects use it."""
    segment, stats, transcript = utterance.segment, utterance.stats, utterance.transcript
    return {
        "id": utterance.id,
        "index": utterance.index,
        "null_cause": transcript.null_cause,
        "recovered": transcript.recovered,
        "decided_at_s": round(event.at_s, 3),
        "endpoint_to_final_s": round(event.latency_s, 4),
        "vad": {"segment_s": round(segment.duration_s, 3), "probability": round(segment.mean_probability, 3)},
        "asr": {"cpu_s": round(stats.cpu_s, 3), "queue_s": round(stats.queue_s, 3), "attempts": stats.attempts},
        "input": {"level_dbfs": round(utterance.features.level_dbfs, 1), "snr_db": utterance.features.snr_db},
        **terms.label(transcript.confidence),
    }


def error_message(error: SpeechpipeError, text: str | None = None) -> Message:
    """Return Deepgram's Error message; `retry_after` is in seconds, where known."""
    message: Message = {
        "type": "Error",
        "variant": error.cause,
        "description": public_text(error),
        "code": error.cause.upper(),
    }
    if text is not None:
        message["message"] = text[:200]
    if (seconds := getattr(error, "retry_after_s", None)) is not None:
        message["retry_after"] = seconds
    return message
