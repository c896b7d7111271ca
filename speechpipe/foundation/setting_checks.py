"""Checks of settings that are texts: each returns the value that is meant, or says in a sentence why it cannot work."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from speechpipe.errors import InvalidParameter
from speechpipe.foundation.addresses import ipv6_text, is_name, network_of
from speechpipe.foundation.text_files import parse_json

QUOTES = ("'", '"')

NO_LISTS = ("null", "true", "false")
"""JSON literals; as an item they are meant as something else."""

_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")

BROWSERS_OMIT = {"http": 80, "https": 443}
"""Ports that browsers leave out of an origin."""


def items(value: object) -> object:
    """Parse a list from an environment variable: JSON if it begins with `[`, else items separated by commas."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        try:
            return parse_json(text)
        except ValueError as error:
            raise ValueError(f"not a JSON list ({error}); or write the items with commas between them") from None
    if text.startswith(("{", '"')) or text in NO_LISTS:
        raise ValueError("not a list; write items separated by commas, or a JSON list")
    found = [item.strip() for item in text.split(",")] if text else []
    if any(item.startswith(QUOTES) or item.endswith(QUOTES) for item in found):
        raise ValueError('an item begins or ends with a quote; write a,b or the JSON list ["a", "b"]')
    return found


def complete(found: list[str]) -> list[str]:
    """Refuse empty items."""
    if any(not item.strip() for item in found):
        raise ValueError("an item is empty")
    return found


def not_emptied(value: object) -> object:
    """Refuse a list of keys that is set but empty: it would switch authentication off unnoticed."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("set, but empty; unset it, or write [] for no keys")
    return value


def sendable(keys: list[str]) -> list[str]:
    """Refuse keys that no header can hold."""
    if any(not re.fullmatch(r"[!-~]+", key) for key in keys):
        raise ValueError("a key is sent in a header: only printable ASCII characters without spaces are allowed")
    return keys


def not_blank(text: str) -> str:
    """Refuse a text of nothing but spaces, which is a mistake in a script."""
    if text and not text.strip():
        raise ValueError("set, but blank")
    return text


def not_empty(value: object) -> object:
    """Refuse an empty text."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("set, but empty; unset it for the default")
    return value


def unset_if_empty(value: object) -> object:
    """Return None for an empty text."""
    return None if isinstance(value, str) and not value.strip() else value


def store_url(url: str) -> str:
    """Refuse URLs with which no store can be opened."""
    if not url:
        return url
    if not re.match(r"(sqlite|postgresql)(\+\w+)?://", url):
        raise ValueError("must begin with sqlite:/// or postgresql:// (or be empty: SQLite in the state directory)")
    if url.startswith("postgresql"):
        parts_of(url)
    from speechpipe.foundation.storage.urls import check_store_url  # SQLAlchemy takes long to import

    check_store_url(url)
    return url


def parts_of(url: str) -> SplitResult:
    """Return the parts of a URL; ValueError if it cannot be parsed or its port is not a number."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises if it is not a number
    except ValueError as error:
        raise ValueError(f"not a URL: {str(error).lower()}") from None
    if "[" in parts.netloc.rpartition("@")[2] and ":" not in (parts.hostname or ""):
        raise ValueError("not a URL: only IPv6 addresses have brackets")
    return parts


def web_url(url: str) -> str:
    """Refuse what is not the URL of a web server."""
    if not url:
        return url
    if any(char.isspace() or not char.isprintable() for char in url) or "\\" in url:
        raise ValueError("a URL has no spaces, control characters or backslashes")
    parts = parts_of(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    if not parts.hostname:
        raise ValueError("a URL without a host")
    if not _is_host(parts.hostname) or parts.port == 0:
        raise ValueError(f"{parts.netloc.rpartition('@')[2]!r} is not a host, or a host and a port")
    return url


def base_url(url: str) -> str:
    """Refuse URLs to which no path can be added."""
    parts = parts_of(web_url(url))
    if "?" in url or "#" in url or "@" in parts.netloc:
        raise ValueError("paths are added to this URL: it has no query, fragment or user name")
    return url


def folder_or_url(text: str) -> str:
    """Refuse what is neither a path nor a URL to which paths can be added."""
    if "\0" in text or (text and not text.strip()):
        raise ValueError("neither a folder nor a URL")
    return base_url(text) if "://" in text else text


def url_prefixes(found: list[str]) -> list[str]:
    """Refuse entries that are not the beginning of a URL."""
    from speechpipe.foundation.outgoing import AllowedUrls

    try:
        AllowedUrls(found)
    except InvalidParameter as error:
        raise ValueError(error.message) from None
    return found


def networks(found: list[str]) -> list[str]:
    """Refuse entries that are not networks."""
    for item in found:
        try:
            network_of(item)
        except ValueError as error:
            raise ValueError(f"not a network, such as 10.0.0.0/8: {error}") from None
    return found


def path_prefix(text: str) -> str:
    """Refuse what no proxy serves under: it begins with a slash and ends without one."""
    segments = text.split("/")[1:]
    if text and (not text.startswith("/") or not all(map(_SEGMENT.fullmatch, segments))):
        raise ValueError("must be a path such as /speech: letters, digits and . _ ~ - between slashes, none at the end")
    if any(segment in (".", "..") for segment in segments):
        raise ValueError("clients resolve `.` and `..` in paths: no request can have this prefix")
    return text


def host_names(found: list[str]) -> list[str]:
    """Refuse what no `Host` header can hold; a port is allowed and makes no difference."""
    for item in found:
        name, colon, port = item.rpartition(":")
        if not colon or is_address(item) or item.endswith("]"):
            name, port = item, ""
        valid = is_address(name.strip("[]")) or is_name(re.sub(r"^(\*\.|\.)", "", name))
        if item != "*" and (not valid or (colon and port and not _is_port(port)) or item.endswith(":")):
            raise ValueError(
                f"{item!r} is not a host name: such as asr.example.com, .example.com or *; no scheme or path"
            )
    return found


def origins(found: list[str]) -> list[str]:
    """Return the origins as browsers send them; refuse what they never send."""
    return [item if item == "*" else _origin(item) for item in found]


def _origin(item: str) -> str:
    parts = parts_of(item)
    if "*" in item:
        raise ValueError(f"{item!r}: no wildcard is supported but * alone, which allows every origin")
    plain = f"{parts.scheme}://{parts.netloc}".lower()
    if not parts.scheme or not parts.hostname or item.lower().removesuffix("/") != plain or "@" in parts.netloc:
        raise ValueError(f"{item!r} is not an origin: scheme://host or scheme://host:port, or *")
    if not _is_host(parts.hostname) or not parts.hostname.isascii() or "%" in item or parts.netloc.endswith(":"):
        raise ValueError(f"{item!r} has no host that browsers send; they send ASCII names (xn--...)")
    if parts.port == 0:
        raise ValueError(f"{item!r}: no server listens on port 0")
    if parts.port is not None and parts.port == BROWSERS_OMIT.get(parts.scheme):
        raise ValueError(f"{item!r}: browsers leave out the port {parts.port} of {parts.scheme}")
    host = f"[{ipv6_text(parts.hostname)}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port is not None else "")


def _is_port(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,5}", text) is not None and 0 < int(text) <= 65535


def is_address(text: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address, without brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_host(name: str) -> bool:
    """Whether this is an address or a name; names may have other letters than ASCII if IDNA can encode them."""
    if is_address(name):
        return "%25" not in name  # the zone of an address is written %eth0
    try:
        return is_name(name if name.isascii() else name.encode("idna").decode("ascii"))
    except UnicodeError:
        return False
