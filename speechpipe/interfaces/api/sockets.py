"""Serving of one websocket: its messages go into a live stream, the stream's messages go out. Same for all dialects."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from speechpipe.errors import CLOSE_CODE, SpeechpipeError, TooSlow, error_row
from speechpipe.interfaces.api.errors import log_unforeseen, public_text, response, unforeseen
from speechpipe.interfaces.api.gate import route_path
from speechpipe.interfaces.api.websocket_protocol import EXTENSION, LimitedWebSocket
from speechpipe.serving.live import Finish, Message
from speechpipe.serving.live.manager import StreamManager
from speechpipe.serving.live.outbox import Goodbye
from speechpipe.serving.live.stream import LiveStream
from speechpipe.serving.service import Service

TAKEN_OVER = Goodbye(4409, "this session was resumed on another connection")

USER_HEADER, MOST_USER = "x-speechpipe-user", 256

MOST_REASON = 123
"""The longest close reason in bytes (RFC 6455, 5.5: a control frame has 125, of which two are the code)."""

LARGE_MESSAGE = 64 * 1024
"""Messages with more characters are parsed on a thread, one at a time."""

TELL_S = 2.0
"""How long a client may take to receive an error message."""

LOOK_S = 0.5
"""While a stream has no room for audio, its client is checked this often, because it may have disconnected."""

CLOSE_TIMEOUT_S = 10.0
"""How long the peer may take to answer our close; then uvicorn closes the connection."""

log = logging.getLogger(__name__)


class Client(Protocol):
    """A client of one interface; `stream` exists after `open`."""

    stream: LiveStream
    resumed_after: int | None  # the last message number that it has received; None: not resumed

    def open(self, authorization: str | None) -> None:
        """Create the client's stream, or find the one that it resumes. Runs on a thread.

        Raises:
            SpeechpipeError: the client is refused.
        """
        ...

    def headers(self) -> Mapping[str, str]:
        """Return the headers of the answer to the upgrade."""
        ...

    def greeting(self) -> Message | None:
        """Return the first message, or None."""
        ...

    def parse(self, message: str | bytes) -> Any:
        """Return a parsed message; changes nothing. Runs on a thread if the message is large."""
        ...

    def before(self, parsed: Any) -> Callable[[], None] | None:
        """Return a blocking function that must run on a thread before `obey`, or None."""

    def obey(self, parsed: Any) -> None:
        """Handle a parsed message. Runs on the event loop."""
        ...

    def say(self, error: SpeechpipeError) -> Message:
        """Return an error message."""
        ...


def subprotocols(socket: WebSocket) -> list[str]:
    """Return the subprotocols that the client offered."""
    return list(socket.scope.get("subprotocols") or [])


def user(socket: WebSocket) -> str:
    """Return the client's user, who always gets the same arm of a rollout; empty if not given."""
    return (socket.headers.get(USER_HEADER) or socket.query_params.get("user") or "")[:MOST_USER]


def close_reason(text: str) -> str:
    """Return as much of a text as fits into a close frame."""
    return text.encode(errors="replace")[:MOST_REASON].decode(errors="ignore")


async def serve(
    service: Service, streams: StreamManager, socket: WebSocket, client: Client, login: tuple[str | None, str | None]
) -> None:
    """Open the stream, accept the websocket, and serve it. Errors are sent in the client's protocol.

    Args:
        service: counts refusals.
        streams: the live streams.
        socket: not accepted yet.
        client: of the requested interface.
        login: the client's Authorization, and the subprotocol to accept.
    """
    authorization, chosen = login
    connection: Connection | None = None
    failure: SpeechpipeError | None = None
    try:
        await asyncio.to_thread(client.open, authorization)
        connection = Connection(socket, streams, client, service.settings.live_send_timeout_s)
        await connection.open(chosen)
        await connection.run()
    except SpeechpipeError as error:
        failure = error
    except WebSocketDisconnect:
        pass  # the client disconnected before the greeting
    except Exception as error:  # noqa: BLE001 - the last handler of a websocket
        if connection is None or not connection.left:
            failure = unforeseen(error)
            log_unforeseen(failure, error, "a live session")
    try:
        if failure is not None:
            service.refuse(failure)
            await _tell(socket, client, failure, chosen)
    finally:
        if connection is not None:
            connection.release()


async def _tell(socket: WebSocket, client: Client, error: SpeechpipeError, subprotocol: str | None) -> None:
    """Send an error to a client that is still connected: a message and a close code, or a refused upgrade."""
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(TELL_S):
            if socket.application_state is WebSocketState.CONNECTING:
                if "origin" not in socket.headers:
                    await socket.send_denial_response(response(error, route_path(socket.scope)))
                    return
                await socket.accept(subprotocol)  # scripts in a browser never see an HTTP status
            await socket.send_json(client.say(error))
            await socket.close(error_row(error, CLOSE_CODE), close_reason(public_text(error)))


class Connection:
    """One websocket in service. Used on the event loop."""

    parsing = asyncio.Semaphore(1)
    """Large messages are parsed one at a time, because parsing takes several times their size."""

    def __init__(self, socket: WebSocket, streams: StreamManager, client: Client, send_timeout_s: float) -> None:
        self._socket = socket
        self._streams = streams
        self._client = client
        self._stream = client.stream
        self._send_timeout_s = send_timeout_s
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._reader = 0
        self._closing = False  # whether our close was sent, after all messages
        self._protocol: LimitedWebSocket | None = (socket.scope.get("extensions") or {}).get(EXTENSION)

    def _wake(self, event: asyncio.Event) -> None:
        # The loop may be closed while a live thread still finishes its step.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(event.set)

    @property
    def left(self) -> bool:
        """Whether the client has disconnected; using its socket then raises."""
        return self._socket.client_state is WebSocketState.DISCONNECTED

    async def open(self, subprotocol: str | None) -> None:
        """Accept, attach to the stream, and greet; messages after `resumed_after` are sent again.

        Raises:
            InvalidParameter: those messages are no longer kept.
        """
        headers = [(name.encode(), value.encode()) for name, value in self._client.headers().items()]
        await self._socket.accept(subprotocol, headers)
        after = self._client.resumed_after
        self._reader = self._streams.attach(self._stream, lambda: self._wake(self._ready), after)
        self._ready.set()
        if (greeting := self._client.greeting()) is not None:
            await self._within(self._socket.send_json(greeting))

    def release(self) -> None:
        """Detach from the stream, unless another connection has taken it over."""
        if self._reader == 0:
            if self._client.resumed_after is None:  # the client of a new stream never received its token
                self._stream.command(Finish("client_gone"))
        elif self._stream.outbox.detach(self._reader):
            self._streams.leave(self._stream)

    async def run(self) -> None:
        """Serve until either side ends the connection."""
        tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._receive())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()
        if self._closing and self._protocol is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._protocol.over.wait(), CLOSE_TIMEOUT_S)
            if self._protocol.close_answered:
                self._stream.outbox.confirm(self._reader)

    async def _receive(self) -> None:
        while True:
            message: Mapping[str, Any] = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            data: str | bytes = message["bytes"] if message.get("bytes") is not None else message["text"]
            parsed = await self._parsed(data)
            del message, data
            if not self._stream.outbox.is_reader(self._reader):
                return  # resumed on another connection, where the client sends this audio again
            if (before := self._client.before(parsed)) is not None:
                await asyncio.to_thread(before)
            self._client.obey(parsed)
            del parsed
            if self._protocol is not None:
                self._protocol.taken()
            while not self._stream.has_room:  # not reading makes the client wait
                self._room.clear()
                self._stream.when_room(lambda: self._wake(self._room))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._room.wait(), LOOK_S)
                if self._protocol is not None and self._protocol.peer_gone:
                    return

    async def _parsed(self, data: str | bytes) -> Any:
        if isinstance(data, bytes) or len(data) < LARGE_MESSAGE:
            return self._client.parse(data)
        async with self.parsing:
            return await asyncio.to_thread(self._client.parse, data)

    async def _send(self) -> None:
        while True:
            await self._ready.wait()
            self._ready.clear()
            taken = self._stream.outbox.take(self._reader)
            if taken is None or isinstance(taken, Goodbye):
                goodbye = taken or TAKEN_OVER
                if self._socket.application_state is WebSocketState.CONNECTED:
                    self._closing = taken is not None
                    await self._within(self._socket.close(goodbye.code, close_reason(goodbye.reason)))
                return
            for text in taken:
                await self._within(self._socket.send_text(text))
            if taken:
                self._ready.set()  # look again: more messages or the goodbye may have come

    async def _within(self, sending: Awaitable[None], limit_s: float | None = None) -> None:
        """Send with a timeout, so that a client that stops reading cannot block this connection.

        Raises:
            TooSlow: the client did not read in time.
        """
        try:
            async with asyncio.timeout(limit_s or self._send_timeout_s):
                await sending
        except (WebSocketDisconnect, RuntimeError):
            return  # the client has disconnected; the receiving task notices too
        except TimeoutError as error:
            raise TooSlow("the client does not read what it is sent", cause="client_not_reading") from error
