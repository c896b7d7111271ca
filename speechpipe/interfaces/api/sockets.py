"""One websocket: what it says goes into a live stream, what the stream says goes out. The same for every dialect."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from speechpipe.errors import CLOSE_CODE, SpeechpipeError, TooSlow, error_row
from speechpipe.interfaces.api.errors import public_text, response, unforeseen
from speechpipe.interfaces.api.gate import route_path
from speechpipe.interfaces.api.websocket_protocol import EXTENSION, LimitedWebSocket
from speechpipe.serving.engine import Service
from speechpipe.serving.live import Finish, Message
from speechpipe.serving.live.manager import StreamManager
from speechpipe.serving.live.outbox import Goodbye
from speechpipe.serving.live.stream import LiveStream

TAKEN_OVER = Goodbye(4409, "this session was resumed on another connection")

USER_HEADER, MOST_USER = "x-speechpipe-user", 256

MOST_REASON = 123
"""Bytes of a close reason (RFC 6455, 5.5: a control frame has 125, two are the code)."""

LARGE_MESSAGE = 64 * 1024
"""Characters above which a message is parsed on a thread, one at a time."""

TELL_S = 2.0
"""For a client to take the message that tells of an error."""

LOOK_S = 0.5
"""A client that waits for room is looked after this often: it may have gone."""

CLOSE_TIMEOUT_S = 10.0
"""For the peer's answer to our close; uvicorn closes the connection then."""

log = logging.getLogger(__name__)


class Client(Protocol):
    """One client of one interface, before and after its stream is there."""

    stream: LiveStream
    resumed_after: int | None  # the last number that it has seen; None: not resumed

    def open(self, authorization: str | None) -> None:
        """Find or make the stream; on a thread.

        Raises:
            SpeechpipeError: the client is refused.
        """
        ...

    def headers(self) -> Mapping[str, str]:
        """Return what the answer to the upgrade carries."""
        ...

    def greeting(self) -> Message | None:
        """Return the first message, if there is one."""
        ...

    def parse(self, message: str | bytes) -> Any:
        """Return what a message means; changes nothing. On a thread where the message is large."""
        ...

    def before(self, parsed: Any) -> Callable[[], None] | None:
        """Return what must be done on a thread before `obey`: it blocks. None: nothing."""

    def obey(self, parsed: Any) -> None:
        """Do what was parsed; on the event loop."""
        ...

    def say(self, error: SpeechpipeError) -> Message:
        """Return the message that tells of an error."""
        ...


def subprotocols(socket: WebSocket) -> list[str]:
    """Return what the client offered."""
    return list(socket.scope.get("subprotocols") or [])


def user(socket: WebSocket) -> str:
    """Return whom the client speaks for: the same user always gets the same arm of a rollout. Empty: not said."""
    return (socket.headers.get(USER_HEADER) or socket.query_params.get("user") or "")[:MOST_USER]


def close_reason(text: str) -> str:
    """Return as much of a text as a close frame may carry."""
    return text.encode(errors="replace")[:MOST_REASON].decode(errors="ignore")


async def serve(
    service: Service, hub: StreamManager, socket: WebSocket, client: Client, login: tuple[str | None, str | None]
) -> None:
    """Open, accept, greet and pump; whatever happens, the client is told in its protocol and the stream is let go.

    Args:
        service: counts refusals.
        hub: where the stream lives.
        socket: not accepted yet.
        client: of the interface that was asked for.
        login: what it sent as Authorization, and the subprotocol to accept with.
    """
    authorization, chosen = login
    connection: Connection | None = None
    failure: SpeechpipeError | None = None
    try:
        await asyncio.to_thread(client.open, authorization)
        connection = Connection(socket, hub, client, service.settings.live_send_timeout_s)
        await connection.open(chosen)
        await connection.run()
    except SpeechpipeError as error:
        failure = error
    except WebSocketDisconnect:
        pass  # it left before it was greeted
    except Exception as error:
        if connection is None or not connection.left:
            log.exception("a live session broke")
            failure = unforeseen(error)
    try:
        if failure is not None:
            service.refuse(failure)
            await _tell(socket, client, failure, chosen)
    finally:
        if connection is not None:
            connection.release()


async def _tell(socket: WebSocket, client: Client, error: SpeechpipeError, subprotocol: str | None) -> None:
    """Tell a client of an error, if it is still there: by a message and a close code, or by refusing the upgrade."""
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(TELL_S):
            if socket.application_state is WebSocketState.CONNECTING:
                if "origin" not in socket.headers:
                    await socket.send_denial_response(response(error, route_path(socket.scope)))
                    return
                await socket.accept(subprotocol)  # the scripts of a browser never see an HTTP status
            await socket.send_json(client.say(error))
            await socket.close(error_row(error, CLOSE_CODE), close_reason(public_text(error)))


class Connection:
    """The pump of one websocket."""

    parsing = asyncio.Semaphore(1)
    """Large messages are parsed one at a time: each takes several times its size while it is."""

    def __init__(self, socket: WebSocket, hub: StreamManager, client: Client, send_timeout_s: float) -> None:
        self._socket = socket
        self._hub = hub
        self._client = client
        self._stream = client.stream
        self._send_timeout_s = send_timeout_s
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._reader = 0
        self._closing = False  # our close was sent, after everything else
        self._protocol: LimitedWebSocket | None = (socket.scope.get("extensions") or {}).get(EXTENSION)

    def _wake(self, event: asyncio.Event) -> None:
        # The loop may be gone while a lane still ends its step.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(event.set)

    @property
    def left(self) -> bool:
        """Whether the client has gone: whatever is done with its socket then raises."""
        return self._socket.client_state is WebSocketState.DISCONNECTED

    async def open(self, subprotocol: str | None) -> None:
        """Accept, become the stream's reader, and greet; what was said after `resumed_after` is said again.

        Raises:
            InvalidParameter: that is not kept any more.
        """
        headers = [(name.encode(), value.encode()) for name, value in self._client.headers().items()]
        await self._socket.accept(subprotocol, headers)
        after = self._client.resumed_after
        self._reader = self._hub.attach(self._stream, lambda: self._wake(self._ready), after)
        self._ready.set()
        if (greeting := self._client.greeting()) is not None:
            await self._within(self._socket.send_json(greeting))

    def release(self) -> None:
        """Let the stream go, however this connection ended, unless another one has taken over."""
        if self._reader == 0:
            if self._client.resumed_after is None:  # a new stream whose client never had its token
                self._stream.command(Finish("client_gone"))
        elif self._stream.outbox.detach(self._reader):
            self._hub.leave(self._stream)

    async def run(self) -> None:
        """Pump until either side ends it."""
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
                return  # resumed elsewhere: audio still on its way here is sent again there
            if (before := self._client.before(parsed)) is not None:
                await asyncio.to_thread(before)
            self._client.obey(parsed)
            del parsed
            if self._protocol is not None:
                self._protocol.taken()
            while not self._stream.has_room:  # not reading is what tells the client to wait
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
                self._ready.set()  # look again: more may have come, or the goodbye

    async def _within(self, sending: Awaitable[None], limit_s: float | None = None) -> None:
        """Send, but not for ever: a client that does not read holds up nobody and nothing.

        Raises:
            TooSlow: it did not read for too long.
        """
        try:
            async with asyncio.timeout(limit_s or self._send_timeout_s):
                await sending
        except (WebSocketDisconnect, RuntimeError):
            return  # it has gone; the receiver says so too
        except TimeoutError as error:
            raise TooSlow("the client does not read what it is sent", cause="client_not_reading") from error
