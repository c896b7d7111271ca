"""Outgoing HTTP: the only place that calls other servers' URLs (callbacks to clients, the alarm webhook).

Every request is a signed POST with a total time limit. Redirects are not followed and the response body is not read.
Every failure is raised as `DeliveryFailed` with a short cause. Weights are downloaded by `cascade/catalog/download.py`.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import os
import secrets
import socket
import time
import unicodedata
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from speechpipe.errors import DeliveryFailed, InvalidParameter
from speechpipe.foundation.addresses import Address, Network, is_reachable, network_of, normal_host, unmapped
from speechpipe.foundation.state_files import make_folder

TIMESTAMP_HEADER = "X-Speechpipe-Timestamp"
SIGNATURE_HEADER = "X-Speechpipe-Signature"
MOST_URL = 2000
DEFAULT_PORT = {"http": 80, "https": 443}


def signature(secret: bytes, timestamp: int, body: bytes) -> str:
    """Return the value of `X-Speechpipe-Signature`: HMAC-SHA256 over `TIMESTAMP.BODY`, as `sha256=HEX`.

    A receiver computes the same from the header `X-Speechpipe-Timestamp` and the raw body, compares in constant time
    and refuses old timestamps.
    """
    return "sha256=" + hmac.new(secret, f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def load_secret(path: Path) -> bytes:
    """Return the signing secret stored in `path`. The first call creates it, readable by its owner only.

    Raises:
        OSError: the file cannot be read, or cannot be created.
    """
    make_folder(path.parent)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes().strip()
    secret = secrets.token_hex(32).encode()
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret + b"\n")
    return secret


@dataclass(frozen=True)
class _Place:
    """A URL in normal form. Checks and requests use the same form, so that a check cannot be bypassed by spelling."""

    scheme: str
    host: str
    port: int
    segments: tuple[str, ...]


def _place(url: str) -> _Place:
    """Return the normal form of a URL; ValueError if it has none."""
    if len(url) > MOST_URL or not url.isascii() or not url.isprintable() or any(char in url for char in " \\"):
        raise ValueError("not a plain URL")
    parts: SplitResult = urlsplit(url)
    if parts.scheme not in DEFAULT_PORT or not parts.hostname:
        raise ValueError("not an absolute http or https URL")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("user names and fragments are not allowed")
    if "[" in parts.netloc and ":" not in parts.hostname:
        raise ValueError("only IPv6 addresses have brackets")
    if "//" in parts.path:
        raise ValueError("the path has an empty segment")
    segments = [part for part in parts.path.split("/") if part]
    if not all(map(_is_plain, segments)):
        raise ValueError("the path is not in its normal form")
    if parts.port == 0:
        raise ValueError("port 0 cannot be called")
    return _Place(parts.scheme, normal_host(parts.hostname), parts.port or DEFAULT_PORT[parts.scheme], tuple(segments))


def _is_plain(segment: str) -> bool:
    """Whether no server reads this segment of a path as another one, or as several.

    Servers may decode it twice (`%252e`) or leniently (bytes that are not UTF-8, `%u002e`), take compatible characters
    for dots and slashes, cut it off at a semicolon, and ignore spaces and dots at its end.
    """
    plain = segment
    try:
        while (decoded := unquote(plain, errors="strict")) != plain:
            plain = decoded
    except UnicodeDecodeError:
        return False
    plain = unicodedata.normalize("NFKC", plain)
    if any(char in plain for char in "/\\%") or not plain.isprintable():
        return False
    return plain.partition(";")[0].strip(". ") != ""


Receiver = tuple[str, int]
"""Host and port of a URL in normal form."""


def receiver_of(url: str) -> Receiver:
    """Return the receiver of a URL, the same for every spelling; `("", 0)` if it is not a URL that can be called."""
    try:
        place = _place(url)
    except ValueError:
        return "", 0
    return place.host, place.port


class AllowedUrls:
    """The URLs that an operator allows, as prefixes of scheme, host, port and first path segments.

    `https://hooks.example.com/speech` allows `/speech` and `/speech/a`, but not `/speechless` or another host or port.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        """Parse the entries.

        Raises:
            InvalidParameter: an entry is not an absolute http or https URL, or has a query.
        """
        self._places = []
        for entry in entries:
            try:
                place = _place(entry)
                if urlsplit(entry).query:
                    raise ValueError("no query is allowed")
            except ValueError as error:
                raise InvalidParameter(f"{entry!r} is not a URL prefix: {error}", param="callbacks") from error
            self._places.append(place)

    def __contains__(self, url: str) -> bool:
        """Whether `url` lies under one of the entries."""
        try:
            place = _place(url)
        except ValueError:
            return False
        return any(
            (place.scheme, place.host, place.port) == (entry.scheme, entry.host, entry.port)
            and place.segments[: len(entry.segments)] == entry.segments
            for entry in self._places
        )


class Sender:
    """Sends POST requests. Thread-safe; a call blocks its thread for at most about `timeout_s` seconds.

    Args:
        secret: signs each request; empty = unsigned.
        timeout_s: for one request in total: name lookup, connection, sending, the response's status.
        guarded: refuse hosts whose addresses are not public, unless the URL names the address itself (or `localhost`)
            or the address lies in `networks`. The request is sent to the address that was checked, and not by a proxy.
        networks: further networks (CIDR) that a guarded sender may reach.
    """

    def __init__(
        self, secret: bytes = b"", *, timeout_s: float = 10.0, guarded: bool = False, networks: Sequence[str] = ()
    ) -> None:
        """Parse the networks; nothing is sent yet.

        Raises:
            InvalidParameter: an entry of `networks` is not a network in CIDR notation.
        """
        self._secret = secret
        self._timeout_s = timeout_s
        self._guarded = guarded
        try:
            self._networks: list[Network] = [network_of(text) for text in networks]
        except ValueError as error:
            raise InvalidParameter(f"not a network: {error}", param="callback_networks") from error

    def post(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """POST `body` as JSON; return when the receiver has answered with a 2xx status.

        Raises:
            DeliveryFailed: the request failed, or was answered with another status. `cause` is `timeout`,
                `unreachable`, `private_address`, `protocol`, `redirect` or `status`.
        """
        timestamp = int(time.time())
        sent = {"Content-Type": "application/json", "User-Agent": "speechpipe", TIMESTAMP_HEADER: str(timestamp)}
        if self._secret:
            sent[SIGNATURE_HEADER] = signature(self._secret, timestamp, body)
        status = _run(self._send(url, body, {**sent, **(headers or {})}))
        if 300 <= status < 400:
            raise DeliveryFailed(f"the receiver answered {status}; redirects are not followed", cause="redirect")
        if not 200 <= status < 300:
            raise DeliveryFailed(f"the receiver answered {status}", cause="status")

    async def _send(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        import httpx

        try:
            async with asyncio.timeout(self._timeout_s):
                target, extensions = httpx.URL(url), {}
                if self._guarded:
                    place = _place(url)
                    address = await self._checked(place)
                    headers["Host"] = target.netloc.decode("ascii")
                    target, extensions = target.copy_with(host=address), {"sni_hostname": place.host}
                async with httpx.AsyncClient(timeout=self._timeout_s, trust_env=not self._guarded) as client:
                    request = client.build_request("POST", target, content=body, headers=headers, extensions=extensions)
                    response = await client.send(request, stream=True)
                    await response.aclose()
                    return response.status_code
        except (TimeoutError, httpx.TimeoutException) as error:
            raise DeliveryFailed(f"no answer within {self._timeout_s:g} s", cause="timeout") from error
        except (httpx.NetworkError, OSError) as error:
            raise DeliveryFailed(_first_line(error), cause="unreachable") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError) as error:
            raise DeliveryFailed(_first_line(error), cause="protocol") from error

    async def _checked(self, place: _Place) -> str:
        """Look up the host and return its first address that may be called."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
        for *_, (address, *_) in found:
            if self._may_call(place.host, ipaddress.ip_address(str(address).partition("%")[0])):
                return str(address)
        message = f"{place.host} has no public address; SPEECHPIPE_CALLBACK_NETWORKS allows further networks"
        raise DeliveryFailed(message, cause="private_address")

    def _may_call(self, host: str, address: Address) -> bool:
        if host in ("localhost", str(unmapped(address))):  # the operator has allowed this address by name
            return True
        return is_reachable(address, self._networks)


def _run(sending: Coroutine[Any, Any, int]) -> int:
    """Run a coroutine on a new event loop.

    Unlike `asyncio.run` it does not wait for the thread of a hanging name lookup, which would exceed the time limit.
    """
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(sending)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
