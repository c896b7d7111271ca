"""Connections of a running server: heads that are half there, limits, refusals that a client can read."""

import contextlib
import json
import socket
import threading
import time
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.conftest import Server, StartServer
from tests.contract.edge import KEY, UPGRADE, answer, head, keyed_server, opened, until
from tests.patience import PATIENCE_S


@pytest.fixture(scope="module")
def keyed(start_server: StartServer) -> Server:
    return keyed_server(start_server)


def test_a_head_that_does_not_come_is_given_up(keyed: Server) -> None:
    before = keyed.metric("speechpipe_requests_refused_total", cause="header_timeout")
    for data in (b"", b"GET /livez HTTP/1.1\r\nX", b"GET /v1/listen HTTP/1.1\r\n" + UPGRADE):
        status, body = answer(opened(keyed, data))
        assert (status, body["error"]["code"]) == (408, "header_timeout")
    assert keyed.metric("speechpipe_requests_refused_total", cause="header_timeout") == before + 3


def test_a_second_head_on_a_connection_is_given_up_too(keyed: Server) -> None:
    connection = opened(keyed, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    data = b""
    while b"alive" not in data:
        data += connection.recv(65536)
    connection.sendall(b"GET /livez HTTP/1.1\r\nX")
    assert answer(connection)[1]["error"]["code"] == "header_timeout"


def test_whoever_opens_many_connections_shuts_out_nobody(keyed: Server) -> None:
    before = keyed.descriptors()
    with contextlib.ExitStack() as held:
        for number in range(300):
            held.enter_context(opened(keyed, b"GET /livez HTTP/1.1\r\nX" if number % 2 else b"G"))
            if number % 30 == 0:
                assert httpx.get(f"{keyed.url}/livez", timeout=PATIENCE_S).status_code == 200
        assert keyed.descriptors() < before + 120
        assert httpx.get(f"{keyed.url}/v1/models", headers=KEY, timeout=PATIENCE_S).status_code == 200
    assert keyed.metric("speechpipe_requests_refused_total", cause="connection_given_up") >= 200


def test_requests_that_come_in_one_piece_are_all_answered_in_order(keyed: Server) -> None:
    short = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    body = json.dumps({"id": "nothing", "text": "x" * 40_000}).encode()
    large = (
        b"POST /v1/feedback HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sesame\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    last = short.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with opened(keyed, short + large + short + large + last) as connection:
        data = b""
        while part := connection.recv(65536):
            data += part
    statuses = [int(line.split()[0]) for line in data.decode().split("HTTP/1.1 ")[1:]]
    assert [statuses[at] for at in (0, 2, 4)] == [200, 200, 200]
    assert statuses[1] == statuses[3]
    assert 400 <= statuses[1] < 500
    assert len(statuses) == 5


@pytest.mark.skipif(not hasattr(socket, "TCP_DEFER_ACCEPT"), reason="this system cannot keep silent connections back")
def test_connections_that_send_nothing_do_not_reach_the_process(keyed: Server) -> None:
    before = keyed.metric("speechpipe_requests_refused_total", cause="connection_given_up")
    with contextlib.ExitStack() as held:
        for _ in range(300):
            held.enter_context(opened(keyed, b""))
        assert httpx.get(f"{keyed.url}/livez", timeout=PATIENCE_S).status_code == 200
        assert keyed.metric("speechpipe_requests_refused_total", cause="connection_given_up") == before


def test_refused_documents_leave_nothing_in_memory(keyed: Server) -> None:
    large = json.dumps([{"a": "x" * 4_000_000}]).encode()
    process = psutil.Process(keyed.process.pid)
    headers = KEY | {"content-type": "application/json"}
    with httpx.Client(base_url=keyed.url, headers=headers, timeout=PATIENCE_S) as client:

        def send(times: int) -> int:
            for _ in range(times):
                refused = client.post("/v1/reviews/import", content=large)
                assert refused.json()["error"]["code"] == "not_label_studio"
            return int(process.memory_info().rss)

        before = send(3)
        assert send(6) < before + 4 * len(large)  # each held three times as much as it is long


def test_clients_that_come_at_the_same_moment_are_all_answered(start_server: StartServer) -> None:
    server = start_server(bundle="scripted", workers="1", live_workers="1", max_connections="12")
    path = "/v1/listen?encoding=linear16&sample_rate=16000"
    upgrade = f"GET {path} HTTP/1.1\r\n".encode() + UPGRADE + b"\r\n"
    with contextlib.ExitStack() as held:
        process = psutil.Process(server.process.pid)
        process.suspend()
        try:
            clients = [held.enter_context(opened(server)) for _ in range(40)]
        finally:
            process.resume()
        until(lambda: server.metric("speechpipe_requests_refused_total", cause="connection_given_up") >= 20)
        for client in clients:
            with contextlib.suppress(OSError):  # it has its answer already, and the server has closed
                client.sendall(upgrade[1:])
        statuses = [int(client.recv(65536).split(maxsplit=2)[1]) for client in clients]
    assert set(statuses) == {101, 503}
    assert statuses.count(101) >= 1


def test_connections_above_the_limit_are_answered_503(start_server: StartServer) -> None:
    server = start_server(bundle="scripted", workers="1", live_workers="1", max_connections="3", header_timeout_s="1")
    with contextlib.ExitStack() as held:
        for _ in range(3):
            held.enter_context(opened(server, head()))
        found: list[tuple[int, dict[str, Any]]] = []

        def refused() -> bool:
            found.append(answer(opened(server)))
            if found[-1][0] != 503:  # one of the three gave way before its head was read
                held.enter_context(opened(server, head()))
            return found[-1][0] == 503

        until(refused)
        assert found[-1][1]["error"]["code"] == "too_many_connections"
    until(lambda: httpx.get(f"{server.url}/livez").status_code == 200)


def test_an_address_may_be_limited(start_server: StartServer) -> None:
    server = start_server(bundle="scripted", workers="1", live_workers="1", max_connections_per_address="2")
    with opened(server), opened(server):
        assert answer(opened(server))[1]["error"]["code"] == "too_many_connections"
    until(lambda: httpx.get(f"{server.url}/livez").status_code == 200)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /v1/listen?tag=" + b"a" * 9000 + b" HTTP/1.1\r\n" + UPGRADE + b"\r\n", 414),
        (b"GET /v1/listen?tag=" + b"a" * 8150 + b" HTTP/1.1\r\n" + UPGRADE + b"\r\n", 414),
        (b"GET /v1/realtime HTTP/1.1\r\n" + UPGRADE + b"X: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET /v1/realtime HTTP/1.1\r\n" + UPGRADE + b"X: a\r\n" * 150 + b"\r\n", 431),
        (b"GET /v1/listen HTTP/1.1\r\n" + UPGRADE + b"\r\n", 401),
        (b"GET /v1/listen HTTP/1.1\r\n" + UPGRADE.replace(b"13", b"7") + b"\r\n", 400),
        (b"GET /v1/nothing HTTP/1.1\r\n" + UPGRADE + b"\r\n", 403),
        (b"NOT HTTP AT ALL\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ],
    ids=range(10),
)
def test_every_handshake_and_every_garbage_gets_an_answer(keyed: Server, request_: bytes, status: int) -> None:
    with opened(keyed, request_) as connection:
        assert connection.recv(65536).split()[1] == str(status).encode()
        while connection.recv(65536):
            pass


def test_the_answer_comes_while_the_client_goes_on_sending(keyed: Server) -> None:
    for key, status in ((b"wrong", b"401"), (b"sesame", b"413")):
        with opened(keyed, b"P") as connection:
            connection.sendall(
                b"OST /v1/feedback HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                b"Authorization: Bearer %s\r\nContent-Type: application/json\r\n\r\n" % key
            )
            stop = threading.Event()

            def send(connection: socket.socket = connection, stop: threading.Event = stop) -> None:
                with contextlib.suppress(OSError):
                    while not stop.is_set():
                        connection.sendall(b"3000\r\n" + b"[]," * 0x1000 + b"\r\n")

            sending = threading.Thread(target=send)
            sending.start()
            data = b""
            with contextlib.suppress(ConnectionError):
                while part := connection.recv(65536):
                    data += part
            stop.set()
            sending.join()
        assert data.split()[1] == status
        assert b"connection: close" in data.lower()


def refused(server: Server, key: str) -> int:
    """The status that an upload of 8 MiB gets, whose client reads no answer before it has sent all."""
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(2**23) + b"\r\n--b--\r\n"
    with opened(server, head(key.encode(), len(body)).partition(b"--b")[0]) as connection:
        connection.sendall(body)
        return int(connection.recv(65536).split()[1])


def joined(url: str) -> ClientConnection:
    """A websocket, once there is room for its session."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return connect(url, additional_headers=KEY, open_timeout=PATIENCE_S)
        except InvalidStatus as error:
            if error.response.status_code != 503 or time.monotonic() > end:
                raise
            time.sleep(0.1)


def test_websockets_that_have_ended_leave_the_answers_of_refused_uploads_alone(keyed: Server) -> None:
    url = f"{keyed.url.replace('http', 'ws')}/v1/listen?encoding=linear16&sample_rate=16000"
    for number in range(40):  # more than may linger
        with joined(url) as socket_:
            if number % 2:
                socket_.send('{"type":"CloseStream"}')
                for _ in socket_:
                    pass
    assert [refused(keyed, "wrong") for _ in range(3)] == [401] * 3


def test_many_refused_uploads_at_once_leave_the_next_one_its_answer(keyed: Server) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(40):  # each is answered and goes on
            connection = held.enter_context(opened(keyed, head(b"wrong")))
            assert b" 401 " in connection.recv(65536)
        assert refused(keyed, "wrong") == 401


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"http://localhost/v1/models?x=1", b"evil.example.com", 200),  # the host in the target counts
        (b"HTTPS://127.0.0.1:1/v1/models", b"x", 200),
        (b"http://localhost", b"x", 200),
        (b"http://evil.example.com/v1/models", b"localhost", 421),
        (b"http://a@localhost/v1/models", b"localhost", 400),
        (b"http:///v1/models", b"localhost", 400),
        (b"http://localhost/v1/nothing", b"localhost", 404),
    ],
)
def test_a_target_may_be_a_whole_url(keyed: Server, target: bytes, host: bytes, status: int) -> None:
    lines = b"GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer sesame\r\nConnection: close\r\n\r\n"
    with opened(keyed, lines % (target, host)) as connection:
        assert int(connection.recv(65536).split()[1]) == status


def test_the_target_of_a_websocket_may_be_a_whole_url(keyed: Server) -> None:
    request = b"GET http://localhost/v1/listen?encoding=linear16&sample_rate=16000 HTTP/1.1\r\n" + UPGRADE
    with opened(keyed, request + b"\r\n") as connection:
        assert connection.recv(65536).split()[1] == b"401"


def test_nothing_of_a_body_without_a_key_is_parsed(keyed: Server) -> None:
    body = b"[" + b"[]," * 10_000_000 + b"[]]"
    import psutil

    before = psutil.Process(keyed.process.pid).memory_info().rss
    for method, path in (("POST", "/v1/feedback"), ("PUT", "/v1/automation/x"), ("POST", "/v1/reviews/import")):
        given = httpx.request(
            method, keyed.url + path, content=body, headers={"content-type": "application/json"}, timeout=PATIENCE_S
        )
        assert given.status_code == 401
        given = httpx.request(
            method,
            keyed.url + path,
            content=body,
            headers={"content-type": "application/json", **KEY},
            timeout=PATIENCE_S,
        )
        assert given.status_code == 413
    assert psutil.Process(keyed.process.pid).memory_info().rss < before + 60 * 2**20


def test_plans_that_are_hard_to_parse_are_not_parsed(keyed: Server) -> None:
    toml = {"content-type": "application/toml", **KEY}
    for parts, status in ((4000, 400), (30_000, 413)):
        plan = ".".join(["a"] * parts) + "=1"
        given = httpx.post(f"{keyed.url}/v1/rollout/start", content=plan, headers=toml, timeout=PATIENCE_S)
        assert given.status_code == status
    assert httpx.get(f"{keyed.url}/livez", timeout=PATIENCE_S).status_code == 200


def test_a_websocket_outlives_the_time_that_its_head_had(keyed: Server) -> None:
    url = keyed.url.replace("http", "ws") + "/v1/listen?encoding=linear16&sample_rate=16000"
    with connect(url, additional_headers={"authorization": "Token sesame"}) as talking:
        for _ in range(8):  # four seconds; a head has two
            talking.send('{"type": "KeepAlive"}')
            time.sleep(0.5)
        talking.send('{"type": "CloseStream"}')
        kinds = [json.loads(message)["type"] for message in talking]
    assert kinds[-1] == "Metadata"
    assert talking.close_code == 1000
