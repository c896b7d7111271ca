"""Fetching weights by card: resumed where it was cut off, and refused if they are not what the card says."""

import contextlib
import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from speechpipe.cascade.catalog.cards import CardFile, first_seen
from speechpipe.errors import BadInput, FetchFailed, said

BLOCK = 1 << 20
TIMEOUT_S = 30.0
ATTEMPTS = 5
"""Connections for one file; each goes on where the last one ended."""

PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416

Progress = Callable[[int, int | None], None]
"""Told (bytes so far, bytes in all if known)."""


def fetch(file: CardFile, progress: Progress = lambda _, __: None) -> bool:
    """Fetch a file unless it is there and right; return whether it was fetched.

    What was fetched before a cut stands in `NAME.part` and is gone on with (HTTP range requests, RFC 9110).

    Raises:
        BadInput: the card has no URL that can be fetched, or the bytes are not what it says (nothing is left of them).
        FetchFailed: the server cannot be reached, or breaks off again and again; the part is kept.
    """
    target = file.target
    if target is None or not file.url.startswith(("http://", "https://")):
        raise BadInput(f"{file.path}: there is nothing to fetch (url = {file.url!r})")
    if file.locate() is not None and not file.problem():
        return False
    part = target.with_name(target.name + ".part")
    made: list[Path] = []
    try:
        made = _folder_of(file, target)
        for path in (target, part, first_seen(target)):
            if path.is_symlink():  # what is written would land where the link leads
                raise BadInput(f"{path} is a link; nothing is fetched into it")
        _download(file.url, part, progress)
        found = _sha256(part)
        if file.hash and found != file.hash:
            part.unlink()
            who = "the card says" if file.sha256 else "when it was first fetched it was"
            raise BadInput(f"{file.url} has sha256 {found}, {who} {file.hash}: nothing was kept", cause="hash_mismatch")
        if not file.hash:  # its publisher says none: from now on it is this one
            first_seen(target).write_text(found + "\n", encoding="ascii")
        part.replace(target)  # all or nothing: nobody ever loads half a file
    except OSError as error:
        raise FetchFailed(f"{file.url}: cannot write {target}: {said(error)}") from error
    finally:
        for folder in reversed(made):  # what nothing came into is not left behind
            with contextlib.suppress(OSError):
                folder.rmdir()
    return True


def _folder_of(file: CardFile, target: Path) -> list[Path]:
    """Make the folder of a file; return the folders that were not there before, from the top.

    Raises:
        BadInput: a link in the way leads out of the folder of the card's files.
        OSError: it cannot be made.
    """
    missing = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    root = file.kept if file.kept is not None and file.url else file.folder
    if root is not None and not target.parent.resolve().is_relative_to(root.resolve()):
        raise BadInput(f"{target} leads out of {root}: nothing is fetched into it")
    return missing[::-1]


def _download(url: str, part: Path, progress: Progress) -> None:
    last: Exception | None = None
    for _ in range(ATTEMPTS):
        try:
            if _go_on(url, part, progress):
                return
        except urllib.error.HTTPError as error:
            error.close()
            raise FetchFailed(f"{url}: the server answers {error.code} {error.reason}") from error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            last = error
    if not part.exists() or not part.stat().st_size:
        target = part.with_name(part.name.removesuffix(".part"))
        why = getattr(last, "reason", last)
        message = f"{url} cannot be reached ({why}); without a network, put the file there yourself: {target}"
        raise FetchFailed(message)
    raise FetchFailed(f"{url} broke off {ATTEMPTS} times ({last}); what came is kept, try again")


def _go_on(url: str, part: Path, progress: Progress) -> bool:
    """Fetch what is missing; return whether all is there."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310 - checked
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310 - http(s), checked by `fetch`
    except urllib.error.HTTPError as error:
        if error.code == RANGE_NOT_SATISFIABLE and have:
            error.close()
            part.unlink()  # longer than the file: it was another one
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
