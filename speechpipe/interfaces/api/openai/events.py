"""Live events as messages of OpenAI's Realtime protocol, with one item for each segment of speech.

A segment that was cut because it became too long is still one item: its parts are deltas, its end is `completed`.
"""

import itertools
from collections.abc import Iterable
from typing import Any

from speechpipe.cascade.audio.live_formats import container
from speechpipe.cascade.workers.agreement import rest_after
from speechpipe.interfaces.api.deepgram.events import stages
from speechpipe.interfaces.api.openai.session import MIN_COMMIT_S, Session
from speechpipe.serving.live import (
    Cleared,
    ClockAdvanced,
    Ended,
    Event,
    Final,
    LiveRequest,
    Message,
    Noticed,
    Partial,
    Paused,
    Settled,
    SpeechEnded,
    SpeechStarted,
    StableText,
)
from speechpipe.serving.routing import Assignment
from speechpipe.serving.text.formatter import TextFormatter
from speechpipe.serving.transcription import documents
from speechpipe.types import FAILURES, Bundle, Notice, NullCause

INPUT = "input_audio_buffer"
TRANSCRIPTION = "conversation.item.input_audio_transcription"


class _Item:
    def __init__(self, identity: str, manual: bool) -> None:
        self.id = identity
        self.manual = manual
        self.parts: list[str] = []
        self.begun = False  # a delta was sent
        self.stable = ""  # stable text of the part that is still open, as the recognizer wrote it
        self.sent = ""  # deltas of that part
        self.failure: tuple[NullCause, str] | None = None
        self.audio_s = 0.0


class Realtime:
    """A `Dialect` with the state of one stream."""

    def __init__(self, request: LiveRequest, session: Session, pin: Assignment, formatter: TextFormatter) -> None:
        self._request = request
        self._formatter = formatter
        self._said: set[Notice] = set()  # what could not be done, as far as the client knows it
        self.session = session  # the client's present settings
        self.pin = pin  # kept when the client resumes on another connection, as all of this state
        self.bundle = request.bundle
        self.since_commit = 0  # bytes of audio since the last commit
        self.contained: bool | None = None  # whether audio is in a container, so that its bytes do not tell its length
        self._numbers = itertools.count(1)
        self._items: dict[int, _Item] = {}  # by segment index
        self._current: _Item | None = None
        self._previous: str | None = None
        self._quiet_since_s = 0.0
        self._committed_s = 0.0  # audio up to here belongs to an item, or was cleared
        self._silent_items = itertools.count(1)

    def offered(self, data: bytes) -> None:
        """Note audio that the client has put into its buffer."""
        if self.contained is None and data:
            self.contained = container(data, certain=True) is not None
        self.since_commit += len(data)

    def emptied(self) -> None:
        """Note that the buffer was committed or cleared."""
        self.since_commit = 0

    def changed(self, session: Session, bundle: Bundle) -> None:
        """Note what the client has set the session to, and the bundle that answers it."""
        self.session, self.bundle = session, bundle

    def rewrites(self, formatter: TextFormatter) -> None:
        """Write texts by `formatter` from now on: the client has set its options, before it sent audio."""
        self._formatter = formatter

    def render(self, event: Event) -> list[Message]:
        """Return the messages for an event."""
        messages: list[Message] = []
        match event:
            case SpeechStarted():
                messages = self._started(event)
            case SpeechEnded():
                messages = self._stopped(event)
            case Final():
                messages = self._final(event)
            case Settled(flushed=True):
                messages = self._silent(event)
            case Cleared():
                self._current = None
                self._committed_s = event.now_s
                messages = [{"type": f"{INPUT}.cleared"}]
            case Ended():
                messages = self._over(event)
            case Partial():
                messages = [self._partial(event)]
            case StableText():
                messages = self._stable(event)
            case ClockAdvanced():
                # Time in a pause does not count on the audio clock: silence began no later than now.
                self._quiet_since_s = min(self._quiet_since_s, event.now_s)
                messages = self._timeout(event.now_s, event.now_s)
            case Paused():
                messages = self._timeout(event.now_s + event.silent_s, event.now_s)
            case Noticed():
                messages = self.warnings([event.notice])
        return [self.stamped(message) for message in messages]

    def stamped(self, message: Message) -> Message:
        """Return a message with its event id."""
        return {"event_id": f"event_{self._request.id[:12]}_{next(self._numbers)}"} | message

    def _started(self, event: SpeechStarted) -> list[Message]:
        if not event.continued or self._current is None:
            self._current = _Item(f"item_{self._request.id[:16]}_{event.index}", event.manual)
        item = self._items[event.index] = self._current
        if event.continued or item.manual:
            return []
        return [{"type": f"{INPUT}.speech_started", "item_id": item.id, "audio_start_ms": round(event.heard_s * 1000)}]

    def _stopped(self, event: SpeechEnded) -> list[Message]:
        item = self._items[event.index]
        if event.cut:
            return []
        self._current = None
        messages: list[Message] = []
        if not item.manual:
            stopped = {"type": f"{INPUT}.speech_stopped", "item_id": item.id}
            messages.append(stopped | {"audio_end_ms": round(event.end_s * 1000)})
        return messages + self._committed(item.id)

    def _committed(self, identity: str) -> list[Message]:
        """Return the messages that audio has become an item."""
        committed = {"item_id": identity, "previous_item_id": self._previous}
        added = {
            "id": identity,
            "object": "realtime.item",
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        of_item: Message = {"previous_item_id": self._previous, "item": added}
        self._previous = identity
        return [
            {"type": f"{INPUT}.committed"} | committed,
            *({"type": f"conversation.item.{kind}"} | of_item for kind in ("added", "done")),
        ]

    def _silent(self, event: Settled) -> list[Message]:
        """Answer a commit of audio without speech: with an item without text, or with an error if it is too short."""
        seconds = event.now_s - self._committed_s
        if seconds < MIN_COMMIT_S:
            text = f"{1000 * max(0.0, seconds):.0f} ms of audio came since the last item; a commit needs 100 ms"
            return [error("input_audio_buffer_commit_empty", text)]
        self._committed_s = event.now_s
        identity = f"item_{self._request.id[:16]}_s{next(self._silent_items)}"
        usage = {"type": "duration", "seconds": round(seconds, 3)}
        done = {"item_id": identity, "content_index": 0, "transcript": "", "usage": usage}
        return [*self._committed(identity), {"type": f"{TRANSCRIPTION}.completed"} | done]

    def _final(self, event: Final) -> list[Message]:
        utterance = self._formatter.utterance(event.utterance)
        item = self._items.pop(utterance.index)
        self._quiet_since_s = event.until_s
        self._committed_s = max(self._committed_s, event.until_s)
        transcript = utterance.transcript
        item.audio_s += utterance.segment.duration_s
        messages = self.warnings(self._formatter.notices)
        base = {"item_id": item.id, "content_index": 0}
        if transcript.text:
            if rest := rest_after(item.sent, transcript.text):
                messages.append(_delta(item, rest))
            item.parts.append(transcript.text)
        elif transcript.null_cause in FAILURES:
            item.failure = (transcript.null_cause, transcript.detail)
        item.stable = item.sent = ""
        if utterance.segment.cut:
            return messages
        if item.failure is not None and not item.parts:
            cause, detail = item.failure
            failure = {"type": "transcription_error", "code": cause, "message": detail or cause, "param": None}
            return [*messages, {"type": f"{TRANSCRIPTION}.failed"} | base | {"error": failure}]
        usage = {"type": "duration", "seconds": round(item.audio_s, 3)}
        done: dict[str, Any] = {"transcript": " ".join(item.parts), "usage": usage}
        done["speechpipe"] = stages(utterance, event, self._request.terms)
        return [*messages, {"type": f"{TRANSCRIPTION}.completed"} | base | done]

    def _timeout(self, now_s: float, heard_s: float) -> list[Message]:
        """Return a message if there was no speech for the client's idle time-out.

        `heard_s` is the audio clock; `now_s` also counts the time without audio.
        """
        detection = self.session.input.turn_detection
        limit_ms = detection.idle_timeout_ms if detection is not None else None
        if limit_ms is None or self._items or now_s - self._quiet_since_s < limit_ms / 1000:
            return []
        times = {
            "audio_start_ms": round(min(self._quiet_since_s, heard_s) * 1000),
            "audio_end_ms": round(heard_s * 1000),
        }
        self._quiet_since_s = now_s
        identity = f"item_{self._request.id[:16]}_t{round(now_s * 1000)}"
        return [{"type": f"{INPUT}.timeout_triggered", "item_id": identity} | times]

    def warnings(self, notices: Iterable[Notice]) -> list[Message]:
        """Return warnings of what the client has not been told yet."""
        fresh = [notice for notice in dict.fromkeys(notices) if notice not in self._said]
        self._said.update(fresh)
        return [_warning(notice) for notice in fresh]

    def _over(self, event: Ended) -> list[Message]:
        messages = self.warnings(event.notices)
        if event.error is not None:
            messages.append(error(event.error.cause, event.error.message, param=event.error.param))
        return messages

    def _stable(self, event: StableText) -> list[Message]:
        item = self._items[event.index]
        item.stable += event.added
        text, settled = self._formatter.partial(item.stable, len(item.stable))
        added = text[len(item.sent) : settled] if text.startswith(item.sent) else ""
        return [_delta(item, added)] if added else []

    def _partial(self, event: Partial) -> Message:
        item = self._items[event.index]
        text, stable = self._formatter.partial(event.text, event.stable)
        # Deltas are made of stable text. The whole text may change: it is sent as our own event, which clients ignore.
        known = {"item_id": item.id, "transcript": text, "lag_s": round(event.lag_s, 3), "stable": stable}
        return {"type": "speechpipe.partial"} | known


def _warning(notice: Notice) -> Message:
    return {"type": "speechpipe.warning", "warning": documents.notice(notice)}


def _delta(item: _Item, text: str) -> Message:
    """Return the message that adds `text` to the item's open part."""
    delta = f" {text}" if item.begun and not item.sent else text
    item.begun = True
    item.sent += text
    return {"type": f"{TRANSCRIPTION}.delta", "item_id": item.id, "content_index": 0, "delta": delta}


def error(code: str, message: str, *, param: str | None = None, event_id: str | None = None) -> Message:
    """Return an `error` event."""
    kind = "invalid_request_error"
    body = {"type": kind, "code": code, "message": message, "param": param, "event_id": event_id}
    return {"type": "error", "error": body}
