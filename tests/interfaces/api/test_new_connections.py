"""Connections until the head of their first request has arrived, on a real server."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

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
        self.registry = Connections(Limits(most, 8, 0, head_s, 30.0), self.refused.append)
        http, sockets = protocols(self.registry)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        config = uvicorn.Config(self._app, http=http, ws=sockets, interface="asgi3", lifespan="off", log_level="error")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._listening],), daemon=True)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.order.append(scope["path"])
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

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
