"""`WS /v1/realtime`: live audio for clients of OpenAI's Realtime transcription sessions (GA format)."""

import base64
import binascii
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, WebSocket

from speechpipe.cascade.request import new_session_id
from speechpipe.errors import BadInput, InvalidParameter, SpeechpipeError
from speechpipe.interfaces.api import auth
from speechpipe.interfaces.api.errors import public_text
from speechpipe.interfaces.api.openai.events import Realtime
from speechpipe.interfaces.api.openai.events import error as error_event
from speechpipe.interfaces.api.openai.session import MIN_COMMIT_S, Session
from speechpipe.interfaces.api.sockets import serve, subprotocols, user
from speechpipe.serving.assignment import CHAMPION_NAMES
from speechpipe.serving.live import Change, Clear, Fail, Flush, LiveRequest, Message, Restart
from speechpipe.serving.live.manager import StreamManager
from speechpipe.serving.live.stream import LiveStream
from speechpipe.serving.service import Service
from speechpipe.serving.text.formatter import TextFormatter

CHANNEL = "realtime"
MAX_APPEND_BYTES = 15 * 2**20
PIECE = 256 * 1024
"""Characters of base64 that are decoded at once, so that other threads can run in between."""

PAUSE_S = 0.001
"""Pause after each piece of a long message."""

MOST_DIGITS = 18
MAX_MISTAKES = 100
"""Invalid events after which the connection is closed."""
QUERY = ("intent", "model", "resume", "last_seq", "user")


@dataclass(frozen=True, slots=True)
class Parsed:
    """A parsed message: its event, the audio in it, or the error."""

    event: dict[str, Any]
    audio: Sequence[bytes]
    wrong: SpeechpipeError | None = None


class RealtimeClient:
    """A client of this interface; `stream` exists after `open`."""

    def __init__(self, service: Service, streams: StreamManager, socket: WebSocket) -> None:
        self._service = service
        self._streams = streams
        self._query = socket.query_params
        self._user = user(socket)
        self._id = new_session_id()
        self._session = Session()
        self._dialect: Realtime
        self._mistakes = 0
        self._tenant = ""
        self.resumed_after: int | None = None
        self.stream: LiveStream

    def open(self, authorization: str | None) -> None:
        """Create the client's stream, or find the one that it resumes.

        Raises:
            SpeechpipeError: the client is refused.
        """
        self._tenant = auth.caller(authorization, self._service.settings.api_keys)
        unknown = [name for name in self._query if name not in QUERY]
        if unknown:
            raise InvalidParameter(f"unknown query parameter {unknown[0]}", param=unknown[0], cause="unknown_parameter")
        if self._query.get("intent", "transcription") != "transcription":
            raise InvalidParameter("intent must be transcription", param="intent")
        if token := self._query.get("resume"):
            last_seq = self._query.get("last_seq", "0")
            if not (last_seq.isascii() and last_seq.isdigit() and len(last_seq) <= MOST_DIGITS):
                raise InvalidParameter(f"last_seq must be a number, not {last_seq[:40]!r}", param="last_seq")
            self.stream = self._streams.resume(token, self._tenant, CHANNEL)
            assert isinstance(self.stream.dialect, Realtime)
            self._dialect, self.resumed_after = self.stream.dialect, int(last_seq)
            self._pin, self._session = self._dialect.pin, self._dialect.session
            return
        self._pin = self._service.engine.pin(self._tenant, self._user, self._id)
        if model := self._query.get("model"):
            self._session = self._session.updated({"audio": {"input": {"transcription": {"model": model}}}})
        request = self._request()
        self._dialect = Realtime(request, self._session, self._pin, self._formatter(request))
        self.stream = self._streams.open(request, self._dialect)

    def _request(self) -> LiveRequest:
        choice, transcription = self._session.choice(self._pin), self._session.transcription
        return LiveRequest(
            bundle=choice.bundle,
            wire=self._session.wire,
            channel=CHANNEL,
            manual=self._session.manual,
            language=transcription.language,
            prompt=transcription.prompt,
            hotwords=transcription.terms,
            listed=self._service.hotwords(self._tenant),
            tenant=self._tenant,
            notices=tuple(self._session.notices),
            id=self._id,
            arm=choice.arm,
            route=choice.route,
            terms=self._service.terms(self._tenant, choice.bundle),
        )

    def _formatter(self, request: LiveRequest) -> TextFormatter:
        return self._service.formatter(self._session.transcription.text, request)

    def headers(self) -> Mapping[str, str]:
        """Return the headers of the answer to the upgrade."""
        return {"x-request-id": self.stream.id, "x-speechpipe-bundle": self.stream.request.bundle.id}

    def greeting(self, kind: str = "session.created") -> Message:
        """Return the message that describes the session."""
        session = {"id": f"sess_{self.stream.id}", "object": "realtime.transcription_session"}
        session |= json.loads(self._session.model_dump_json())
        details = {
            "resume_token": self.stream.token,
            "resumed": self.resumed_after is not None,
            "received_bytes": self.stream.received_bytes,
            "grace_s": self._service.settings.live_resume_s,
            "bundle": self._dialect.bundle.id,
        }
        return self._dialect.stamped({"type": kind, "session": session, "speechpipe": details})

    # ---- messages ----

    def say(self, error: SpeechpipeError) -> Message:
        """Return an error message."""
        said = error_event(error.cause, public_text(error), param=error.param)
        if (seconds := getattr(error, "retry_after_s", None)) is not None:
            said["error"]["retry_after"] = seconds
        return said

    def parse(self, message: str | bytes) -> Parsed:
        """Return the event in a message with its audio decoded, or its error. On a thread for large messages."""
        event: dict[str, Any] = {}
        try:
            event = _event(message)
            return Parsed(event, _audio(event))
        except SpeechpipeError as wrong:
            return Parsed(event, (), wrong)

    def before(self, parsed: Parsed) -> Callable[[], None] | None:
        """Return the function that looks for new cards, if an update names an unknown model."""
        if parsed.event.get("type") != "session.update":
            return None
        try:
            transcription = self._session.updated(parsed.event.get("session")).input.transcription
        except SpeechpipeError:  # `obey` reports the error
            return None
        name = (transcription.model if transcription is not None else None) or "default"
        catalogue = self._service.engine.catalogue
        return None if name in CHAMPION_NAMES or catalogue.knows(name) else catalogue.look_again

    def obey(self, parsed: Parsed) -> None:
        """Handle one event of the client; an error is answered, and the session continues."""
        try:
            if parsed.wrong is not None:
                raise parsed.wrong
            self._obey(parsed.event, parsed.audio)
        except SpeechpipeError as wrong:
            self._service.refuse(wrong)
            self._mistakes += 1
            event_id = parsed.event.get("event_id")
            event_id = event_id if isinstance(event_id, str) else None
            self._put(error_event(wrong.cause, public_text(wrong), param=wrong.param, event_id=event_id))
            if self._mistakes > MAX_MISTAKES:
                self.stream.command(Fail(BadInput("too many invalid messages", cause="unknown_message")))

    def _obey(self, event: dict[str, Any], audio: Sequence[bytes]) -> None:
        match event.get("type"):
            case "input_audio_buffer.append":
                for piece in audio:
                    self._dialect.offered(piece)
                    self.stream.offer(piece)
            case "input_audio_buffer.commit":
                self._commit()
            case "input_audio_buffer.clear":
                self._dialect.emptied()
                self.stream.command(Clear())
            case "session.update":
                self._update(event.get("session"))
            case other:
                raise BadInput(f"unknown event type {other!r}", cause="unknown_message", param="type")

    def _commit(self) -> None:
        bytes_per_s, held = self._session.wire.bytes_per_s, self._dialect.since_commit
        if self._session.manual and not self._dialect.contained and held < MIN_COMMIT_S * bytes_per_s:
            held_ms, least_ms = 1000 * held / bytes_per_s, 1000 * MIN_COMMIT_S
            message = f"the buffer holds {held_ms:.0f} ms of audio; a commit needs {least_ms:.0f} ms"
            raise BadInput(message, cause="input_audio_buffer_commit_empty")
        self._dialect.emptied()
        self.stream.command(Flush())

    def _update(self, changes: Any) -> None:
        new = self._session.updated(changes)
        old_parts = (
            self._session.wire,
            self._dialect.bundle.name,
            self._session.input.transcription,
        )
        bundle = new.choice(self._pin).bundle
        restarts = (new.wire, bundle.name, new.input.transcription) != old_parts
        if restarts and self.stream.received_bytes:
            text = "format and transcription cannot change after audio was sent; turn_detection can"
            raise InvalidParameter(text, param="session.audio.input", cause="session_in_use")
        self._session = new
        request = replace(self._request(), id=self.stream.id)
        if restarts:
            self._dialect.rewrites(self._formatter(request))
            self.stream.command(Restart(request))
        self._dialect.changed(new, bundle)
        self.stream.command(Change(bundle, new.manual))
        self._put(self.greeting("session.updated"))
        for warning in self._dialect.warnings([*request.notices, *request.not_honoured]):
            self._put(warning)

    def _put(self, message: Message) -> None:
        self.stream.outbox.put(self._dialect.stamped(message))


def router(service: Service, streams: Callable[[], StreamManager]) -> APIRouter:
    """Return the route."""
    routes = APIRouter(prefix="/v1")

    @routes.websocket("/realtime")
    async def realtime(socket: WebSocket) -> None:
        login = auth.of_socket(socket.headers.get("authorization"), subprotocols(socket))
        await serve(service, streams(), socket, RealtimeClient(service, streams(), socket), login)

    return routes


def _event(message: str | bytes) -> dict[str, Any]:
    if isinstance(message, bytes):
        raise BadInput(
            "events are JSON text; send audio as base64 in input_audio_buffer.append", cause="unknown_message"
        )
    try:
        event = json.loads(message)
    except (ValueError, RecursionError) as wrong:
        raise BadInput(f"not JSON: {wrong}", cause="invalid_json") from wrong
    if not isinstance(event, dict):
        raise BadInput("an event is a JSON object", cause="invalid_json")
    return event


def _audio(event: dict[str, Any]) -> Sequence[bytes]:
    """Return the audio of an append event in pieces, and remove it from the event.

    Raises:
        InvalidParameter: it is not base64 text, or too long.
    """
    if event.get("type") != "input_audio_buffer.append":
        return ()
    audio = event.pop("audio", None)
    if not isinstance(audio, str):
        raise InvalidParameter("audio must be base64 text", param="audio")
    if len(audio) > MAX_APPEND_BYTES * 4 / 3 + 4:
        raise InvalidParameter(f"more than {MAX_APPEND_BYTES} bytes in one append", param="audio", cause="too_large")
    if 0 <= audio.find("=") < len(audio) - 2:
        raise InvalidParameter("audio is not base64: padding in the middle", param="audio")
    try:
        return list(_decoded(audio))
    except (binascii.Error, ValueError) as wrong:
        raise InvalidParameter(f"audio is not base64: {wrong}", param="audio") from wrong


def _decoded(audio: str) -> Iterator[bytes]:
    """Decode base64 in pieces, with pauses: decoding holds the interpreter lock, which the event loop needs."""
    for at in range(0, len(audio), PIECE):
        yield base64.b64decode(audio[at : at + PIECE], validate=True)
        if len(audio) > PIECE:
            time.sleep(PAUSE_S)
