"""Connections until the head of their first request has arrived.

They cost the event loop little, however many clients open connections and send next to nothing: the HTTP parser and
the state of a request are made when a whole head is there. Only short requests start at once. Those with a body, a long
head or an upgrade to a websocket start in turns, so that a crowd of them does not hold up the short ones.
"""

import asyncio
import json
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from speechpipe.interfaces.api.connection_registry import Connections

MOST_HEAD_BYTES = 16 * 1024
"""What is longer is not the head of a request; the HTTP parser refuses it (its limit is the same)."""

WITHOUT_BODY = (b"GET ", b"HEAD ")
MOST_SHORT_BYTES = 2048
UPGRADE = b"\nupgrade:"


@lru_cache(maxsize=64)
def refusal(status: HTTPStatus, cause: str, text: str) -> bytes:
    """Return a whole response. There are few different ones, and thousands may be sent in a second."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = json.dumps({"error": {"message": text, "type": kind, "param": None, "code": cause}}).encode()
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
    more = "Retry-After: 2\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
    return f"{head}{more}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class NewConnection(asyncio.Protocol):
    """A connection that has not sent the head of its first request.

    Created by uvicorn for every connection, with the arguments of its protocols (`uvicorn.Server.startup`), which are
    passed on to `http` when the head is there. Used on the event loop only.
    """

    registry: Connections
    http: Callable[..., asyncio.Protocol]

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._transport: asyncio.Transport
        self._received = b""
        self._deaf = False
        self._in_turn = False

    # ---- called by the event loop ----

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Register the connection, or answer 503."""
        self._transport = transport
        self._options["server_state"].connections.add(self)  # to be closed with the server
        peer = transport.get_extra_info("peername")
        if not self.registry.admit(self, str(peer[0]) if peer else ""):
            text = "too many connections are open; try again later"
            self._turn_away(HTTPStatus.SERVICE_UNAVAILABLE, "too_many_connections", text)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection's state."""
        del exc
        self._deaf = True
        self._received = b""
        self._options["server_state"].connections.discard(self)
        self.registry.gone(self)

    def data_received(self, data: bytes) -> None:
        """Collect the head, and discard data once the connection was turned away."""
        if self._deaf:
            self.registry.discarded(self)
            return
        received = self._received = self._received + data if self._received else data
        if not (b"\n\r\n" in received or b"\n\n" in received or len(received) > MOST_HEAD_BYTES or received[0] <= 32):
            return
        if received.startswith(WITHOUT_BODY) and len(received) <= MOST_SHORT_BYTES and UPGRADE not in received.lower():
            self._hand_over()
        elif not self._in_turn:
            self._in_turn = True
            self._transport.pause_reading()
            self.registry.head_arrived(self)
            self.registry.turns.call(self._my_turn)

    def eof_received(self) -> bool:
        """Return whether the connection stays open: only for a request that has arrived and waits for its turn."""
        if self._received and not self._deaf and not self._in_turn:
            text = "the connection ended before the request was complete"
            self._turn_away(HTTPStatus.BAD_REQUEST, "bad_http", text, linger=False)
        return self._in_turn and not self._deaf

    # ---- called by the registry and the server ----

    def give_way(self) -> None:
        """Answer 503 because a new connection needs the place, and close at once: nothing of the client is unread."""
        text = "too many connections are open, and this one sent no request yet; try again later"
        self._turn_away(HTTPStatus.SERVICE_UNAVAILABLE, "connection_given_up", text, linger=False)

    def head_late(self) -> None:
        """Answer 408 and close."""
        self._turn_away(HTTPStatus.REQUEST_TIMEOUT, "header_timeout", "the head of the request did not arrive in time")

    def shutdown(self) -> None:
        """Close: the server stops. Called by uvicorn."""
        self._transport.close()

    # ---- details ----

    def _my_turn(self) -> None:
        if not self._deaf and not self._transport.is_closing():
            self._transport.resume_reading()
            self._hand_over()

    def _hand_over(self) -> None:
        """Let a new HTTP connection go on with what has arrived."""
        http = self.http(**self._options)
        self._options["server_state"].connections.discard(self)
        self.registry.handed_over(self, http)
        self._transport.set_protocol(http)
        http.connection_made(self._transport)
        received, self._received = self._received, b""
        http.data_received(received)

    def _turn_away(self, status: HTTPStatus, cause: str, text: str, *, linger: bool = True) -> None:
        self.registry.refuse(cause)
        self._deaf = True
        self._received = b""
        self._transport.write(refusal(status, cause, text))
        if linger:
            self.registry.linger(self, self._transport)
        else:
            self.registry.gone(self)
            self._transport.close()
