"""What websockets may cost, held by a real server and real clients."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from speechpipe.interfaces.api.connection_limits import Limits
from speechpipe.interfaces.api.connection_registry import Connections
from speechpipe.interfaces.api.connections import protocols
from speechpipe.interfaces.api.websocket_protocol import DEFAULT_MESSAGE_BYTES, EXTENSION, LimitedWebSocket, limited
from speechpipe.serving.live.budget import FREE_BYTES, ByteBudget
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio
LARGE = 600_000


class Application:
    """Takes messages when it is allowed to, closes when it is told to."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.protocols: list[LimitedWebSocket] = []
        self.go_on = threading.Event()
        self.close = False
        self.answered: list[bool] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        protocol: LimitedWebSocket = scope["extensions"][EXTENSION]
        self.protocols.append(protocol)
        await receive()
        await send({"type": "websocket.accept"})
        if self.close:
            await send({"type": "websocket.close", "code": 1000})
            await asyncio.wait_for(protocol.over.wait(), 30)
            self.answered.append(protocol.close_answered)
            return
        while (message := await receive())["type"] == "websocket.receive":
            self.messages.append(message.get("bytes") or message.get("text"))
            while not self.go_on.is_set():
                await asyncio.sleep(0.01)
            protocol.taken()


class Running:
    """A server on a thread of its own."""

    def __init__(self) -> None:
        self.app, self.budget, self.refused = Application(), ByteBudget(10**6), list[int]()
        bounded = limited(self.budget, {"/large": 8 * 2**20}, lambda: self.refused.append(1))
        registry = Connections(Limits(100, 8, 0, 30.0, 30.0), lambda _: None)
        http, sockets = protocols(registry, bounded)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listening.getsockname()[1]}"
        config = uvicorn.Config(
            self.app, http=http, ws=sockets, ws_max_size=8 * 2**20, lifespan="off", log_level="error"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._listening],), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.app.go_on.set()
        self._server.should_exit = True
        self._thread.join(30)


@pytest.fixture
def running() -> Iterator[Running]:
    server = Running()
    yield server
    server.stop()


@asynccontextmanager
async def client(running: Running, path: str = "/large") -> AsyncIterator[ClientConnection]:
    async with connect(running.url + path, max_size=None, compression=None, ping_interval=None) as ws:
        yield ws


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def test_a_message_in_thousands_of_fragments_is_one_message(running: Running) -> None:
    running.app.go_on.set()
    async with client(running) as ws:
        await ws.send([b"ab"] * 20_000)
        await ws.send(["x", "yz", ""] * 100)
        await until(lambda: len(running.app.messages) == 2)
    assert running.app.messages == [b"ab" * 20_000, "xyz" * 100]


async def test_a_path_has_its_own_largest_message(running: Running) -> None:
    running.app.go_on.set()
    async with client(running, "/small") as ws:
        await ws.send(bytes(DEFAULT_MESSAGE_BYTES))
        await until(lambda: len(running.app.messages) == 1)
        await ws.send(bytes(DEFAULT_MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed):
            await ws.recv()
        assert ws.close_code == 1009
    async with client(running) as ws:
        await ws.send(bytes(LARGE))
        await until(lambda: len(running.app.messages) == 2)


async def test_all_connections_share_a_budget_and_who_goes_over_it_is_closed(running: Running) -> None:
    async with client(running) as first, client(running) as second, client(running) as third:
        await first.send(bytes(LARGE))
        await until(lambda: len(running.app.messages) == 1)
        assert running.budget.held == LARGE - FREE_BYTES
        await second.send(b"small ones go on")
        await until(lambda: len(running.app.messages) == 2)
        await third.send(bytes(LARGE))
        with pytest.raises(ConnectionClosed):
            await third.recv()
        assert third.close_code == 1013
        assert running.refused == [1]
        await until(lambda: running.budget.held == LARGE - FREE_BYTES)
        running.app.go_on.set()
        await until(lambda: running.budget.held == 0)
        await first.send(bytes(LARGE))
        await until(lambda: len(running.app.messages) == 3)
    assert [len(message) for message in running.app.messages].count(LARGE) == 2, "the refused one was not handed over"


async def test_a_peer_that_waits_for_the_application_is_not_taken_for_dead(running: Running) -> None:
    async with client(running) as ws:
        for _ in range(50):
            await ws.send(bytes(20_000))
        await until(lambda: len(running.app.messages) == 1)
        (protocol,) = running.app.protocols
        for call in (protocol.send_keepalive_ping, protocol.keepalive_timeout):
            protocol.loop.call_soon_threadsafe(call)  # as if the pong, which lies behind the messages, were late
        running.app.go_on.set()
        await until(lambda: len(running.app.messages) == 50)


async def test_half_a_message_counts_and_is_let_go_with_its_connection(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
    head = "GET /large HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write((head + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n").encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"\x82\xff" + (5 * 2**20).to_bytes(8, "big") + bytes(4) + bytes(400_000))
    await until(lambda: running.budget.held > 300_000)
    writer.transport.abort()
    await until(lambda: running.budget.held == 0)


async def test_nothing_is_read_that_nobody_asked_for(running: Running) -> None:
    async with client(running) as ws:
        for number in range(2000):
            await ws.send(f"{number:04}")
        await until(lambda: len(running.app.messages) == 1)
        (protocol,) = running.app.protocols
        await asyncio.sleep(0.2)
        assert protocol.queue.qsize() < 2000, "messages are parsed in slices"
        running.app.go_on.set()
        await until(lambda: len(running.app.messages) == 2000)
    assert running.app.messages == [f"{number:04}" for number in range(2000)]


async def test_a_peer_that_goes_while_its_socket_is_not_read_is_noticed(running: Running) -> None:
    async with client(running) as ws:
        for _ in range(50):
            await ws.send(bytes(20_000))
        await until(lambda: len(running.app.messages) == 1)
        (protocol,) = running.app.protocols
        assert not protocol.peer_gone
        ws.transport.abort()
        await until(lambda: protocol.peer_gone)


@pytest.mark.parametrize("answers", [True, False])
async def test_the_application_learns_whether_its_close_was_answered(running: Running, answers: bool) -> None:
    running.app.close = True
    reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
    head = "GET /large HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write((head + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n").encode())
    await reader.readuntil(b"\r\n\r\n")
    close = await reader.readexactly(4)
    assert close == b"\x88\x02\x03\xe8"
    if answers:
        writer.write(b"\x88\x82" + bytes(4) + b"\x03\xe8")
        await reader.read()
    else:
        writer.transport.abort()
    await until(lambda: len(running.app.answered) == 1)
    assert running.app.answered == [answers]
    writer.close()
