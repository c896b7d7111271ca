"""One websocket: what it says goes into a live stream, what the stream says goes out. The same for every dialect."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import WebSocket
from fastapi.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect, WebSocketState

from speechpipe.errors import CLOSE_CODE, HTTP_STATUS, SpeechpipeError, TooSlow, error_row
from speechpipe.live import Message
from speechpipe.live.hub import Hub
from speechpipe.live.outbox import Goodbye
from speechpipe.live.stream import LiveStream

TAKEN_OVER = Goodbye(4409, "this session was resumed on another connection")

USER_HEADER, MOST_USER = "x-speechpipe-user", 256

Understand = Callable[[str | bytes], None]


def subprotocols(socket: WebSocket) -> list[str]:
    """Return what the client offered."""
    return list(socket.scope.get("subprotocols") or [])


def user(socket: WebSocket) -> str:
    """Return whom the client speaks for: the same user always gets the same arm of a rollout. Empty: not said."""
    return (socket.headers.get(USER_HEADER) or socket.query_params.get("user") or "")[:MOST_USER]


async def refuse(
    socket: WebSocket, error: SpeechpipeError, body: Message, say: Message, subprotocol: str | None
) -> None:
    """Refuse an upgrade: with an HTTP status, or to a browser, whose scripts never see one, with a close code."""
    seconds = getattr(error, "retry_after_s", None)
    if "origin" in socket.headers:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.accept(subprotocol)
            await socket.send_json(say)
            await socket.close(error_row(error, CLOSE_CODE), error.message[:120])
        return
    headers = {} if seconds is None else {"Retry-After": str(max(1, round(seconds)))}
    status = error_row(error, HTTP_STATUS)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    await socket.send_denial_response(JSONResponse(body, status, headers))


class Connection:
    """The pump of one accepted websocket."""

    def __init__(self, socket: WebSocket, hub: Hub, stream: LiveStream, send_timeout_s: float) -> None:
        self._socket = socket
        self._hub = hub
        self._stream = stream
        self._send_timeout_s = send_timeout_s
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._reader = 0

    def _wake(self, event: asyncio.Event) -> None:
        # The loop may be gone while a lane still ends its step.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(event.set)

    async def open(self, subprotocol: str | None, headers: list[tuple[bytes, bytes]], after: int | None) -> None:
        """Accept, and become the stream's reader; what was said after number `after` is said again.

        Raises:
            InvalidParameter: that is not kept any more.
        """
        await self._socket.accept(subprotocol, headers)
        self._reader = self._stream.outbox.attach(lambda: self._wake(self._ready), after)
        self._ready.set()

    def release(self) -> None:
        """Let the stream go, however this connection ended, unless another one has taken over."""
        if self._reader == 0 or self._stream.outbox.detach(self._reader):
            self._hub.leave(self._stream)

    async def fail(self, error: SpeechpipeError, say: Message) -> None:
        """Close an accepted socket because of an error, if it is still there to hear of it."""
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, TooSlow):
            await self._within(self._socket.send_json(say), 1.0)
            await self._within(self._socket.close(error_row(error, CLOSE_CODE), error.message[:120]), 1.0)

    async def run(self, understand: Understand) -> None:
        """Pump until either side ends it. `understand` takes each message; audio it finds goes to the stream."""
        tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._receive(understand))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _receive(self, understand: Understand) -> None:
        while True:
            message: Mapping[str, Any] = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if not self._stream.outbox.is_reader(self._reader):
                return  # resumed elsewhere: audio still on its way here is sent again there
            data = message.get("bytes")
            understand(data if data is not None else message["text"])
            while not self._stream.has_room:  # not reading is what tells the client to wait
                self._room.clear()
                self._stream.when_room(lambda: self._wake(self._room))
                await self._room.wait()

    async def _send(self) -> None:
        while True:
            await self._ready.wait()
            self._ready.clear()
            taken = self._stream.outbox.take(self._reader)
            if taken is None or isinstance(taken, Goodbye):
                goodbye = taken or TAKEN_OVER
                if self._socket.application_state is WebSocketState.CONNECTED:
                    await self._within(self._socket.close(goodbye.code, goodbye.reason))
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
