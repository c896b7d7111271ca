"""`WS /v1/realtime`: live audio as OpenAI's Realtime transcription sessions speak it (GA shape)."""

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from speechpipe.api import auth
from speechpipe.api.errors import error_body
from speechpipe.api.openai_events import Realtime, error
from speechpipe.api.realtime_session import Session
from speechpipe.api.sockets import Connection, refuse, subprotocols, user
from speechpipe.errors import BadInput, InvalidParameter, SpeechpipeError
from speechpipe.live import Change, Clear, Fail, Flush, LiveRequest, Message, Restart
from speechpipe.live.hub import Hub
from speechpipe.live.stream import LiveStream
from speechpipe.service import Service
from speechpipe.session_request import new_session_id
from speechpipe.types import Bundle

MAX_APPEND_BYTES = 15 * 2**20
MIN_COMMIT_S = 0.1
MAX_MISTAKES = 100
QUERY = ("intent", "model", "resume", "last_seq", "user")


class Talking:
    """One client of this interface, before and after its stream is there."""

    def __init__(self, service: Service, hub: Hub, socket: WebSocket) -> None:
        self._service = service
        self._hub = hub
        self._query = socket.query_params
        self._user = user(socket)
        self._id = new_session_id()
        self._authorization: str | None = None
        self._session = Session()
        self._dialect: Realtime
        self._since_commit = 0  # bytes
        self._mistakes = 0
        self._tenant = ""
        self.resumed_after: int | None = None
        self.stream: LiveStream
        self._bundle: Bundle

    def open(self, authorization: str | None) -> None:
        """Find or make the stream.

        Raises:
            SpeechpipeError: the client is refused.
        """
        self._tenant = auth.caller(authorization, self._service.settings.api_keys)
        self._pin = self._service.pin(self._tenant, self._user, self._id)
        unknown = [name for name in self._query if name not in QUERY]
        if unknown:
            raise InvalidParameter(f"unknown query parameter {unknown[0]}", param=unknown[0], cause="unknown_parameter")
        if self._query.get("intent", "transcription") != "transcription":
            raise InvalidParameter("intent must be transcription", param="intent")
        if token := self._query.get("resume"):
            last_seq = self._query.get("last_seq", "0")
            if not last_seq.isdigit():
                raise InvalidParameter(f"last_seq must be a number, not {last_seq!r}", param="last_seq")
            self.stream = self._hub.resume(token, self._tenant)
            if not isinstance(self.stream.dialect, Realtime):
                raise InvalidParameter("this session was begun over another interface", param="resume")
            self._dialect, self.resumed_after = self.stream.dialect, int(last_seq)
            self._session = self._dialect.session
            self._bundle = self.stream.request.bundle
            return
        if model := self._query.get("model"):
            self._session = self._session.updated({"audio": {"input": {"transcription": {"model": model}}}})
        request = self._request()
        self._bundle = request.bundle
        self._dialect = Realtime(request, self._session)
        self.stream = self._hub.open(request, self._dialect)

    def _request(self) -> LiveRequest:
        asked = self._session.asked(self._pin)
        return LiveRequest(
            bundle=asked.bundle,
            wire=self._session.wire,
            channel="realtime",
            manual=self._session.manual,
            language=asked.language,
            prompt=asked.prompt,
            tenant=self._tenant,
            notices=(*self._session.notices, *asked.notices),
            id=self._id,
            arm=asked.arm,
            route=asked.route,
            terms=self._service.terms(self._tenant, asked.bundle),
        )

    def greeting(self, kind: str = "session.created") -> Message:
        """Describe the session."""
        session = {"id": f"sess_{self.stream.id}", "object": "realtime.transcription_session"}
        session |= json.loads(self._session.model_dump_json())
        details = {
            "resume_token": self.stream.token,
            "resumed": self.resumed_after is not None,
            "received_bytes": self.stream.received_bytes,
            "grace_s": self._service.settings.live_resume_s,
            "bundle": self._bundle.id,
        }
        return self._dialect.stamped({"type": kind, "session": session, "speechpipe": details})

    # ---- messages ----

    def understand(self, message: str | bytes) -> None:
        """Take one message of the client; what is wrong with it is answered, and the session goes on."""
        event_id: str | None = None
        try:
            event = _event(message)
            event_id = event.get("event_id") if isinstance(event.get("event_id"), str) else None
            self._obey(event)
        except SpeechpipeError as wrong:
            self._service.refuse(wrong)
            self._mistakes += 1
            self._put(error(wrong.cause, wrong.message, param=wrong.param, event_id=event_id))
            if self._mistakes > MAX_MISTAKES:
                self.stream.command(Fail(BadInput("too many messages that mean nothing", cause="unknown_message")))

    def _obey(self, event: dict[str, Any]) -> None:
        match event.get("type"):
            case "input_audio_buffer.append":
                self._append(event.get("audio"))
            case "input_audio_buffer.commit":
                least = MIN_COMMIT_S * self._session.wire.bytes_per_s
                if self._session.manual and self._since_commit < least:
                    held_ms = 1000 * self._since_commit / self._session.wire.bytes_per_s
                    message = f"the buffer holds {held_ms:.0f} ms of audio; a commit needs {1000 * MIN_COMMIT_S:.0f} ms"
                    raise BadInput(message, cause="input_audio_buffer_commit_empty")
                self._since_commit = 0
                self.stream.command(Flush())
            case "input_audio_buffer.clear":
                self._since_commit = 0
                self.stream.command(Clear())
            case "session.update":
                self._update(event.get("session"))
            case other:
                raise BadInput(f"unknown event type {other!r}", cause="unknown_message", param="type")

    def _append(self, audio: Any) -> None:
        if not isinstance(audio, str):
            raise InvalidParameter("audio must be base64 text", param="audio")
        if len(audio) > MAX_APPEND_BYTES * 4 / 3 + 4:
            raise InvalidParameter(
                f"more than {MAX_APPEND_BYTES} bytes in one append", param="audio", cause="too_large"
            )
        try:
            data = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError) as wrong:
            raise InvalidParameter(f"audio is not base64: {wrong}", param="audio") from wrong
        self._since_commit += len(data)
        self.stream.offer(data)

    def _update(self, changes: Any) -> None:
        new = self._session.updated(changes)
        old_parts = (
            self._session.wire,
            self._bundle.name,
            self._session.input.transcription,
        )
        bundle = new.choice(self._pin).bundle
        if (new.wire, bundle.name, new.input.transcription) != old_parts:
            if self.stream.received_bytes:
                text = "format and transcription cannot change once audio was sent; turn_detection can"
                raise InvalidParameter(text, param="session.audio.input", cause="session_in_use")
            self._session = new
            self.stream.command(Restart(replace(self._request(), id=self.stream.id)))
        self._session = self._dialect.session = new
        self._bundle = bundle
        self.stream.command(Change(bundle, new.manual))
        self._put(self.greeting("session.updated"))

    def _put(self, message: Message) -> None:
        self.stream.outbox.put(self._dialect.stamped(message))


def router(service: Service, hub: Callable[[], Hub]) -> APIRouter:
    """Return the route."""
    routes = APIRouter(prefix="/v1")

    @routes.websocket("/realtime")
    async def realtime(socket: WebSocket) -> None:
        authorization, chosen = auth.of_socket(socket.headers.get("authorization"), subprotocols(socket))
        client = Talking(service, hub(), socket)
        try:
            client.open(authorization)
        except SpeechpipeError as wrong:
            service.refuse(wrong)
            say = error(wrong.cause, wrong.message, param=wrong.param)
            say["error"]["retry_after"] = getattr(wrong, "retry_after_s", None)
            await refuse(socket, wrong, error_body(wrong), say, chosen)
            return
        connection = Connection(socket, hub(), client.stream, service.settings.live_send_timeout_s)
        headers = {"x-request-id": client.stream.id, "x-speechpipe-bundle": client.stream.request.bundle.id}
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        try:
            await connection.open(chosen, pairs, client.resumed_after)
            await socket.send_json(client.greeting())
            await connection.run(client.understand)
        except SpeechpipeError as wrong:
            service.refuse(wrong)
            await connection.fail(wrong, error(wrong.cause, wrong.message))
        except (WebSocketDisconnect, RuntimeError):
            pass  # it left before it was greeted
        finally:
            connection.release()

    return routes


def _event(message: str | bytes) -> dict[str, Any]:
    if isinstance(message, bytes):
        raise BadInput(
            "events are JSON text; audio goes base64 into input_audio_buffer.append", cause="unknown_message"
        )
    try:
        event = json.loads(message)
    except (ValueError, RecursionError) as wrong:
        raise BadInput(f"not JSON: {wrong}", cause="invalid_json") from wrong
    if not isinstance(event, dict):
        raise BadInput("an event is a JSON object", cause="invalid_json")
    return event
