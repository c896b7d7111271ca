"""What leaves the server: where to, signed, bounded, and one exception for all that goes wrong."""

import contextlib
import hashlib
import hmac
import ipaddress
import re
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from speechpipe.errors import DeliveryFailed, InvalidParameter
from speechpipe.foundation.outgoing import AllowedUrls, Sender, load_secret, receiver_of
from tests.patience import PATIENCE_S


def request(connection: socket.socket) -> bytes:
    """Return one whole request: head and body may come apart."""
    data = b""
    while (more := connection.recv(65536)) and (data := data + more):
        head, end, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if end and length is not None and len(body) >= int(length[1]):
            break
    return data


@contextlib.contextmanager
def peer(answer: bytes | None) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers every request with these bytes; None = never."""
    listening = socket.create_server(("127.0.0.1", 0))
    got: list[bytes] = []
    open_: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                open_.append(connection)
                got.append(request(connection))
                if answer is not None:
                    connection.sendall(answer)
                    connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/hook", got
    finally:
        listening.close()
        for connection in open_:
            connection.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"garbage\r\n\r\n", "protocol"),
        (b"HTTP/1.1 abc\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * 200_000 + b"\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "protocol"),
        (b"\x16\x03\x01\x00\xff\x00", "protocol"),
        (b"", "protocol"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "redirect"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "status"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "status"),
    ],
)
def test_whatever_a_peer_answers_is_one_exception(answer: bytes, cause: str) -> None:
    with peer(answer) as (url, _), pytest.raises(DeliveryFailed) as caught:
        Sender(timeout_s=PATIENCE_S).post(url, b"{}")
    assert caught.value.cause in ((cause, "unreachable") if cause == "protocol" else (cause,))
    assert caught.value.message


def test_a_peer_that_never_answers_costs_the_time_limit_and_no_more() -> None:
    with peer(None) as (url, _), pytest.raises(DeliveryFailed) as caught:
        Sender(timeout_s=0.3).post(url, b"{}")
    assert caught.value.cause == "timeout"


def test_a_peer_that_trickles_is_ended_by_the_total_limit() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        connection, _ = listening.accept()
        connection.recv(65536)
        with contextlib.suppress(OSError):
            while not ended.wait(0.05):
                connection.sendall(b"H")
        connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with pytest.raises(DeliveryFailed):
        Sender(timeout_s=0.5).post(f"http://127.0.0.1:{listening.getsockname()[1]}/", b"{}")
    ended.set()
    thread.join(PATIENCE_S)
    listening.close()


@pytest.mark.parametrize("guarded", [False, True])
def test_a_name_lookup_that_hangs_costs_the_time_limit_and_no_more(
    guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, returned = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        released.wait(PATIENCE_S)
        returned.set()
        raise socket.gaierror("too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with pytest.raises(DeliveryFailed) as caught:
        Sender(timeout_s=0.2, guarded=guarded).post("http://hooks.example.com/", b"{}")
    assert caught.value.cause == "timeout"
    assert not returned.is_set()  # nobody waited for the lookup
    released.set()
    assert returned.wait(PATIENCE_S)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1/", "http://no-such-host.invalid/", "http://[::1]:1/", "ftp://x/", "http://", "http://a b/"],
)
def test_a_peer_that_is_not_there_is_one_exception(url: str) -> None:
    with pytest.raises(DeliveryFailed):
        Sender(timeout_s=PATIENCE_S).post(url, b"{}")


def test_a_request_is_signed_with_its_time() -> None:
    with peer(OK) as (url, got):
        Sender(b"secret", timeout_s=PATIENCE_S).post(url, b'{"a": 1}', {"X-More": "yes"})
    head, _, body = got[0].decode().partition("\r\n\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.splitlines()[1:])}
    signed = headers["x-speechpipe-timestamp"].encode() + b"." + body.encode()
    assert headers["x-speechpipe-signature"] == "sha256=" + hmac.new(b"secret", signed, hashlib.sha256).hexdigest()
    assert headers["content-type"] == "application/json"
    assert headers["x-more"] == "yes"


def test_a_guarded_sender_calls_no_private_address_that_was_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with peer(OK) as (url, got):
        port = url.split(":")[2].split("/")[0]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port)))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        named = f"http://hooks.example.com:{port}/hook"
        with pytest.raises(DeliveryFailed) as caught:
            Sender(timeout_s=PATIENCE_S, guarded=True).post(named, b"{}")
        assert caught.value.cause == "private_address"
        assert not got
        Sender(timeout_s=PATIENCE_S, guarded=True, networks=["127.0.0.0/8"]).post(named, b"{}")
        assert b"hooks.example.com" in got[0]
        Sender(timeout_s=PATIENCE_S, guarded=True).post(url, b"{}")
        assert len(got) == 2


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.1", "169.254.169.254", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "0.0.0.0", "224.0.0.1", "fd00::1"),
        *("64:ff9b::a9fe:a9fe", "64:ff9b::a00:1", "64:ff9b:1::a00:1"),  # NAT64
        *("2002:a00:1::1", "2002:7f00:1::", "2001:0:a00:1::f5ff:fffe", "2001:0:808:808::f7f7:f7f7"),  # 6to4, Teredo
        *("2a00:1450::5efe:a00:1", "2a00:1450::200:5efe:c0a8:101"),  # ISATAP
        *("::10.0.0.1", "::8.8.8.8", "::ffff:0:10.0.0.1", "fec0::1", "4000::1", "100::1", "5f00::1", "3fff::1"),
        *("192.0.0.192", "192.88.99.1", "100.100.100.200", "255.255.255.255", "240.0.0.1", "198.18.0.1"),
    ],
)
def test_no_kind_of_private_address_is_called(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))]
    )
    with pytest.raises(DeliveryFailed) as caught:
        Sender(timeout_s=PATIENCE_S, guarded=True).post("http://hooks.example.com/", b"{}")
    assert caught.value.cause == "private_address"


Resolve = Callable[[str], list[Any]]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Returns a function that makes all names resolve to an address; it returns the list of hosts called since."""

    def to(address: str) -> list[Any]:
        called = []

        async def send(_: httpx.AsyncClient, request: httpx.Request, **__: object) -> httpx.Response:
            called.append(ipaddress.ip_address(request.url.host))
            return httpx.Response(204)

        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        monkeypatch.setattr(httpx.AsyncClient, "send", send)
        return called

    return to


def may_call(resolve: Resolve, address: str, *networks: str) -> bool:
    """Whether a name of an allowed URL may resolve to this address; then it is the one that is called."""
    called, refused = resolve(address), ""
    try:
        Sender(timeout_s=PATIENCE_S, guarded=True, networks=networks).post("http://hooks.example.com/", b"{}")
    except DeliveryFailed as error:
        refused = error.cause
    assert (refused, called) in (("", [ipaddress.ip_address(address)]), ("private_address", []))
    return not refused


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2a00:1450::1", "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8", "2001:4860::8888"]
)
def test_public_addresses_are_called_directly_or_by_a_gateway(address: str, resolve: Resolve) -> None:
    assert may_call(resolve, address)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.0/8"),
        ("10.0.0.1", "::ffff:10.0.0.0/104"),
        ("::ffff:10.0.0.1", "10.0.0.0/8"),
        ("::ffff:10.0.0.1", "::ffff:a00:1"),
        ("64:ff9b::a00:1", "10.0.0.0/8"),
        ("64:ff9b:1::a00:1", "64:ff9b:1::/48"),
        ("fd00::1", "fd00::/8"),
    ],
)
def test_networks_of_the_operator_are_called_whatever_their_spelling(
    address: str, network: str, resolve: Resolve
) -> None:
    assert not may_call(resolve, address)
    assert may_call(resolve, address, network)
    assert not may_call(resolve, "192.168.0.1", network)


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("http://[0:0:0:0:0:0:0:1]:7000", "http://[::1]:7000/hook"),
        ("http://[::ffff:127.0.0.1]:7000", "http://127.0.0.1:7000/hook"),
        ("http://127.0.0.1:7000", "http://[::FFFF:7f00:1]:7000/hook"),
        ("http://127.0.0.1.:7000", "http://127.0.0.1:07000/hook"),
        ("http://LOCALHOST.:7000", "http://localhost:7000/hook"),
    ],
)
def test_an_address_is_named_by_all_its_spellings(entry: str, url: str, resolve: Resolve) -> None:
    assert url in AllowedUrls([entry])
    host, port = receiver_of(url)
    assert port == 7000
    address = "127.0.0.1" if host == "localhost" else host
    called = resolve(address)
    Sender(timeout_s=PATIENCE_S, guarded=True).post(url, b"{}")
    assert called == [ipaddress.ip_address(address)]


ALLOWED = AllowedUrls(["http://127.0.0.1:21390/hooks", "https://hooks.example.com"])


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:21390/hooks",
        "http://127.0.0.1:21390/hooks/a?b=c",
        "HTTPS://Hooks.Example.COM:443/x",
        "https://hooks.example.com./x",
        "https://hooks.example.com",
        "http://127.0.0.1:21390/hooks/a.b/..c/d..;e/x%20y/%C3%BC",
    ],
)
def test_what_lies_under_an_entry_is_allowed(url: str) -> None:
    assert url in ALLOWED


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:21390/hooksEVIL",
        "http://127.0.0.1:21390/hooks/../admin",
        "http://127.0.0.1:21390/hooks%2f..%2fadmin",
        "http://127.0.0.1:21390/hooks/%2e%2e/admin",
        "http://127.0.0.1:21390/hooks/%252e%252e/admin",
        "http://127.0.0.1:21390/hooks/..%5cadmin",
        "http://127.0.0.1:21390/hooks/..;/admin",
        "http://127.0.0.1:21390/hooks/..;a=b/admin",
        "http://127.0.0.1:21390/hooks/%2e%2e;/admin",
        "http://127.0.0.1:21390/hooks/..%3b/admin",
        "http://127.0.0.1:21390/hooks/..%20/admin",
        "http://127.0.0.1:21390/hooks/.%20./admin",
        "http://127.0.0.1:21390/hooks/.../admin",
        "http://127.0.0.1:21390/hooks/..%09/admin",
        "http://127.0.0.1:21390/hooks/..%c2%a0/admin",
        "http://127.0.0.1:21390/hooks/%c0%ae%c0%ae/admin",
        "http://127.0.0.1:21390/hooks/%25c0%25ae%25c0%25ae/admin",
        "http://127.0.0.1:21390/hooks/x%c0%af..%c0%afadmin",
        "http://127.0.0.1:21390/hooks/%ef%bc%8e%ef%bc%8e/admin",
        "http://127.0.0.1:21390/hooks/x%ef%bc%8f..%ef%bc%8fadmin",
        "http://127.0.0.1:21390/hooks/%e2%80%a5/admin",
        "http://127.0.0.1:21390/hooks/%u002e%u002e/admin",
        "http://127.0.0.1:21390/hooks/%2/admin",
        "http://127.1:21390/hooks",
        "http://2130706433:21390/hooks",
        "http://0x7f.0.0.1:21390/hooks",
        "http://0177.0.0.1:21390/hooks",
        "https://hooks.ex%61mple.com/x",
        "https://hooks.example.com../x",
        "https://hooks..example.com/x",
        "https://hooks.example.com:0/x",
        "http://127.0.0.1:21390/",
        "http://127.0.0.1:21391/hooks",
        "https://127.0.0.1:21390/hooks",
        "https://hooks.example.com.attacker.net/x",
        "https://hooks.example.com:8443/",
        "http://hooks.example.com/",
        "https://hooks.example.com@attacker.net/",
        "https://user@hooks.example.com/",
        "https://hooks.example.com#@attacker.net/",
        "https://hooks.example.com\\@attacker.net/",
        "https://hooks.example.com/\r\nX: y",
        "https://hooks.example.com:port/",
        "https://hooks.exämple.com/",
        "file:///etc/passwd",
        "//hooks.example.com/",
        "",
        "https://hooks.example.com/" + "x" * 3000,
        "http://[::1",
    ],
)
def test_what_only_looks_like_an_entry_is_refused(url: str) -> None:
    assert url not in ALLOWED


@pytest.mark.parametrize(
    "entry",
    [
        *("hooks.example.com", "ftp://x/", "http://x/?q", "", "http://u@x/", "http://x/../y"),
        *("http://*.example.com/", "http://$HOST/", "http://{host}/", "http://!/", "http://-/", "http://a..b/"),
        *("http://ex%61mple.com/", "http://127.1/", "http://0x7f.1/", "http://010.0.0.1/", "http://1.2.3.4.5/"),
        *("http://999.1.1.1/", "http://[fe80::1%25eth0]/", "http://[v1.a]/", "http://" + "a." * 127 + "com/"),
        "http://" + "a" * 64 + "/",
    ],
)
def test_an_entry_that_allows_nothing_clear_is_refused(entry: str) -> None:
    with pytest.raises(InvalidParameter):
        AllowedUrls([entry])


def test_the_secret_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "state" / "signing.key"
    secret = load_secret(path)
    assert len(secret) >= 32
    assert load_secret(path) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_certificates_are_checked() -> None:
    assert ssl.create_default_context().verify_mode is ssl.CERT_REQUIRED
