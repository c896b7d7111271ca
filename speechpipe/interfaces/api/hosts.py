"""Which host names a request may carry, and from which origins a browser may send one.

A page of a foreign site can reach a server on the visitor's own machine or network in two ways: it sends requests
whose answers it cannot read (cross-site request forgery), or its name is made to resolve to the server's address (DNS
rebinding), and then it reads everything. Checking `Origin` stops the first, checking `Host` the second.
"""

import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from urllib.parse import unquote, urlsplit

from starlette.types import Scope

from speechpipe.config import Settings
from speechpipe.errors import BadInput, Forbidden, Misdirected

LOOPBACK = "localhost"

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(\d{1,5}))?")

_ABSOLUTE = re.compile(rb"(?:https?|wss?)://([^/]*)(/.*)?", re.IGNORECASE | re.DOTALL)

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def in_origin_form(scope: Scope) -> Scope:
    """Return the scope of a request whose target is a whole URL as if only the path had been sent.

    A server must take such targets, and the host in one counts in place of the `Host` header (RFC 9112, 3.2.2).
    """
    match = _ABSOLUTE.fullmatch(scope.get("raw_path") or b"")
    if match is None:
        return scope
    host, path = match[1], match[2] or b"/"
    others = [(name, value) for name, value in scope["headers"] if name.lower() != b"host"]
    return dict(scope, path=unquote(path.decode("ascii")), raw_path=path, headers=[(b"host", host), *others])


def is_loopback(host: str) -> bool:
    """Return whether an address to listen on can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == LOOPBACK


class Hosts:
    """The host names of this server. Immutable.

    Always allowed are loopback names, every IP address (a name can be made to resolve to another address, an address
    cannot), the address to listen on, and names without a dot: nobody outside can register one.
    """

    def __init__(self, settings: Settings) -> None:
        names = {re.sub(r":\d+$", "", name.strip().lower()).rstrip(".") for name in settings.allowed_hosts}
        self.any = "*" in names
        own = {settings.host.lower(), socket.gethostname().lower()}
        self._names = own | {name for name in names if not name.startswith(("*.", "."))}
        self._suffixes = tuple("." + name.lstrip("*.") for name in names if name.startswith(("*.", ".")))

    def check(self, host: str | None) -> None:
        """Check the value of a `Host` header; None: there is none (HTTP/1.0).

        Raises:
            BadInput: it is no host.
            Misdirected: it is not one of this server's.
        """
        if host is None or self.any:
            return
        match = _HOST.fullmatch(host)
        if match is None:
            raise BadInput("the Host header is not a host name", cause="bad_request")
        name = match[1].lower().rstrip(".")
        if not self._knows(name):
            message = f"this server does not answer for the host name {name[:255]!r}"
            raise Misdirected(f"{message}; its operator can list it in SPEECHPIPE_ALLOWED_HOSTS")

    def _knows(self, name: str) -> bool:
        if "." not in name or name in self._names or name.endswith((f".{LOOPBACK}", *self._suffixes)):
            return True
        return _is_address(name.strip("[]"))


class Origins:
    """The origins whose pages may ask for more than to read. Immutable."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._any = "*" in allowed
        self._allowed = frozenset(_origin(item) for item in allowed)

    def allows(self, origin: str) -> bool:
        """Return whether the setting lists an origin."""
        return self._any or _origin(origin) in self._allowed

    def check(self, headers: Mapping[str, str]) -> None:
        """Check a request that changes something or opens a websocket. `headers`: names in lower case.

        Clients that are no browsers send none of these headers. A browser sends `Origin`, which no script can forge,
        and most of them also whether the page is of the same origin as what it asks (`Sec-Fetch-Site`); that holds
        behind a proxy that hands on another `Host` too.

        Raises:
            Forbidden: the page that sends this is of another origin, which is not allowed.
        """
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if site in ("same-origin", "none"):
            return
        if origin is None:
            if site is not None:
                raise Forbidden(f"a page of another site ({site}) may not do this")
            return
        own = [value for name in ("host", "x-forwarded-host") if (value := headers.get(name))]
        if _is_own(origin, own) or self.allows(origin):
            return
        message = f"pages of {origin[:255]!r} may not do this"
        raise Forbidden(f"{message}; this server's operator can list the origin in SPEECHPIPE_ALLOWED_ORIGINS")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _origin(text: str) -> str:
    return text.strip().rstrip("/").lower()


def _is_own(origin: str, hosts: Sequence[str]) -> bool:
    try:
        parts = urlsplit(origin)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return False
    if parts.hostname is None:
        return False
    found = (_HOST.fullmatch(host) for host in hosts)
    given = [(match[1].strip("[]").lower(), match[2]) for match in found if match]
    return any(
        name == parts.hostname and (int(port_) == port if port_ else port in DEFAULT_PORTS.values())
        for name, port_ in given
    )
