"""Limits of websockets that uvicorn does not have.

- A message has a largest size by path. The bytes that connections hold beyond 64 KiB each (incomplete messages, and
  those that the application has not taken) are limited in total: a connection that exceeds the limit is closed with
  1013.
- The socket is read only when the application asks for the next message.
- The application can ask whether the peer answered the close, and whether it has disconnected while the socket is
  not read.

Uvicorn's class is extended where it receives bytes and frames. `tests/interfaces/api/test_websocket_protocol.py` checks
what this relies on.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any

from speechpipe.interfaces.api.connections import SocketConnection
from speechpipe.serving.live.budget import ByteBudget

EXTENSION = "speechpipe.connection"
"""The key of the protocol object among the extensions of the ASGI scope."""

SLICE_BYTES = 16 * 1024
"""Bytes that are parsed at once: each message becomes an object of some hundred bytes, even if it has only one."""

DEFAULT_MESSAGE_BYTES = 64 * 1024
TRY_AGAIN_LATER = 1013
GONE_STATES = {7, 8, 9}  # CLOSE, CLOSE_WAIT, LAST_ACK in linux/tcp.h: the peer has closed or reset


class LimitedWebSocket(SocketConnection):
    """A websocket connection with these limits. Used on the event loop only."""

    budget: ByteBudget
    limits: Mapping[str, int]  # path -> largest message in bytes
    on_refused: Callable[[], None]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._held = self.budget.holder()
        self._raw = bytearray()  # received and not parsed yet
        self._queued = 0  # bytes of complete messages that the application has not taken
        self.close_answered = False  # whether the peer has received everything that was sent before our close
        self.over = asyncio.Event()  # set when the closing handshake is complete or the connection is lost

    # ---- bytes in ----

    def data_received(self, data: bytes) -> None:
        """Append received bytes; parse them if the application wants a message."""
        if self._deaf:
            super().data_received(data)  # which discards it
            return
        self._raw += data
        self._parse()

    def _parse(self) -> None:
        while self._raw and not self.read_paused and not self._closing:
            part = bytes(self._raw[:SLICE_BYTES])
            del self._raw[:SLICE_BYTES]
            super().data_received(part)
        if self._closing:
            self._raw.clear()
        self._account()

    @property
    def _closing(self) -> bool:
        return self._deaf or self.transport.is_closing()

    def _account(self) -> None:
        fragments = sum(len(frame) for frame in self.frames)
        self._held.set(len(self._raw) + len(self.conn.reader.buffer) + fragments + self._queued)
        if self._held.too_much and not self.close_sent and not self._closing:
            self._refuse()

    def _refuse(self) -> None:
        self.on_refused()
        reason = "too many large messages at once; try again later with smaller ones"
        self.conn.fail(TRY_AGAIN_LATER, reason)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": TRY_AGAIN_LATER, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self._raw.clear()
        self._held.set(0)
        self.transport.close()

    def handle_cont(self, event: Any) -> None:
        """Append a fragment in place: a list of one-byte fragments would take forty times their size."""
        frames: list[Any] = self.frames
        if not isinstance(frames[0], bytearray):
            frames[0] = bytearray(frames[0])
        frames[0] += event.data
        if event.fin:
            frames[0] = bytes(frames[0])
            self.send_receive_event_to_app()

    def send_receive_event_to_app(self) -> None:
        """Queue a complete message, unless the budget has no room for it."""
        self._account()
        if self._closing:
            return
        size = sum(len(frame) for frame in self.frames)
        super().send_receive_event_to_app()
        if self.read_paused:
            self._queued += size

    def taken(self) -> None:
        """Note that the application has processed the messages it received."""
        if self.queue.empty():
            self._queued = 0
            self._account()

    async def receive(self) -> Any:
        """Return the next message. The socket is read only while the application waits here."""
        if self.read_paused and self.queue.empty():
            self._queued = 0
            self.read_paused = False
            self._parse()
            if not self.read_paused and not self._closing:
                self.transport.resume_reading()
        return await self.queue.get()

    # ---- lifetime of the connection ----

    def handle_connect(self, event: Any) -> None:
        """Put this object into the scope, and apply the limit of the path."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            extensions: dict[Any, Any] = self.scope.setdefault("extensions", {})
            extensions[EXTENSION] = self
            path = self.scope["path"]  # may still have the prefix of a proxy
            limits = (limit for ending, limit in self.limits.items() if path.endswith(ending))
            self.conn.max_message_size = next(limits, DEFAULT_MESSAGE_BYTES)

    def keepalive_timeout(self) -> None:
        """Keep waiting if the pong may be unread because the application has not asked for the next message."""
        if self.read_paused and not self.peer_gone:
            self.pong_timer = self.loop.call_later(self.ping_timeout or 0.0, self.keepalive_timeout)
        else:
            super().keepalive_timeout()

    def handle_close(self, event: Any) -> None:
        """Note that the peer has answered our close, and so received everything before it."""
        if self.close_sent:
            self.close_answered = True
            self.over.set()
        super().handle_close(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release all held bytes."""
        self.over.set()
        self._raw.clear()
        self._held.set(0)
        super().connection_lost(exc)

    @property
    def peer_gone(self) -> bool:
        """Whether the peer has disconnected. Asks the kernel, because a socket that is not read does not tell."""
        if self.transport.is_closing():
            return True
        sock = self.transport.get_extra_info("socket")
        if sock is None or not hasattr(socket, "TCP_INFO") or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        try:
            state: bytes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        except OSError:
            return True
        return state[0] in GONE_STATES


def limited(budget: ByteBudget, limits: Mapping[str, int], on_refused: Callable[[], None]) -> type[SocketConnection]:
    """Return the websocket class of a server.

    Args:
        budget: the bytes that all connections may hold together.
        limits: largest message in bytes by path; `DEFAULT_MESSAGE_BYTES` for other paths.
        on_refused: called when a connection is closed because of the budget.
    """
    return type(
        "LimitedWebSocket",
        (LimitedWebSocket,),
        {"budget": budget, "limits": dict(limits), "on_refused": staticmethod(on_refused)},
    )
