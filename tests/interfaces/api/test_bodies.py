"""Bodies: places, pace, and documents that cannot become much."""

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message

from speechpipe.errors import BadInput, NotReady, Overloaded, RateLimited, SpeechpipeError, TooLarge, TooSlow
from speechpipe.interfaces.api.bodies import (
    MOST_DEPTH,
    MOST_KEY_PARTS,
    BodyPlaces,
    Pace,
    Stopping,
    check_toml,
    read_json,
    read_json_list,
    read_whole,
)


def test_one_caller_holds_half_of_the_places() -> None:
    arrivals = BodyPlaces(4, shared=True)
    with arrivals.place("a"), arrivals.place("a"):
        with pytest.raises(RateLimited), arrivals.place("a"):
            pass
        with arrivals.place("b"), arrivals.place("b"):
            assert arrivals.full
            with pytest.raises(Overloaded), arrivals.place("c"):
                pass
    assert arrivals.arriving == 0


def test_where_callers_cannot_be_told_apart_one_may_hold_all() -> None:
    arrivals = BodyPlaces(2, shared=False)
    with (
        arrivals.place("anonymous"),
        arrivals.place("anonymous"),
        pytest.raises(Overloaded),
        arrivals.place("anonymous"),
    ):
        pass


def body(*parts: bytes, then: float | None = None) -> Any:
    """A receive that gives parts, and then nothing for `then` seconds."""
    waiting = list(parts)

    async def receive() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting) or then is not None}
        await asyncio.sleep(then or 0)
        return {"type": "http.disconnect"}

    return receive


def read(pace: Pace, receive: Any) -> bytes | None:
    async def reading() -> bytes | None:
        return await read_whole(pace.paced(receive))

    return asyncio.run(reading())


def test_a_body_in_time_is_whole() -> None:
    assert read(Pace(10, 5.0), body(b"ab", b"cd")) == b"abcd"
    assert read(Pace(10, 5.0), body(b"")) == b""


def test_a_body_that_ends_early_is_nothing() -> None:
    assert read(Pace(10, 5.0), body(b"ab", then=0.0)) is None


def test_bytes_are_counted_whatever_was_announced() -> None:
    with pytest.raises(TooLarge):
        read(Pace(3, 5.0), body(b"ab", b"cd"))


def test_a_body_that_stops_is_given_up() -> None:
    with pytest.raises(TooSlow):
        read(Pace(10, 0.2), body(b"ab", then=600))


def test_a_body_slower_than_the_least_rate_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechpipe.interfaces.api.bodies.GRACE_S", 0.1)
    with pytest.raises(TooSlow):
        read(Pace(10, 600.0, least_rate=100.0), body(b"ab", then=600))


def test_a_stopping_server_does_not_wait_for_an_idle_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechpipe.interfaces.api.bodies.IDLE_WHEN_STOPPING_S", 0.1)
    stopping = Stopping()
    stopping.begin()
    with pytest.raises(NotReady):
        read(Pace(10, 600.0, stopping=stopping), body(b"ab", then=600))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[NaN]",
        b"[Infinity]",
        b"[1e999]",
        b"[-Infinity]",
        b'["\\u0000"]',
        b'{"a\\u0000": 1}',
        b'["\\ud800"]',
        b"[9223372036854775808]",
        b"[" + b"9" * 5000 + b"]",
        b"[" * 200_000,
        b"[" * (MOST_DEPTH + 1) + b"]" * (MOST_DEPTH + 1),
        b'{"a":' * 100 + b"1" + b"}" * 100,
        b"\xff\xfe",
        b"[" + b"[]," * 20_000 + b"[]]",
    ],
    ids=range(16),
)
def test_json_that_cannot_be_kept_is_refused(text: bytes) -> None:
    with pytest.raises(SpeechpipeError):
        read_json(text, 10_000)


def test_json_as_people_send_it_is_read() -> None:
    values: list[Any] = [{"a": [1, 2.5, "é\n😀", None, True, -(2**63)]}, [], "x", 0]
    for value in values:
        assert read_json(json.dumps(value).encode(), 100) == value
    deep = b"[" * MOST_DEPTH + b"]" * MOST_DEPTH
    assert read_json(deep, 100) == json.loads(deep)


def test_lists_are_read_item_by_item() -> None:
    given = [{"a": [1, 2]}, {"b": "[{,"}, 3]
    assert read_json_list(json.dumps(given, indent=2).encode(), 100) == given
    assert read_json_list(b" [ ] ", 100) == []
    with pytest.raises(TooLarge):
        read_json_list(b"[" + b"[]," * 1000 + b"[]]", 1000)
    for broken in (b"", b"[", b"[1", b"[1,", b"[1,]", b"[1 2]", b"[1] 2", b"{}", b"nul", b"[[[1]", b"[" * 100_000):
        with pytest.raises(BadInput):
            read_json_list(broken, 1_000_000)


@pytest.mark.parametrize(
    "text",
    [
        ".".join(["a"] * 30) + " = 1",
        "[" + ".".join(["a"] * 30) + "]",
        "[[" + " . ".join(["a"] * 30) + "]]",
        ".".join(['"a"'] * 30) + " = 1",
        ".".join(["'a'"] * 30) + " = 1",
        "x = { " + ".".join(["a"] * 30) + " = 1 }",
        'ok = "x"\n' + "\t.\t".join(["a"] * 30) + " = 1",
        '"\\"' + '".a' * 1 + ".".join(["a"] * 30) + " = 1",
    ],
    ids=range(8),
)
def test_long_dotted_keys_are_not_given_to_the_parser(text: str) -> None:
    with pytest.raises(BadInput):
        check_toml(text)


def test_plans_as_people_write_them_pass() -> None:
    check_toml('case = "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z"\nx = [0.1, 0.2, ' + "0.3, " * 30 + "]")
    check_toml("# " + "." * 200 + "\n[a.b]\nc.d = 1.5\n")
    check_toml(".".join(["a"] * MOST_KEY_PARTS) + " = 1")
    with pytest.raises(TooLarge):
        check_toml("#" * 10_000)
