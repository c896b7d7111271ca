"""`WS /v1/listen`: live audio for clients of Deepgram's protocol."""

import json
from collections.abc import Callable, Mapping

from fastapi import APIRouter, WebSocket

from speechpipe.cascade.request import new_session_id
from speechpipe.errors import BadInput, SpeechpipeError
from speechpipe.interfaces.api import auth
from speechpipe.interfaces.api.deepgram import query as listen_query
from speechpipe.interfaces.api.deepgram.events import Deepgram, error_message
from speechpipe.interfaces.api.sockets import serve, subprotocols, user
from speechpipe.serving.live import Fail, Finish, Flush, LiveRequest, Message
from speechpipe.serving.live.manager import StreamManager
from speechpipe.serving.live.stream import LiveStream
from speechpipe.serving.service import Service

CHANNEL = "listen"
MAX_TEXT = 64 * 1024
"""The longest text message, in characters."""

MAX_MISTAKES = 100
"""Unknown messages after which the connection is closed."""


class ListenClient:
    """A client of this interface; `stream` exists after `open`."""

    def __init__(self, service: Service, streams: StreamManager, socket: WebSocket) -> None:
        self._service = service
        self._streams = streams
        self._socket = socket
        self._mistakes = 0
        self.resumed_after: int | None = None
        self._greet = False
        self.stream: LiveStream

    def open(self, authorization: str | None) -> None:
        """Create the client's stream, or find the one that it resumes.

        Raises:
            SpeechpipeError: the client is refused.
        """
        tenant = auth.caller(authorization, self._service.settings.api_keys)
        query, changes, notices = listen_query.parse(self._socket.query_params)
        self._greet = query.resume is not None
        if query.resume not in (None, "true", "1", ""):
            self.stream = self._streams.resume(query.resume or "", tenant, CHANNEL)
            self.resumed_after = query.last_seq or 0
            return
        session_id = new_session_id()
        pin = self._service.engine.pin(tenant, user(self._socket), session_id)
        choice = pin.choose(query.model, changes)
        request = LiveRequest(
            bundle=choice.bundle,
            wire=query.wire,
            channel=CHANNEL,
            interim=query.interim_results,
            language=query.language,
            hotwords=query.hotwords,
            listed=self._service.hotwords(tenant),
            tenant=tenant,
            notices=tuple(notices),
            id=session_id,
            arm=choice.arm,
            route=choice.route,
            terms=self._service.terms(tenant, choice.bundle),
        )
        self.stream = self._streams.open(
            request, Deepgram(query, request, self._service.formatter(query.text, request))
        )

    def headers(self) -> Mapping[str, str]:
        """Return the headers of the answer to the upgrade."""
        return {
            "dg-request-id": self.stream.id,
            "x-speechpipe-bundle": self.stream.request.bundle.id,
            "x-speechpipe-resume-token": self.stream.token,
        }

    def greeting(self) -> Message | None:
        """Return a first message for clients that can resume (`resume=true`); others do not know it."""
        if not self._greet:
            return None
        return {
            "type": "Session",
            "request_id": self.stream.id,
            "resume_token": self.stream.token,
            "resumed": self.resumed_after is not None,
            "received_bytes": self.stream.received_bytes,
            "grace_s": self._service.settings.live_resume_s,
        }

    def say(self, error: SpeechpipeError) -> Message:
        """Return an error message."""
        return error_message(error)

    def parse(self, message: str | bytes) -> tuple[str | None, str | bytes]:
        """Return (type, message); the type of audio is None."""
        return (None if isinstance(message, bytes) else _kind(message)), message

    def before(self, parsed: tuple[str | None, str | bytes]) -> None:
        """Do nothing: no message names a model."""

    def obey(self, parsed: tuple[str | None, str | bytes]) -> None:
        """Handle one message of the client."""
        kind, message = parsed
        if isinstance(message, bytes):
            self.stream.offer(message)
        elif kind == "KeepAlive":
            self.stream.keep_alive()
        elif kind == "Finalize":
            self.stream.command(Flush())
        elif kind == "CloseStream":
            self.stream.command(Finish())
        elif kind == "Configure":
            text = "a stream cannot be configured while it is open"
            failure = {"type": "ConfigureFailure", "request_id": self.stream.id, "description": text}
            self.stream.outbox.put(failure | {"code": "UNSUPPORTED"})
        else:
            self._mistake(message)

    def _mistake(self, message: str) -> None:
        known = "KeepAlive, Finalize, CloseStream"
        error = BadInput(
            f"not a message of this protocol; audio is binary, text is one of {known}", cause="SchemaError"
        )
        self._service.refuse(BadInput(error.message, cause="unknown_message"))
        self._mistakes += 1
        if self._mistakes > MAX_MISTAKES:
            self.stream.command(Fail(BadInput("too many unknown messages", cause="unknown_message")))
        else:
            self.stream.outbox.put(error_message(error, message))


def _kind(message: str) -> str | None:
    if len(message) > MAX_TEXT:
        return None
    try:
        value = json.loads(message)
    except (ValueError, RecursionError):
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) else None


def router(service: Service, streams: Callable[[], StreamManager]) -> APIRouter:
    """Return the route."""
    routes = APIRouter(prefix="/v1")

    @routes.websocket("/listen")
    async def listen(socket: WebSocket) -> None:
        login = auth.of_socket(socket.headers.get("authorization"), subprotocols(socket))
        await serve(service, streams(), socket, ListenClient(service, streams(), socket), login)

    return routes
