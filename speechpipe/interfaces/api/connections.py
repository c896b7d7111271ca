"""Connections below the application: how many, how long a head may take, and how one ends.

Subclasses of uvicorn's protocols, used on the event loop only. What they refuse is answered as JSON and counted; a
connection that waits for a request gives way to a new one when all places are taken, so that whoever opens many and
sends nothing shuts out nobody.
"""

import asyncio
import json
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from speechpipe.interfaces.api.connection_limits import Limits
from speechpipe.interfaces.api.lingering import Lingering

log = logging.getLogger(__name__)

MOST_LINE_BYTES = 8 * 1024 - 64
"""Of a line in the head of a websocket's request: the websocket library takes lines of 8 KiB at most."""

MOST_HEADERS = 100

FIRST_BYTES = 16 * 1024
"""Of what comes with the head of a request: the rest is parsed when the application asks for it. Of many uploads that
are refused, nobody does."""

Refuse = Callable[[str], None]


class Connections:
    """All open connections of a server."""

    def __init__(self, limits: Limits, refuse: Refuse) -> None:
        self.limits = limits
        self.refuse = refuse
        self._open: dict[asyncio.Protocol, str] = {}
        self._of: Counter[str] = Counter()
        self._lingering = Lingering(limits.most_lingering)
        self._strangers: OrderedDict[HttpConnection, None] = OrderedDict()  # never sent a whole head
        self._idle: OrderedDict[HttpConnection, None] = OrderedDict()  # between two requests

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: "HttpConnection", address: str) -> bool:
        """Take a connection in, in the place of one that waits for a request if need be; False: there is no place."""
        most = self.limits.most_per_address
        if most and self._of[address] >= most:
            return False
        if len(self._open) >= self.limits.most and not self._make_room():
            return False
        self._open[connection] = address
        self._of[address] += 1
        self._strangers[connection] = None
        return True

    def _make_room(self) -> bool:
        if self._strangers:
            oldest, _ = self._strangers.popitem(last=False)
            oldest.give_way()  # of many clients that come at the same moment everybody gets an answer
        elif self._idle:
            self.gone(oldest := next(iter(self._idle)))
            self.refuse("connection_given_up")
            oldest.abort()
        else:
            return False
        return True

    def waiting(self, connection: "HttpConnection") -> None:
        """Note that a connection waits for its next request."""
        if connection in self._open and connection not in self._strangers:
            self._idle[connection] = None

    def busy(self, connection: "HttpConnection") -> None:
        """Note that a request is in work."""
        self._strangers.pop(connection, None)
        self._idle.pop(connection, None)

    def handed_over(self, connection: "HttpConnection", to: asyncio.Protocol) -> None:
        """Note that a websocket goes on with the connection."""
        self.busy(connection)
        if (address := self._open.pop(connection, None)) is not None:
            self._open[to] = address

    def gone(self, connection: asyncio.Protocol) -> None:
        """Note that a connection has ended."""
        self._leave(connection)
        self._lingering.gone(connection)

    def _leave(self, connection: asyncio.Protocol) -> None:
        if (address := self._open.pop(connection, None)) is not None:
            self._of[address] -= 1
            if not self._of[address]:
                del self._of[address]
        if isinstance(connection, HttpConnection):
            self.busy(connection)

    def linger(self, connection: asyncio.Protocol, transport: asyncio.Transport) -> None:
        """Close a connection that has its whole answer, after its client has had time to read it.

        The connection gives up its place among those that are counted.
        """
        if connection not in self._lingering:
            self._leave(connection)
            self._lingering.add(connection, transport)

    def discarded(self, connection: asyncio.Protocol) -> None:
        """Note that something came for a connection that lingers, and was thrown away."""
        self._lingering.came(connection)


class _Transport:
    """A transport whose `close` is its connection's."""

    def __init__(self, raw: asyncio.Transport, connection: "HttpConnection | SocketConnection") -> None:
        self.raw = raw
        self.connection = connection
        self.close = connection.close
        if isinstance(connection, HttpConnection):
            self.resume_reading = connection.resume_reading

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


class HttpConnection(H11Protocol):
    """An HTTP connection. Made by uvicorn through `protocols`."""

    registry: Connections

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._raw: asyncio.Transport
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._deaf = False
        self._rest: memoryview | None = None  # of what came with a head, not parsed yet
        self._handed_over = False  # a websocket goes on with the connection

    # ---- uvicorn's protocol ----

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection in, or answer 503."""
        self._raw = transport
        super().connection_made(cast(asyncio.Transport, _Transport(transport, self)))
        if not self.registry.admit(self, self.client[0] if self.client else ""):
            text = "too many connections are open; try again later"
            self._turn_away(HTTPStatus.SERVICE_UNAVAILABLE, "too_many_connections", text)
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._deaf = True
        self._rest = None
        self.registry.gone(self)
        for timer in (self._head_timer, self._send_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what the client sends, unless its answer has been given already."""
        if self._deaf:
            self.registry.discarded(self)
            return
        if len(data) <= FIRST_BYTES or self._in_work:
            super().data_received(data)
            return
        super().data_received(data[:FIRST_BYTES])
        if not self._handed_over:
            self._keep_rest(memoryview(data)[FIRST_BYTES:])

    def _keep_rest(self, rest: memoryview) -> None:
        self._rest = rest
        if self._in_work:
            self.flow.pause_reading()
        else:
            self._take_rest()

    def resume_reading(self) -> None:
        """Go on reading; first with what has come already. Called by uvicorn."""
        self._take_rest()
        if not self._deaf and not self.flow.read_paused:
            self._raw.resume_reading()

    def _take_rest(self) -> None:
        rest, self._rest = self._rest, None
        if rest is not None and not self._deaf:
            super().data_received(cast(bytes, rest))

    def handle_events(self) -> None:
        """As uvicorn does; then note whether a request is in work."""
        super().handle_events()
        self._look()

    def on_response_complete(self) -> None:
        """As uvicorn does; then wait for the next request."""
        super().on_response_complete()
        self._look()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand over to a websocket, unless its parser would not take the head."""
        if len(event.target) > MOST_LINE_BYTES:
            self._turn_away(HTTPStatus.REQUEST_URI_TOO_LONG, "request_too_long", "the path and query are too long")
            return
        lines = [len(name) + len(value) for name, value in event.headers]
        if len(lines) > MOST_HEADERS or max(lines, default=0) > MOST_LINE_BYTES:
            text = f"a websocket's request has at most {MOST_HEADERS} headers of {MOST_LINE_BYTES} bytes"
            self._turn_away(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "request_too_long", text)
            return
        self._handed_over = True
        if self._send_timer is not None:
            self._send_timer.cancel()  # whether its client reads is the websocket's to watch
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        del msg
        self._turn_away(HTTPStatus.BAD_REQUEST, "bad_http", "this is not an HTTP/1.1 request")

    def pause_writing(self) -> None:
        """The client reads too slowly: give it up if that goes on."""
        super().pause_writing()
        self._send_timer = self.loop.call_later(self.registry.limits.send_s, self._give_up_sending)

    def resume_writing(self) -> None:
        """It reads."""
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def shutdown(self) -> None:
        """Close when the request in work is answered; at once if there is none."""
        if self._deaf:
            self._raw.close()
        else:
            super().shutdown()

    # ---- our own ----

    def give_way(self) -> None:
        """Answer 503 although no request has arrived, and close."""
        text = "too many connections are open, and this one sent no request yet; try again later"
        self._turn_away(HTTPStatus.SERVICE_UNAVAILABLE, "connection_given_up", text, linger=False)

    def abort(self) -> None:
        """End the connection without a word."""
        self._raw.abort()

    @property
    def _in_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look(self) -> None:
        if self._deaf or self._raw.is_closing() or self._handed_over:
            self._expect_head(stop=True)  # a websocket has no further head, and its bytes are not for this object
        elif self._in_work:
            self._expect_head(stop=True)
            self.registry.busy(self)
        else:
            self.registry.waiting(self)
            if self.timeout_keep_alive_task is None:  # something of the next head has come
                self._expect_head()

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

    def _turn_away(self, status: HTTPStatus, cause: str, text: str, *, linger: bool = True) -> None:
        """Answer without the application, and close; at once where the client has sent nothing that is unread."""
        self.registry.refuse(cause)
        kind = "server_error" if status >= 500 else "invalid_request_error"
        body = json.dumps({"error": {"message": text, "type": kind, "param": None, "code": cause}}).encode()
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        more = "Retry-After: 2\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
        head += f"{more}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        self._raw.write(head.encode() + body)
        self._linger(at_once=not linger)

    def close(self) -> None:
        """Close; if the client is still sending, let it read its answer first. Also called for a websocket."""
        if self.conn.their_state is h11.SEND_BODY and not self._deaf and not self._handed_over:
            self._linger()
        else:
            self._raw.close()

    def _linger(self, *, at_once: bool = False) -> None:
        self._deaf = True
        self._rest = None
        self._expect_head(stop=True)
        if at_once:
            self.registry.gone(self)
            self._raw.close()
        else:
            self.registry.linger(self, self._raw)


class SocketConnection(WebSocketsSansIOProtocol):
    """A websocket. Made by `HttpConnection`."""

    registry: Connections

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deaf = False  # closed by this side; what the client still sends is thrown away

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over from the HTTP connection."""
        if isinstance(transport, _Transport) and isinstance(transport.connection, HttpConnection):
            self.registry.handed_over(transport.connection, self)
            transport = cast(asyncio.Transport, _Transport(transport.raw, self))
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.registry.gone(self)
        super().connection_lost(exc)

    def close(self) -> None:
        """Close; a client that has not closed its side may be sending: let it read first why this side closes."""
        transport = cast(Any, self.transport)
        raw: asyncio.Transport = getattr(transport, "raw", transport)
        if self.conn.close_rcvd is not None or self._deaf:
            raw.close()
            return
        self._deaf = True
        self.registry.linger(self, raw)

    async def send(self, message: Any) -> None:
        """As uvicorn does, which takes a refused handshake for one that was never answered, and logs it."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True

    def data_received(self, data: bytes) -> None:
        """As uvicorn does, which does not see that the parser has refused a handshake: send its answer and close."""
        if self._deaf:
            self.registry.discarded(self)
            return
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.registry.refuse("bad_http")
            self.handshake_complete = self.close_sent = True
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()


def protocols(
    registry: Connections, socket: type[SocketConnection] = SocketConnection
) -> tuple[type[HttpConnection], type[SocketConnection]]:
    """Return the classes that uvicorn makes connections of; `socket` is that of websockets."""
    http = type("Http", (HttpConnection,), {"registry": registry})
    return http, type("Socket", (socket,), {"registry": registry})
