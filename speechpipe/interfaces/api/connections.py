"""Connections below the application: the time limits of request heads, and how connections are closed.

Subclasses of uvicorn's protocols, used on the event loop only. What they refuse is answered as JSON and counted.
A connection becomes an `HttpConnection` when the head of its first request has arrived (`new_connections.py`).
"""

import asyncio
import logging
from http import HTTPStatus
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from speechpipe.interfaces.api.connection_registry import Connections
from speechpipe.interfaces.api.new_connections import NewConnection, refusal

log = logging.getLogger(__name__)

MOST_LINE_BYTES = 8 * 1024 - 64
"""The longest header line of a websocket's request: the websocket library accepts lines of up to 8 KiB."""

MOST_HEADERS = 100

FIRST_BYTES = 16 * 1024
"""What arrives with a request's head beyond this is parsed when the application asks for it, which it does not if it
refuses the upload."""

PROBE_S = 2.0
"""The first pause before a client that has closed its sending side is sent `STILL_THERE`; the pauses double."""

STILL_THERE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""An interim response, which clients ignore (RFC 9110, 15.2). The system of a client that is gone refuses it, and the
next write fails. Nothing else tells whether a client that has closed its sending side still reads."""


INCOMPLETE = refusal(HTTPStatus.BAD_REQUEST, "bad_http", "the connection ended before the request was complete")


class _Transport:
    """A transport whose `close` calls that of its connection."""

    def __init__(self, raw: asyncio.Transport, connection: "HttpConnection | SocketConnection") -> None:
        self.raw = raw
        self.connection = connection
        self.close = connection.close
        if isinstance(connection, HttpConnection):
            self.resume_reading = connection.resume_reading

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


class HttpConnection(H11Protocol):
    """An HTTP connection. Created by uvicorn, which gets the class from `protocols`."""

    registry: Connections

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._raw: asyncio.Transport
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._deaf = False
        self._rest: memoryview | None = None  # arrived with a head, not parsed yet
        self._handed_over = False  # a websocket has taken over the connection
        self._ended = False  # the client has closed its sending side
        self._probe_timer: asyncio.TimerHandle | None = None
        self._probe_s = PROBE_S

    # ---- uvicorn's protocol ----

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the transport. The connection is registered already."""
        self._raw = transport
        super().connection_made(cast(asyncio.Transport, _Transport(transport, self)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection's state and timers."""
        self._deaf = True
        self._rest = None
        self.registry.gone(self)
        for timer in (self._head_timer, self._send_timer, self._probe_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process received data, or discard it if the answer was already sent."""
        if self._deaf:
            self.registry.discarded(self)
            return
        if len(data) <= FIRST_BYTES or self._in_work:
            super().data_received(data)
            return
        super().data_received(data[:FIRST_BYTES])
        if not self._handed_over:
            self._keep_rest(memoryview(data)[FIRST_BYTES:])

    def eof_received(self) -> bool:  # type: ignore[override]
        """Return whether the connection stays open: a client may close its sending side after a whole request."""
        if self._deaf or self._handed_over:
            return False
        self._ended = True
        self._answer_last()
        return not self._raw.is_closing()

    def _keep_rest(self, rest: memoryview) -> None:
        self._rest = rest
        if self._in_work:
            self.flow.pause_reading()
        else:
            self._take_rest()

    def resume_reading(self) -> None:
        """Resume reading, beginning with data that has already arrived. Called by uvicorn."""
        self._take_rest()
        if not self._deaf and not self.flow.read_paused:
            self._raw.resume_reading()

    def _take_rest(self) -> None:
        rest, self._rest = self._rest, None
        if rest is not None and not self._deaf:
            super().data_received(cast(bytes, rest))

    def handle_events(self) -> None:
        """Extend uvicorn's method: note whether a request is being processed."""
        super().handle_events()
        self._look()

    def on_response_complete(self) -> None:
        """Extend uvicorn's method: wait for the next request."""
        super().on_response_complete()
        self._look()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand over to a websocket, unless its parser would refuse the head."""
        if len(event.target) > MOST_LINE_BYTES:
            self._turn_away(HTTPStatus.REQUEST_URI_TOO_LONG, "request_too_long", "the path and query are too long")
            return
        lines = [len(name) + len(value) for name, value in event.headers]
        if len(lines) > MOST_HEADERS or max(lines, default=0) > MOST_LINE_BYTES:
            text = f"a websocket's request has at most {MOST_HEADERS} headers of {MOST_LINE_BYTES} bytes"
            self._turn_away(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "request_too_long", text)
            return
        headers = dict(event.headers)
        if event.method != b"GET" or b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0":
            self._turn_away(HTTPStatus.BAD_REQUEST, "bad_http", "the request of a websocket is a GET without a body")
            return
        self._handed_over = True
        if self._send_timer is not None:
            self._send_timer.cancel()  # the websocket watches whether its client reads
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        """Answer input that is not HTTP."""
        del msg
        self._turn_away(HTTPStatus.BAD_REQUEST, "bad_http", "this is not an HTTP/1.1 request")

    def pause_writing(self) -> None:
        """Give the client up if it keeps reading too slowly."""
        super().pause_writing()
        self._send_timer = self.loop.call_later(self.registry.limits.send_s, self._give_up_sending)

    def resume_writing(self) -> None:
        """Stop the timer: the client reads again."""
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def shutdown(self) -> None:
        """Close after the answer to the present request, at once if there is none."""
        if self._deaf:
            self._raw.close()
        else:
            super().shutdown()

    # ---- additions to uvicorn's protocol ----

    def abort(self) -> None:
        """Close the connection without an answer."""
        self._raw.abort()

    @property
    def _in_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look(self) -> None:
        if self._deaf or self._raw.is_closing() or self._handed_over:
            self._expect_head(stop=True)  # a websocket has no further head, and its bytes go elsewhere
        elif self._in_work:
            self._expect_head(stop=True)
            self.registry.busy(self)
        else:
            self.registry.waiting(self)
            if self.timeout_keep_alive_task is None:  # a part of the next head has arrived
                self._expect_head()
        if self._ended:
            self._answer_last()

    def _answer_last(self) -> None:
        """Close as soon as all requests that arrived before the client's end are answered."""
        if self._deaf or self._raw.is_closing() or self._rest is not None:  # the rest may complete a request
            return
        if not self._in_work:
            if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0].strip():
                self.registry.refuse("bad_http")
                self._raw.write(INCOMPLETE)
            self._raw.close()
        elif self.cycle.more_body:
            if not self.cycle.response_started:
                self._raw.write(INCOMPLETE)
            self._deaf = True
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._raw.close()
        elif self._probe_timer is None:
            self._probe_timer = self.loop.call_later(self._probe_s, self._probe)

    def _probe(self) -> None:
        self._probe_timer = None
        if self._in_work and not self._raw.is_closing():
            if not self.cycle.response_started and self.scope["http_version"] == "1.1":
                self._raw.write(STILL_THERE)
            self._probe_s *= 2
            self._answer_last()

    def _expect_head(self, *, stop: bool = False) -> None:
        if self._head_timer is not None and (stop or self._head_timer.cancelled()):
            self._head_timer.cancel()
            self._head_timer = None
        if self._head_timer is None and not stop:
            self._head_timer = self.loop.call_later(self.registry.limits.head_s, self._head_late)

    def _head_late(self) -> None:
        self._head_timer = None
        self._turn_away(HTTPStatus.REQUEST_TIMEOUT, "header_timeout", "the head of the request did not arrive in time")

    def _give_up_sending(self) -> None:
        self.registry.refuse("client_not_reading")
        self.abort()

    def _turn_away(self, status: HTTPStatus, cause: str, text: str) -> None:
        """Answer without the application, and close."""
        self.registry.refuse(cause)
        self._raw.write(refusal(status, cause, text))
        self._linger()

    def close(self) -> None:
        """Close; if the client is still sending, let it read its answer first. Also called for a websocket."""
        if self.conn.their_state is h11.SEND_BODY and not self._deaf and not self._handed_over:
            self._linger()
        else:
            self._raw.close()

    def _linger(self) -> None:
        self._deaf = True
        self._rest = None
        self._expect_head(stop=True)
        self.registry.linger(self, self._raw)


class SocketConnection(WebSocketsSansIOProtocol):
    """A websocket connection. Created by `HttpConnection`."""

    registry: Connections

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deaf = False  # closed by this side; further data of the client is discarded

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over from the HTTP connection."""
        if isinstance(transport, _Transport) and isinstance(transport.connection, HttpConnection):
            self.registry.handed_over(transport.connection, self)
            transport = cast(asyncio.Transport, _Transport(transport.raw, self))
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection's state."""
        self.registry.gone(self)
        super().connection_lost(exc)

    def close(self) -> None:
        """Close; a client that has not closed its side may still be sending and must first read the close reason."""
        transport = cast(Any, self.transport)
        raw: asyncio.Transport = getattr(transport, "raw", transport)
        if self.conn.close_rcvd is not None or self._deaf:
            raw.close()
            return
        self._deaf = True
        self.registry.linger(self, raw)

    async def send(self, message: Any) -> None:
        """Extend uvicorn's method, which treats a refused handshake as unanswered and logs an error."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True

    def data_received(self, data: bytes) -> None:
        """Extend uvicorn's method, which ignores that the parser refused a handshake: send its answer and close."""
        if self._deaf:
            self.registry.discarded(self)
            return
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.registry.refuse("bad_http")
            self.handshake_complete = self.close_sent = True
            given = b"".join(self.conn.data_to_send())  # empty if the head could not be parsed
            self.transport.write(given or refusal(HTTPStatus.BAD_REQUEST, "bad_http", "this is not a handshake"))
            self.transport.close()


def protocols(
    registry: Connections, socket: type[SocketConnection] = SocketConnection
) -> tuple[type[NewConnection], type[SocketConnection]]:
    """Return the protocol classes for uvicorn, of connections and websockets (`socket` is the latter's base)."""
    http = type("Http", (HttpConnection,), {"registry": registry})
    new = type("New", (NewConnection,), {"registry": registry, "http": http})
    return new, type("Socket", (socket,), {"registry": registry})
