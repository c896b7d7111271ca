"""Connections until the head of their first request has arrived, on a real server."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from speechpipe.interfaces.api import connections
from speechpipe.interfaces.api.connection_limits import Limits
from speechpipe.interfaces.api.connection_registry import Connections
from speechpipe.interfaces.api.connections import protocols
from tests.patience import PATIENCE_S

POST = b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"
GET = b"GET /short HTTP/1.1\r\nHost: x\r\n\r\n"


class Running:
    """A server on a thread of its own; the application notes the order of requests and answers with their bodies."""

    def __init__(self, most: int = 100, head_s: float = 60.0) -> None:
        self.order: list[str] = []
        self.refused: list[str] = []
        self.gone, self.answer_now = threading.Event(), threading.Event()
        self.registry = Connections(Limits(most, 8, 0, head_s, 30.0), self.refused.append)
        http, sockets = protocols(self.registry)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        config = uvicorn.Config(self._app, http=http, ws=sockets, interface="asgi3", lifespan="off", log_level="error")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._listening],), daemon=True)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.order.append(scope["path"])
        if scope["path"] == "/slow":
            await self._wait(receive)
        body = b""
        more = scope["path"] != "/slow"
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _wait(self, receive: Any) -> None:
        """Answer when the test allows it, or end when the client is gone."""
        await receive()
        disconnected = asyncio.create_task(receive())
        while not self.answer_now.is_set():
            done, _ = await asyncio.wait([disconnected], timeout=0.02)
            if done:
                self.gone.set()
                return
        disconnected.cancel()

    def start(self) -> None:
        self._thread.start()

    def connect(self, *parts: bytes) -> socket.socket:
        made = socket.create_connection(self._listening.getsockname(), timeout=PATIENCE_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            made.sendall(part)
        return made

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


@pytest.fixture
def server() -> Iterator[Running]:
    running = Running()
    running.start()
    yield running
    running.stop()


def half_closed(server: Running, data: bytes) -> bytes:
    """What is answered to a client that sends `data` and closes its sending side."""
    connection = server.connect(data)
    connection.shutdown(socket.SHUT_WR)
    return everything(connection)


def everything(connection: socket.socket) -> bytes:
    with connection:
        data = b""
        while part := connection.recv(65536):
            data += part
        return data


def until(connection: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        part = connection.recv(65536)
        assert part, data
        data += part
    return data


@pytest.mark.parametrize("head", [POST % 1, (POST % 1).replace(b"\r\n", b"\n")], ids=["crlf", "lf"])
def test_a_head_may_arrive_byte_by_byte(server: Running, head: bytes) -> None:
    with server.connect(*[bytes([byte]) for byte in head]) as connection:
        assert until(connection, b"ab").startswith(b"HTTP/1.1 200")


def test_what_follows_the_first_request_at_once_is_answered_too(server: Running) -> None:
    with server.connect(POST % 1 + GET + POST % 2) as connection:
        assert until(connection, b"ab").count(b"HTTP/1.1 200") >= 1
        while len(server.order) < 3:
            connection.recv(65536)
    assert server.order == ["/1", "/short", "/2"]


def test_what_is_not_http_is_refused_before_a_head_is_whole(server: Running) -> None:
    assert everything(server.connect(b"\x16\x03\x01\x02\x00\x01")).startswith(b"HTTP/1.1 400")
    assert everything(server.connect(b"GET / HTTP/1.1\r\nA: " + b"a" * 40_000)).startswith(b"HTTP/1.1 400")
    assert server.refused == ["bad_http", "bad_http"]


@pytest.mark.parametrize(
    "crowd", [POST, b"GET /%d HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 4000 + b"\r\n\r\n"], ids=["body", "long head"]
)
def test_a_short_request_does_not_wait_for_a_crowd_of_others(crowd: bytes) -> None:
    running = Running()
    clients = [running.connect(crowd % number) for number in range(50)]
    clients.append(running.connect(GET))  # the last that connects; all wait for the server to start
    running.start()
    for client in clients[:-1]:
        with client:
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
    assert running.order.index("/short") < 30
    assert [path for path in running.order if path != "/short"] == [f"/{number}" for number in range(50)]
    clients[-1].close()
    running.stop()


def test_a_request_that_waits_for_its_turn_gives_way_to_nobody() -> None:
    running = Running(most=20)
    clients = [running.connect(POST % number) for number in range(20)]
    refused = [running.connect(b"G") for _ in range(3)]
    running.start()
    for client in clients:
        with client:
            assert until(client, b"ab").startswith(b"HTTP/1.1 200")
    for client in refused:
        client.close()
    running.stop()


def test_a_client_that_goes_while_it_waits_for_its_turn_holds_up_nobody() -> None:
    running = Running()
    clients = [running.connect(POST % number) for number in range(20)]
    for client in clients[1::2]:
        client.close()
    running.start()
    for client in clients[::2]:
        with client:
            assert until(client, b"ab").startswith(b"HTTP/1.1 200")
    running.stop()
    assert len(running.registry) == 0


def test_heads_that_are_late_are_given_up_in_the_order_of_their_arrival() -> None:
    running = Running(head_s=0.3)
    running.start()
    late = [running.connect(b"GET / HT") for _ in range(5)]
    for one in late:
        assert b"header_timeout" in everything(one)
    assert running.refused == ["header_timeout"] * 5
    running.stop()


def test_a_stop_closes_connections_without_a_request(server: Running) -> None:
    half = server.connect(b"GET / HT")
    with server.connect(GET) as whole:
        until(whole, b"\r\n\r\n")
        server.stop()
    assert everything(half) == b""
    assert len(server.registry) == 0


def test_the_oldest_connection_without_a_request_gives_way() -> None:
    running = Running(most=3)
    running.start()
    with running.connect(GET) as busy:
        until(busy, b"\r\n\r\n")
        held = [running.connect(b"G") for _ in range(5)]
        for one in held[:3]:
            assert b"connection_given_up" in everything(one)
        for one in held[3:]:
            with one:
                one.sendall(GET[1:])
                assert until(one, b"\r\n\r\n").startswith(b"HTTP/1.1 200")
    running.stop()


@pytest.mark.parametrize(
    ("data", "paths"),
    [
        (GET, ["/short"]),
        (POST % 1, ["/1"]),
        (POST % 1 + GET + POST % 2, ["/1", "/short", "/2"]),
        (b"POST /3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", ["/3"]),
        (b"POST /4 HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + b"a" * 300_000, ["/4"]),
        (b"GET /5 HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 4000 + b"\r\n\r\n", ["/5"]),
    ],
    ids=["get", "post", "pipelined", "chunked", "large", "long head"],
)
def test_a_client_that_closes_its_sending_side_gets_its_answers(server: Running, data: bytes, paths: list[str]) -> None:
    for _ in range(5):  # the end may come with the request or after it
        server.order.clear()
        answers = half_closed(server, data)
        assert (server.order, answers.count(b"HTTP/1.1 200")) == (paths, len(paths))
    server.stop()
    assert len(server.registry) == 0
    assert not server.refused


@pytest.mark.parametrize(
    "data",
    [
        b"GET /short HTTP/1.1\r\nHo",
        b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na",
        b"POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 300001\r\n\r\n" + b"a" * 300_000,
        GET + b"GET /short HT",
    ],
    ids=["head", "body", "chunks", "large", "second head"],
)
def test_a_request_that_ends_too_early_is_answered_so(server: Running, data: bytes) -> None:
    last = half_closed(server, data).rpartition(b"HTTP/1.1 ")[2]
    assert last.startswith(b"400")
    assert b"ended before the request was complete" in last


def test_nothing_is_answered_to_nothing(server: Running) -> None:
    assert half_closed(server, b"") == b""
    assert half_closed(server, GET).count(b"HTTP/1.1") == 1
    assert not server.refused


def test_a_half_closed_client_that_waits_gets_its_answer_and_one_that_is_gone_ends_its_request(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PROBE_S", 0.05)
    slow = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    waiting = server.connect(slow)
    waiting.shutdown(socket.SHUT_WR)
    assert until(waiting, b"\r\n\r\n").startswith(b"HTTP/1.1 100")
    server.answer_now.set()
    assert b"HTTP/1.1 200" in everything(waiting)
    assert not server.gone.is_set()
    server.answer_now.clear()
    server.connect(slow).close()
    assert server.gone.wait(PATIENCE_S)


UPGRADE = b"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
NONCE = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n" + UPGRADE + NONCE + b"Content-Length: 5\r\n\r\nhello",
        b"GET / HTTP/1.1\r\n" + UPGRADE + NONCE + b"Content-Length: 20000\r\n\r\n" + b"x" * 20_000,
        b"GET / HTTP/1.1\r\n" + UPGRADE + NONCE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + UPGRADE + NONCE + b"Content-Length: 2\r\n\r\n{}",
        b"POST / HTTP/1.1\r\n" + UPGRADE + NONCE + b"\r\n",
        b"HEAD / HTTP/1.1\r\n" + UPGRADE + NONCE + b"\r\n",
        b"GET / HTTP/1.1\r\n" + UPGRADE + NONCE + b"X: \xff\xfe\r\nCookie: \x80\r\n" + UPGRADE + b"\r\n",
        b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\n",
    ],
    ids=["body", "large body", "chunked", "post with body", "post", "head", "twice", "no key"],
)
def test_every_handshake_that_cannot_be_one_is_answered(server: Running, data: bytes) -> None:
    connection = server.connect(data)
    answer = connection.recv(65536)
    connection.close()
    assert answer.startswith(b"HTTP/1.1 4")
    assert b"\r\n\r\n" in answer
