"""The edge of a running server: connections, heads and bodies that are half there, hosts, origins, forms, the end."""

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from tests.conftest import Server, StartServer
from tests.patience import PATIENCE_S
from tests.sounds import SAMPLES, encoded, sample

URL = "/v1/audio/transcriptions"
KEY = {"authorization": "Bearer sesame"}
UPGRADE = (
    b"Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def opened(server: Server, data: bytes = b"G") -> socket.socket:
    """A connection with something sent: until then it may not reach the process."""
    made = socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=PATIENCE_S)
    made.sendall(data)
    return made


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """The status and JSON of what comes until the server closes."""
    data = b""
    with connection:
        while part := connection.recv(65536):
            data += part
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else {}


def head(key: bytes = b"sesame", length: int = 900_000) -> bytes:
    """The head of an upload."""
    return (
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF' % (key, length)
    )


@pytest.fixture(scope="module")
def keyed(start_server: StartServer) -> Server:
    return start_server(
        bundle="scripted",
        workers="1",
        live_workers="1",
        api_keys='["sesame", "open"]',
        max_uploads="1",
        upload_min_rate="0",  # half uploads stay as long as a test needs them
        header_timeout_s="2",
        max_connections="40",
        log_level="debug",
    )


# ---- connections ----


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
    large = json.dumps([{"a": "x" * 8_000_000}]).encode()
    process = psutil.Process(keyed.process.pid)
    headers = KEY | {"content-type": "application/json"}
    with httpx.Client(base_url=keyed.url, headers=headers, timeout=PATIENCE_S) as client:

        def send(times: int) -> int:
            for _ in range(times):
                refused = client.post("/v1/reviews/import", content=large)
                assert refused.json()["error"]["code"] == "not_label_studio"
            return int(process.memory_info().rss)

        before = send(3)
        assert send(12) < before + 4 * len(large)  # each held three times as much as it is long


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
    server = start_server(bundle="scripted", workers="1", live_workers="1", max_connections="3")
    with contextlib.ExitStack() as held:
        for _ in range(3):
            held.enter_context(opened(server, head()))
        found: list[tuple[int, dict[str, Any]]] = []

        def refused() -> bool:  # until the three are at work, one of them may give way
            found.append(answer(opened(server)))
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


# ---- uploads ----


def test_half_uploads_hold_places_and_one_key_holds_half_of_them(keyed: Server) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(2):  # of four
            held.enter_context(opened(keyed, head()))
        until(lambda: keyed.metric("speechpipe_uploads_arriving") == 2)
        until(lambda: answer(opened(keyed, head()))[0] == 429)
        files = {"file": ("a.wav", encoded(sample("sentence_slt")))}
        other = {"authorization": "Bearer open"}
        done = httpx.post(keyed.url + URL, data={"model": "default"}, files=files, headers=other, timeout=PATIENCE_S)
        assert done.status_code == 200
        for _ in range(2):
            held.enter_context(opened(keyed, head(b"open")))
        until(lambda: keyed.metric("speechpipe_uploads_arriving") == 4)
        until(lambda: answer(opened(keyed, head(b"open")))[0] == 503)
        assert httpx.get(f"{keyed.url}/readyz").status_code == 503
    until(lambda: httpx.get(f"{keyed.url}/readyz").status_code == 200)


def test_an_upload_that_stops_is_given_up(start_server: StartServer) -> None:
    server = start_server(bundle="scripted", workers="1", live_workers="1", upload_timeout_s="1", body_timeout_s="1")
    status, body = answer(opened(server, head()))
    assert (status, body["error"]["code"]) == (408, "upload_timeout")
    half = b"POST /v1/feedback HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    assert answer(opened(server, half))[0] == 408


def test_an_upload_that_is_still_arriving_when_the_server_stops_is_told(start_server: StartServer) -> None:
    server = start_server(bundle="scripted", workers="1", live_workers="1", drain_timeout_s="8")
    with contextlib.ExitStack() as held:
        idle = held.enter_context(opened(server, head()))
        busy = held.enter_context(opened(server, head(length=10**7)))
        until(lambda: server.metric("speechpipe_uploads_arriving") == 2)
        stop = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                while not stop.wait(0.2):
                    busy.sendall(b"\0" * 1000)

        dripping = threading.Thread(target=drip)
        dripping.start()
        server.process.send_signal(signal.SIGTERM)
        assert answer(idle)[0] == 503  # long before the drain time ends
        assert server.process.poll() is None
        assert answer(busy)[1]["error"]["code"] == "not_ready"
        stop.set()
        dripping.join()
        assert server.process.wait(PATIENCE_S) in (0, -signal.SIGTERM)
    assert "Traceback" not in "".join(server.log)


def part(disposition: bytes, data: bytes, kind: bytes = b"") -> bytes:
    head = b"--b\r\nContent-Disposition: form-data" + disposition + b"\r\n" + kind + b"\r\n"
    return head + data + b"\r\n"


MODEL = part(b'; name="model"', b"default")


@pytest.fixture(scope="module")
def good(server: Server) -> str:
    files = {"file": ("a.wav", encoded(sample("sentence_slt")))}
    text: str = httpx.post(server.url + URL, data={"model": "default"}, files=files, timeout=PATIENCE_S).json()["text"]
    return text


def upload(server: Server, body: bytes) -> httpx.Response:
    headers = {"content-type": "Multipart/Form-Data; boundary=b"}
    return httpx.post(server.url + URL, content=body + b"--b--\r\n", headers=headers, timeout=PATIENCE_S)


@pytest.mark.parametrize(
    "disposition",
    [
        b'; name="file"; filename="a.flac"',
        b"; name=\"file\"; filename*=UTF-8''a%C3%A4.flac",
        b"; filename*=UTF-8''%F0%9F%8E%99.flac; name=\"file\"",
        b'; name="file"',
        b"; name=file",
        b'; name="file"; x="1"',
        b'; name="file"; filename=""',
        b'; name="file"; filename="a.flac"; filename*=utf-8\'\'b.flac',
        b'; name="file"; filename="a;b=\\"c\\".flac"',
        b'; NAME="file"; FILENAME="a.flac"',
    ],
    ids=range(10),
)
@pytest.mark.parametrize("large", [False, True])
def test_the_part_named_file_is_the_file(server: Server, good: str, disposition: bytes, large: bool) -> None:
    speech = encoded(sample("sentence_slt"), form="FLAC") if not large else encoded(sample("sentence_slt"))
    for parts in ((MODEL, part(disposition, speech)), (part(disposition, speech), MODEL)):
        given = upload(server, b"".join(parts))
        assert (given.status_code, given.json().get("text")) == (200, good), given.text


@pytest.mark.parametrize(
    ("body", "code", "param", "said"),
    [
        (MODEL + part(b'; name="audio"', bytes(70_000)), "invalid_parameter", "audio", "belongs in the field `file`"),
        (MODEL + part(b'; name="prompt"', bytes(70_000)), "invalid_parameter", "prompt", "65536"),
        (MODEL + part(b'; name="audio"; filename="a"', b"x"), "invalid_parameter", "audio", "unexpected file"),
        (MODEL + part(b'; filename="a.wav"', b"x"), "broken_multipart", None, "no name"),
        (MODEL + part(b"", b"x"), "broken_multipart", None, "no name"),
        (part(b'; name="file"', b"x") * 2 + MODEL, "unknown_parameter", "file", "file"),
        (MODEL + part(b'; name="prompt"', b"a\0b") + part(b'; name="file"', b"x"), "control_character", None, "NUL"),
        (b"--c\r\n", "broken_multipart", None, "multipart"),
    ],
    ids=range(8),
)
def test_what_is_wrong_with_a_form_is_said(
    server: Server, body: bytes, code: str, param: str | None, said: str
) -> None:
    given = upload(server, body)
    error = given.json()["error"]
    assert (given.status_code, error["code"], error["param"]) == (400, code, param), given.text
    assert said in error["message"]


@pytest.mark.parametrize("parts", [part(b'; name="file"', b"RIFF"), part(b'; name="file"', b"RIFF") + MODEL, MODEL])
def test_a_form_that_is_cut_off_is_called_so(server: Server, parts: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    error = httpx.post(server.url + URL, content=parts, headers=headers, timeout=PATIENCE_S).json()["error"]
    assert error["code"] == "broken_multipart"
    assert "the closing boundary is missing" in error["message"]


# ---- hosts, origins, tenants ----


def test_websockets_of_foreign_pages_are_refused_before_they_are_accepted(server: Server) -> None:
    url = server.url.replace("http", "ws") + "/v1/listen?encoding=linear16&sample_rate=16000"
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        with pytest.raises(InvalidStatus) as refused, connect(url, origin=Origin(origin)):
            pass
        assert refused.value.response.status_code == 403
        assert json.loads(refused.value.response.body or b"{}")["err_code"] == "ORIGIN_NOT_ALLOWED"
    with connect(url, origin=Origin(server.url)):
        pass


def test_options_of_the_server_as_a_whole(server: Server) -> None:
    status, _ = answer(opened(server, b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    assert status == 204


def test_listed_origins_and_hosts_are_served(start_server: StartServer) -> None:
    server = start_server(
        bundle="scripted",
        workers="1",
        live_workers="1",
        allowed_origins='["https://app.example"]',
        allowed_hosts='["asr.example"]',
    )
    page = {"origin": "https://app.example", "sec-fetch-site": "cross-site", "host": "asr.example"}
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    preflight = httpx.options(server.url + URL, headers=page | asked)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == "authorization"
    files = {"file": ("a.wav", encoded(sample("sentence_slt")))}
    done = httpx.post(server.url + URL, data={"model": "default"}, files=files, headers=page, timeout=PATIENCE_S)
    assert (done.status_code, done.headers["access-control-allow-origin"]) == (200, "https://app.example")
    with connect(server.url.replace("http", "ws") + "/v1/realtime", origin=Origin("https://app.example")):
        pass
    assert httpx.get(f"{server.url}/livez", headers={"host": "other.example"}).status_code == 421


def test_feedback_on_another_tenants_session_finds_nothing(keyed: Server) -> None:
    files = {"file": ("a.wav", encoded(sample("sentence_slt")))}
    done = httpx.post(keyed.url + URL, data={"model": "default"}, files=files, headers=KEY, timeout=PATIENCE_S)
    session = done.headers["x-request-id"]
    other = {"authorization": "Bearer open"}
    for given in ({"session_id": session}, {"utterance_id": f"{session}-0"}):
        body = {"kind": "redo", **given}
        assert httpx.post(f"{keyed.url}/v1/feedback", json=body, headers=other, timeout=PATIENCE_S).status_code == 404
        assert httpx.post(f"{keyed.url}/v1/feedback", json=body, headers=KEY, timeout=PATIENCE_S).status_code == 201


def test_what_a_failing_store_says_stays_in_the_log(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    server = start_server(
        bundle="scripted", workers="1", live_workers="1", store_url=f"sqlite:///{tmp_path}/file/secret-place.db"
    )
    for path in ("/v1/health/report", "/v1/reviews", "/v1/automation", "/v1/rollout", "/v1/retrain", "/v1/alarms"):
        said = httpx.get(server.url + path, timeout=PATIENCE_S)
        assert "secret-place" not in said.text
        assert "sqlite" not in said.text.lower()
        assert "OperationalError" not in said.text


def test_no_key_is_in_the_log_at_any_level(keyed: Server) -> None:
    url = keyed.url.replace("http", "ws") + "/v1/listen?encoding=linear16&sample_rate=16000&resume=true"
    with connect(url, additional_headers={"authorization": "Token sesame"}) as talking:
        token = json.loads(talking.recv())["resume_token"]
    with (
        contextlib.suppress(InvalidStatus),
        connect(f"{url}&resume={token}", subprotocols=[Subprotocol("token"), Subprotocol("sesame")]),
    ):
        pass
    httpx.get(f"{keyed.url}/v1/models", headers=KEY)
    httpx.get(f"{keyed.url}/live/{'a' * 400}.js")
    log = "".join(keyed.log)
    for secret in ("sesame", token, "Traceback"):
        assert secret not in log


@pytest.mark.parametrize("value", ["\u00b2", "\u0663", "9" * 30, "9" * 5000, "-1", "1e5", "", "%00"])
def test_numbers_of_a_websocket_that_are_none_are_refused_in_its_shape(server: Server, value: str) -> None:
    url = server.url.replace("http", "ws")
    for path, name in (("/v1/listen?endpointing=", "err_code"), ("/v1/realtime?resume=x&last_seq=", "error")):
        with pytest.raises(InvalidStatus) as refused, connect(f"{url}{path}{value}"):
            pass
        assert 400 <= refused.value.response.status_code < 500
        assert name in json.loads(refused.value.response.body or b"{}")


# ---- probes ----


def test_probes_do_not_wait_behind_requests_that_wait_for_the_store(start_server: StartServer) -> None:
    server = start_server(bundle="scripted", workers="1", live_workers="1")
    lock = sqlite3.connect(server.state / "speechpipe.db", isolation_level=None)
    with contextlib.closing(lock), ThreadPoolExecutor(60) as pool:
        lock.execute("BEGIN EXCLUSIVE")
        url = f"{server.url}/v1/automation/default"
        waiting = [pool.submit(httpx.put, url, json={"degree": "full"}, timeout=PATIENCE_S) for _ in range(60)]
        time.sleep(0.5)  # they reach the store, which they wait for
        for path in ("/readyz", "/metrics", "/livez"):
            assert httpx.get(server.url + path, timeout=PATIENCE_S).status_code == 200
        assert not all(asked.done() for asked in waiting)
        lock.execute("ROLLBACK")
        assert {asked.result().status_code for asked in waiting} <= {200, 409, 503}


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/metrics", "/", "/live", "/docs", "/openapi.json", "/v1/models"]
)
def test_head_answers_as_get_does(server: Server, path: str) -> None:
    got, headed = httpx.get(server.url + path), httpx.head(server.url + path)
    assert (headed.status_code, headed.content) == (got.status_code, b"")
    assert headed.headers["content-type"] == got.headers["content-type"]


# ---- the address ----


def started(**settings: str) -> subprocess.Popen[str]:
    variables = {f"SPEECHPIPE_{name.upper()}": value for name, value in settings.items()}
    return subprocess.Popen(
        [sys.executable, "-c", "from speechpipe.interfaces.cli import main; main()", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "SPEECHPIPE_BUNDLE": "scripted", "SPEECHPIPE_WORKERS": "1", **variables},
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "198.51.100.7"])
def test_without_keys_only_loopback_is_served(tmp_path: Path, host: str) -> None:
    process = started(host=host, state_dir=str(tmp_path / "state"))
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert "SPEECHPIPE_API_KEYS" in said
    assert "SPEECHPIPE_INSECURE" in said
    assert "Traceback" not in said
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"host": "0.0.0.0", "insecure": "1"}, "authentication: OFF, and 0.0.0.0 can be reached from other machines"),
        ({"host": "0.0.0.0", "api_keys": '["a", "b"]'}, "authentication: on (2 API keys)"),
        ({}, "authentication: off (loopback only)"),
    ],
    ids=["insecure", "keys", "loopback"],
)
def test_the_start_says_whether_authentication_is_on(
    start_server: StartServer, settings: dict[str, str], line: str
) -> None:
    server = start_server(bundle="scripted", workers="1", live_workers="1", **settings)
    assert line in "".join(server.log)
    assert SAMPLES.exists()


# ---- under a prefix ----


@pytest.fixture(scope="module")
def proxied(server: Server) -> Iterator[str]:
    """The server behind a proxy that strips `/asr/`, as `location /asr/ { proxy_pass http://server/; }` does."""
    from tests.interfaces.web.proxy import proxy

    with proxy(server.url, "/asr") as url:
        yield url


@pytest.mark.parametrize("page", ["", "live", "review", "health", "docs"])
def test_everything_a_page_names_is_under_the_prefix(proxied: str, page: str) -> None:
    url = f"{proxied}/asr/{page}"
    html = httpx.get(url).text
    named = set(re.findall(r"""(?:src|href)=["']([^"'#]+)""", html))
    assert named
    for name in (name for name in named if not name.startswith("data:")):
        assert httpx.get(httpx.URL(url).join(name)).status_code == 200, name
