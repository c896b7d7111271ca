"""Bodies of uploads to a running server: half there, cut off, and forms of every kind."""

import contextlib
import signal
import threading

import httpx
import pytest

from tests.conftest import Server, StartServer
from tests.contract.edge import URL, answer, head, keyed_server, opened, until
from tests.patience import PATIENCE_S
from tests.sounds import encoded, sample


@pytest.fixture(scope="module")
def keyed(start_server: StartServer) -> Server:
    return keyed_server(start_server)


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
