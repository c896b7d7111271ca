"""Host names that requests may carry, and origins from which browsers may send requests.

A page of another site can attack a server on the visitor's machine or network in two ways: by requests whose answers
it cannot read (cross-site request forgery), or by a name that resolves to the server's address (DNS rebinding), with
which it can read the answers. Checking `Origin` prevents the first, checking `Host` the second.
"""

import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from urllib.parse import unquote, urlsplit

from starlette.types import Scope

from speechpipe.config import Settings
from speechpipe.errors import BadInput, Forbidden, Misdirected
from speechpipe.foundation.setting_checks import is_address

LOOPBACK = "localhost"

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(\d{1,5}))?")

_ABSOLUTE = re.compile(rb"(?:https?|wss?)://([^/]*)(/.*)?", re.IGNORECASE | re.DOTALL)

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def in_origin_form(scope: Scope) -> Scope:
    """Return the scope of a request whose target is an absolute URL as if only the path had been sent.

    Servers must accept such targets, and use their host instead of the `Host` header (RFC 9112, 3.2.2).
    """
    match = _ABSOLUTE.fullmatch(scope.get("raw_path") or b"")
    if match is None:
        return scope
    host, path = match[1], match[2] or b"/"
    others = [(name, value) for name, value in scope["headers"] if name.lower() != b"host"]
    return dict(scope, path=unquote(path.decode("ascii")), raw_path=path, headers=[(b"host", host), *others])


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return host.rstrip(".").lower() == LOOPBACK


class Hosts:
    """The host names of this server. Immutable.

    Always allowed are loopback names, IP addresses (rebinding needs a name), the address to listen on, and names
    without a dot, which cannot be registered publicly.
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
            BadInput: it is not a host.
            Misdirected: it is not one of this server's names.
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
        return is_address(name.strip("[]"))


class Origins:
    """The origins whose pages may send other requests than reads. Immutable."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._any = "*" in allowed
        self._allowed = frozenset(_origin(item) for item in allowed)

    def allows(self, origin: str) -> bool:
        """Whether the setting lists an origin."""
        return self._any or _origin(origin) in self._allowed

    def check(self, headers: Mapping[str, str]) -> None:
        """Check a request that changes something or opens a websocket. `headers` has names in lower case.

        Clients other than browsers send none of these headers. Browsers send `Origin`, which scripts cannot forge. Most
        also send `Sec-Fetch-Site`, which says whether the page has the same origin as the request, even behind a proxy
        that changes `Host`.

        Raises:
            Forbidden: the page that sent the request has another origin, which is not allowed.
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
