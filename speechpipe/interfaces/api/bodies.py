"""Request bodies: places for those that are arriving, their pace, and parsing within limits of size and depth."""

import asyncio
import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from starlette.types import Message, Receive

from speechpipe.errors import BadInput, InvalidParameter, NotReady, Overloaded, RateLimited, TooLarge, TooSlow

MOST_DEPTH = 32
"""The deepest nesting of arrays and objects in a JSON document."""

MOST_KEY_PARTS = 20
"""The most parts of a dotted TOML key: the parser's time grows with their square."""

MOST_TOML_BYTES = 8 * 1024

GRACE_S = 10.0
"""How long a body may arrive before its average rate is checked."""

IDLE_WHEN_STOPPING_S = 2.0
"""During shutdown, a body is given up if nothing arrives for this long."""

LOOK_EVERY_S = 0.5
"""How often a waiting body is checked for a shutdown."""

_SPACE = re.compile(r"[ \t\r\n]*")
_STRINGS = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'')
_COMMENTS = re.compile(r"#[^\n]*")
_BETWEEN_KEYS = re.compile(r"[=\[\]{},\n]")


class BodyPlaces:
    """Places for bodies that are arriving; one caller may hold half of them. Used on the event loop only.

    Args:
        most: the number of places.
        shared: whether callers can be told apart; if not, one may hold all places.
    """

    def __init__(self, most: int, *, shared: bool) -> None:
        self._most = most
        self._share = max(1, most // 2) if shared else most
        self._held: Counter[str] = Counter()
        self.arriving = 0  # number of bodies; may be read on any thread

    @property
    def full(self) -> bool:
        """Whether all places are held."""
        return self.arriving >= self._most

    def check(self, caller: str) -> None:
        """Raise what `place` would raise now.

        Raises:
            Overloaded, RateLimited: as `place`.
        """
        if self.full:
            raise Overloaded(f"{self._most} bodies are arriving already; try again later", retry_after_s=2.0)
        if self._held.get(caller, 0) >= self._share:
            raise RateLimited(f"this key is sending {self._share} bodies already")

    @contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """Hold a place while a body arrives.

        Raises:
            Overloaded: all places are held.
            RateLimited: this caller holds its share.
        """
        self.check(caller)
        self._held[caller] += 1
        self.arriving += 1
        try:
            yield
        finally:
            self.arriving -= 1
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]


@dataclass
class Stopping:
    """Whether the server is stopping. Set on the event loop."""

    since: float | None = None

    def begin(self) -> None:
        """Mark the server as stopping."""
        self.since = time.monotonic()

    def __bool__(self) -> bool:
        return self.since is not None


@dataclass
class Pace:
    """The time limits of a body.

    Attributes:
        most_bytes: the largest body; checked while it arrives, whatever its Content-Length.
        limit_s: for the whole body.
        least_rate: average bytes a second, checked after `GRACE_S`; 0 = any.
        stopping: whether the server is stopping.
        too_large: returns the error for a body that is too large.
    """

    most_bytes: int
    limit_s: float
    least_rate: float = 0.0
    stopping: Stopping = field(default_factory=Stopping)
    too_large: Callable[[], TooLarge] | None = None

    def paced(self, receive: Receive) -> Receive:
        """Return `receive` with these limits.

        The returned function raises TooLarge, TooSlow, or NotReady if nothing arrives during shutdown.
        """
        begun = last = time.monotonic()
        received = 0
        whole = False

        async def limited() -> Message:
            nonlocal received, last, whole
            while not whole:
                now = time.monotonic()
                until = begun + self.limit_s
                if self.least_rate:
                    until = min(until, begun + GRACE_S + received / self.least_rate)
                if now >= until:
                    raise TooSlow(f"the body did not arrive in time: {received} bytes in {now - begun:.0f} s")
                if self.stopping and now - last > IDLE_WHEN_STOPPING_S:
                    raise NotReady("the server is shutting down, and the body stopped arriving")
                try:
                    async with asyncio.timeout(min(until - now, LOOK_EVERY_S)):
                        message = await receive()
                except TimeoutError:
                    continue
                received += len(message.get("body", b""))
                last = time.monotonic()
                whole = message["type"] != "http.request" or not message.get("more_body", False)
                if received > self.most_bytes:
                    raise self.too_large() if self.too_large else too_large(self.most_bytes)
                return message
            return await receive()

        return limited


def too_large(most: int) -> TooLarge:
    """Return the error for a document that is too large."""
    return TooLarge(f"the body is larger than {most} bytes", cause="body_too_large")


async def read_whole(receive: Receive) -> bytes | None:
    """Return a whole body; None if the client disconnected."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was already read, then what arrives after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def read_json(body: bytes, most_values: int, *, cause: str = "invalid_json") -> Any:
    """Parse JSON of limited depth and size. Call it off the event loop.

    Raises:
        BadInput: it is not JSON, too deep, or has a character or number that cannot be stored.
        TooLarge: it has too many values.
    """
    if body.count(b"[") + body.count(b"{") + body.count(b",") > most_values:
        raise TooLarge(f"the document has more than {most_values} values", cause="body_too_large")
    try:
        value = json.loads(body, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not JSON: {error}", cause=cause) from error
    check_values(value)
    return value


def read_json_list(body: bytes, most_values: int) -> list[Any]:
    """Parse a JSON list one item at a time, so that the interpreter lock is never held for long.

    Call it off the event loop.

    Raises:
        BadInput, TooLarge: as `read_json`, or it is not a list.
    """
    if body.count(b"[") + body.count(b"{") + body.count(b",") > most_values:
        raise TooLarge(f"the document has more than {most_values} values", cause="body_too_large")
    cause = "not_label_studio"
    decoder = json.JSONDecoder(parse_constant=_constant)
    found: list[Any] = []
    try:
        text = body.decode().strip()
        if not text.startswith("["):
            json.loads(text)
            raise BadInput("a Label Studio export must be a list", cause=cause)
        at, more = _skip(text, 1), False
        while more or not text.startswith("]", at):
            item, at = decoder.raw_decode(text, at)
            check_values(item)
            found.append(item)
            at = _skip(text, at)
            more = text.startswith(",", at)
            if more:
                at = _skip(text, at + 1)
            elif not text.startswith("]", at):
                raise ValueError(f"a comma is missing at character {at}")
        if at + 1 != len(text):
            raise ValueError(f"more follows at character {at + 1}")
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the import is not JSON: {error}", cause=cause) from error
    return found


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def check_values(document: Any) -> None:
    """Check the values of a parsed document.

    Raises:
        BadInput: it is nested too deeply.
        InvalidParameter: a text or number cannot be stored.
    """
    waiting = [(document, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, dict | list):
            if depth > MOST_DEPTH:
                raise BadInput(f"arrays and objects are nested more than {MOST_DEPTH} deep", cause="invalid_json")
            for key in value if isinstance(value, dict) else ():
                check_text(key)
            waiting.extend((item, depth + 1) for item in (value.values() if isinstance(value, dict) else value))
        elif isinstance(value, str):
            check_text(value)
        elif (isinstance(value, float) and not math.isfinite(value)) or (
            isinstance(value, int) and not -(2**63) <= value < 2**63
        ):
            raise InvalidParameter("a number is out of range")


def check_text(text: str) -> None:
    """Check that a text can be stored.

    Raises:
        InvalidParameter: it has a NUL character or half of a surrogate pair.
    """
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InvalidParameter("a text has a NUL character or an unpaired surrogate", cause="control_character")


def check_toml(text: str) -> None:
    """Check that TOML can be parsed quickly.

    Raises:
        TooLarge: it is too long.
        BadInput: a dotted key has too many parts.
    """
    if len(text.encode(errors="replace")) > MOST_TOML_BYTES:
        raise TooLarge(f"TOML may have at most {MOST_TOML_BYTES} bytes", cause="body_too_large")
    bare = _COMMENTS.sub("", _STRINGS.sub("x", text))
    if any(part.count(".") >= MOST_KEY_PARTS for part in _BETWEEN_KEYS.split(bare)):
        raise BadInput(f"a key has more than {MOST_KEY_PARTS} parts", cause="bad_plan")
