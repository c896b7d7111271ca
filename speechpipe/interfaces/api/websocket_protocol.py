"""Websockets under uvicorn, with limits that it does not have itself.

- A message has a largest size by path. What all connections hold together beyond 64 KiB each (messages that have not
  arrived whole, or that the application has not taken) has a limit too: a connection that goes over it is closed with
  1013.
- The socket is read when the application asks for the next message, not before.
- The application can ask whether the peer answered the close, and whether it has gone while the socket is not read.

Uvicorn's class is extended at the points where it hands over bytes and frames; what is relied on is held by
`tests/interfaces/api/test_websocket_protocol.py`.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any

from speechpipe.interfaces.api.connections import SocketConnection
from speechpipe.serving.live.budget import ByteBudget

EXTENSION = "speechpipe.connection"
"""Where the protocol object stands among the extensions of the scope."""

SLICE_BYTES = 16 * 1024
"""Bytes parsed at once: a message of one byte is an object of some hundred, and 256 KiB can hold 40,000 of them."""

DEFAULT_MESSAGE_BYTES = 64 * 1024
TRY_AGAIN_LATER = 1013
GONE_STATES = {7, 8, 9}  # CLOSE, CLOSE_WAIT, LAST_ACK in linux/tcp.h: the peer has closed or reset


class LimitedWebSocket(SocketConnection):
    """One connection; everything runs on the event loop."""

    budget: ByteBudget
    limits: Mapping[str, int]  # path -> largest message in bytes
    on_refused: Callable[[], None]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._held = self.budget.holder()
        self._raw = bytearray()  # received and not parsed
        self._queued = 0  # bytes of whole messages that the application has not taken
        self.close_answered = False  # the peer has had everything that was sent before our close
        self.over = asyncio.Event()  # the closing handshake is complete, or the connection is lost

    # ---- bytes in ----

    def data_received(self, data: bytes) -> None:
        """Keep bytes; parse as many as there is a use for."""
        if self._deaf:
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
        reason = "too many large messages at once; come back, and send smaller ones"
        self.conn.fail(TRY_AGAIN_LATER, reason)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": TRY_AGAIN_LATER, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self._raw.clear()
        self._held.set(0)
        self.transport.close()

    def handle_cont(self, event: Any) -> None:
        """Add to the message at once: a list of fragments of one byte would take forty times their size."""
        frames: list[Any] = self.frames
        if not isinstance(frames[0], bytearray):
            frames[0] = bytearray(frames[0])
        frames[0] += event.data
        if event.fin:
            frames[0] = bytes(frames[0])
            self.send_receive_event_to_app()

    def send_receive_event_to_app(self) -> None:
        """Queue a whole message, unless the budget has no room for it."""
        self._account()
        if self._closing:
            return
        size = sum(len(frame) for frame in self.frames)
        super().send_receive_event_to_app()
        if self.read_paused:
            self._queued += size

    def taken(self) -> None:
        """Note that the application has done with the messages it was given."""
        if self.queue.empty():
            self._queued = 0
            self._account()

    async def receive(self) -> Any:
        """Return the next message; the socket is read only while somebody waits here."""
        if self.read_paused and self.queue.empty():
            self._queued = 0
            self.read_paused = False
            self._parse()
            if not self.read_paused and not self._closing:
                self.transport.resume_reading()
        return await self.queue.get()

    # ---- the connection's life ----

    def handle_connect(self, event: Any) -> None:
        """Let the application find this object; from here on the path's limit holds."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            extensions: dict[Any, Any] = self.scope.setdefault("extensions", {})
            extensions[EXTENSION] = self
            path = self.scope["path"]  # a proxy may have left its prefix in it
            limits = (limit for ending, limit in self.limits.items() if path.endswith(ending))
            self.conn.max_message_size = next(limits, DEFAULT_MESSAGE_BYTES)

    def keepalive_timeout(self) -> None:
        """Wait on where the answer may lie unread because the application has not asked for the next message."""
        if self.read_paused and not self.peer_gone:
            self.pong_timer = self.loop.call_later(self.ping_timeout or 0.0, self.keepalive_timeout)
        else:
            super().keepalive_timeout()

    def handle_close(self, event: Any) -> None:
        """Note that the peer has answered the close: it has had everything that was sent before."""
        if self.close_sent:
            self.close_answered = True
            self.over.set()
        super().handle_close(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Hold nothing any more."""
        self.over.set()
        self._raw.clear()
        self._held.set(0)
        super().connection_lost(exc)

    @property
    def peer_gone(self) -> bool:
        """Whether the peer has closed its end; asks the kernel, because a socket that is not read does not say so."""
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
    """Return the class of a server's websockets.

    Args:
        budget: what all of them may hold together.
        limits: largest message in bytes by path; `DEFAULT_MESSAGE_BYTES` elsewhere.
        on_refused: called when a connection is closed because of the budget.
    """
    return type(
        "LimitedWebSocket",
        (LimitedWebSocket,),
        {"budget": budget, "limits": dict(limits), "on_refused": staticmethod(on_refused)},
    )
