"""Downloads of weights: resumed after an interruption, and checked by their hash."""

import contextlib
import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from speechpipe.cascade.catalog.cards import CardFile, first_seen
from speechpipe.errors import BadInput, FetchFailed, reason_of

BLOCK = 1 << 20
TIMEOUT_S = 30.0
ATTEMPTS = 5
"""Connections for one file; each resumes where the last one ended."""

PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416

Progress = Callable[[int, int | None], None]
"""Called with (bytes so far, total bytes if known)."""


def fetch(file: CardFile, progress: Progress = lambda _, __: None) -> bool:
    """Download a file unless it exists with the right hash; return whether it was downloaded.

    An interrupted download stays in `NAME.part` and is resumed (HTTP range requests, RFC 9110).

    Raises:
        BadInput: the card has no http(s) URL, or the hash is wrong (the download is then deleted).
        FetchFailed: the server cannot be reached or repeatedly closes the connection (the part is kept), or the file
            cannot be written.
    """
    target = file.target
    if target is None or not file.url.startswith(("http://", "https://")):
        raise BadInput(f"{file.path}: cannot be downloaded (url = {file.url!r})")
    if file.locate() is not None and not file.problem():
        return False
    part = target.with_name(target.name + ".part")
    made: list[Path] = []
    try:
        made = _folder_of(file, target)
        for path in (target, part, first_seen(target)):
            if path.is_symlink():  # writing would follow the link
                raise BadInput(f"{path} is a link; nothing is downloaded into it")
        _download(file.url, part, progress)
        found = _sha256(part)
        if file.hash and found != file.hash:
            part.unlink()
            source = "the card says" if file.sha256 else "its first download had"
            message = f"{file.url} has sha256 {found}, {source} {file.hash}: the download was deleted"
            raise BadInput(message, cause="hash_mismatch")
        if not file.hash:  # no published hash: later downloads must have this one
            first_seen(target).write_text(found + "\n", encoding="ascii")
        part.replace(target)  # atomic: an incomplete file is never loaded
    except OSError as error:
        raise FetchFailed(f"{file.url}: cannot write {target}: {reason_of(error)}") from error
    finally:
        for folder in reversed(made):  # remove new folders that are still empty
            with contextlib.suppress(OSError):
                folder.rmdir()
    return True


def _folder_of(file: CardFile, target: Path) -> list[Path]:
    """Create the folder of a file; return the folders that did not exist before, outermost first.

    Raises:
        BadInput: a link in the path leads out of the folder of the card's files.
        OSError: it cannot be created.
    """
    missing = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    root = file.kept if file.kept is not None and file.url else file.folder
    if root is not None and not target.parent.resolve().is_relative_to(root.resolve()):
        raise BadInput(f"{target} is outside {root} by a link: nothing is downloaded into it")
    return missing[::-1]


def _download(url: str, part: Path, progress: Progress) -> None:
    last: Exception | None = None
    for _ in range(ATTEMPTS):
        try:
            if _resume(url, part, progress):
                return
        except urllib.error.HTTPError as error:
            error.close()
            raise FetchFailed(f"{url}: the server answered {error.code} {error.reason}") from error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            last = error
    if not part.exists() or not part.stat().st_size:
        target = part.with_name(part.name.removesuffix(".part"))
        why = getattr(last, "reason", last)
        message = f"{url} cannot be reached ({why}); without a network, put the file there yourself: {target}"
        raise FetchFailed(message)
    raise FetchFailed(f"{url} was interrupted {ATTEMPTS} times ({last}); the part that arrived is kept, try again")


def _resume(url: str, part: Path, progress: Progress) -> bool:
    """Download the missing bytes in one connection; return whether the file is complete."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310 - checked
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310 - http(s), checked by `fetch`
    except urllib.error.HTTPError as error:
        if error.code == RANGE_NOT_SATISFIABLE and have:
            error.close()
            part.unlink()  # the part is longer than the file, so it is of another file
            return False
        raise
    with answer:
        resumed = answer.status == PARTIAL_CONTENT
        length = answer.headers.get("Content-Length")
        start = have if resumed else 0
        total = start + int(length) if length is not None and length.isdigit() else None
        with part.open("ab" if resumed else "wb") as out:
            done = start
            while block := answer.read(BLOCK):
                out.write(block)
                done += len(block)
                progress(done, total)
        return total is None or done >= total


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
