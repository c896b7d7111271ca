"""Which hosts and origins are let in."""

import pytest

from speechpipe.config import Settings
from speechpipe.errors import BadInput, Forbidden, Misdirected
from speechpipe.interfaces.api.hosts import Hosts, Origins, is_loopback


def hosts(**settings: object) -> Hosts:
    return Hosts(Settings(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "localhost.",
        "app.localhost:1",
        "127.0.0.1",
        "127.9.9.9:80",
        "[::1]:8000",
        "[::ffff:127.0.0.1]",
        "192.168.1.5:8000",
        "203.0.113.9",
        "speechpipe:8000",
        None,
    ],
)
def test_own_names_addresses_and_names_without_a_dot_are_answered(host: str | None) -> None:
    hosts().check(host)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "1.2.3", "evil.example."],
)
def test_other_names_are_not(host: str) -> None:
    with pytest.raises(Misdirected):
        hosts().check(host)


@pytest.mark.parametrize("host", ["", " ", "a b", "user@localhost", "localhost/x", "localhost:port", "[::1", "x\r\ny"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(BadInput):
        hosts().check(host)


def test_listed_names_are_answered() -> None:
    found = hosts(allowed_hosts=["asr.example.com", "*.internal.example", ".lan.example:8000"])
    for host in (
        "asr.example.com:8000",
        "ASR.example.com",
        "a.internal.example",
        "b.c.internal.example",
        "x.lan.example",
    ):
        found.check(host)
    for host in ("example.com", "internal.example", "xinternal.example", "asr.example.com.evil.example"):
        with pytest.raises(Misdirected):
            found.check(host)
    hosts(allowed_hosts=["*"]).check("evil.example")
    hosts(host="asr.example.org").check("asr.example.org:8000")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "localhost:8000", "origin": "http://localhost:8000"},
        {"host": "asr.example.com", "origin": "https://asr.example.com"},
        {"host": "[::1]:8000", "origin": "http://[::1]:8000"},
        {"host": "127.0.0.1:1", "x-forwarded-host": "asr.example.com", "origin": "https://asr.example.com"},
        {"host": "127.0.0.1:1", "origin": "https://asr.example.com", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"host": "x", "origin": "https://app.example.com"},
        {"host": "x", "origin": "HTTPS://APP.example.com", "sec-fetch-site": "cross-site"},
    ],
)
def test_own_and_listed_origins_may(headers: dict[str, str]) -> None:
    Origins(["https://app.example.com"]).check(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost:8000", "origin": "http://localhost:8001"},
        {"host": "localhost:8000", "origin": "http://127.0.0.1:8000"},
        {"host": "localhost", "origin": "http://localhost:8001"},
        {"host": "localhost:8000", "origin": "http://evil.example"},
        {"host": "localhost:8000", "origin": "null"},
        {"host": "localhost:8000", "origin": ""},
        {"host": "localhost:8000", "origin": "http://localhost:8000.evil.example"},
        {"host": "localhost:8000", "origin": "http://localhost:99999"},
        {"host": "localhost:8000", "sec-fetch-site": "cross-site"},
        {"host": "localhost:8000", "sec-fetch-site": "same-site"},
        {"host": "localhost:8000", "origin": "http://localhost:8001", "sec-fetch-site": "same-site"},
        {"host": "x", "origin": "https://app.example.com.evil.example"},
    ],
)
def test_foreign_origins_may_not(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        Origins(["https://app.example.com"]).check(headers)


def test_any_origin_where_the_setting_says_so() -> None:
    Origins(["*"]).check({"host": "x", "origin": "null"})


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("example.com", False),
        ("", False),
    ],
)
def test_what_is_loopback(host: str, is_it: bool) -> None:
    assert is_loopback(host) is is_it
