"""Transfers of one file into a partial file: over HTTP, resumed after an interruption, or from a folder."""

import contextlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPMessage
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from speechpipe.errors import reason_of

BLOCK = 1 << 20
TIMEOUT_S = 30.0
"""Time to connect, and time without a byte, after which a connection counts as interrupted."""

ATTEMPTS = 5
"""Connections for one file; each resumes where the last one ended."""

SLOW_S, SLOW_BYTES = 60.0, 60 * 1024
"""A connection that brings fewer bytes than this in that time is given up: the next source may be faster."""

PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416

Progress = Callable[[int, int | None], None]
"""Called with (bytes so far, total bytes if known). What it raises ends the transfer."""


class SourceFailed(Exception):
    """A source did not give the file; another may.

    Attributes:
        reason: why, for a person.
        outcome: `failed`, or `hash_mismatch` if it gave other bytes.
        unreachable: its host cannot be connected to, so that it need not be asked for another file.
    """

    def __init__(self, reason: str, outcome: str = "failed", *, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.outcome = outcome
        self.unreachable = unreachable


class _Interrupted(Exception):
    """A connection ended before the file did."""


class Redirects(urllib.request.HTTPRedirectHandler):
    """Keeps a token on its own host, and what was asked for by https on https."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request that follows; raise `URLError` if it would leave https."""
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if before.scheme == "https" and after.scheme != "https":
            raise urllib.error.URLError(f"it redirects from https to {after.scheme}")
        found = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.unredirected_hdrs.get("Authorization")
        if found is not None and token and (before.scheme, before.netloc) == (after.scheme, after.netloc):
            found.add_unredirected_header("Authorization", token)
        return found


def download(url: str, part: Path, progress: Progress, *, token: str = "", most: int = 0) -> bool:
    """Download `url` into `part`, which is resumed if it exists (HTTP range requests, RFC 9110).

    Args:
        url: http or https.
        part: what has arrived stays in it if the download is interrupted.
        progress: called after each block.
        token: sent to the URL's host only, as a bearer token.
        most: bytes that the file has; more are refused. 0: not known.

    Returns:
        Whether bytes of an earlier download were kept, so that a wrong hash may be theirs.

    Raises:
        SourceFailed: the server cannot be reached, refuses, or repeatedly closes the connection.
        OSError: `part` cannot be written.
    """
    request = urllib.request.Request(url)  # noqa: S310 - http or https, checked by the card and the settings
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    kept = _size(part) > 0
    fruitless, last = 0, "the server closed it"
    for _ in range(ATTEMPTS):
        before = _size(part)
        progress(before, most or None)  # between two connections, too, the caller may want to stop
        try:
            if _resume(request, part, progress, most):
                return kept
        except _Interrupted as error:
            last = str(error)
        fruitless = fruitless + 1 if _size(part) <= before else 0
        if fruitless > 1:
            break
    raise SourceFailed(f"the connection was interrupted again and again ({last}); the part that arrived is kept")


def _resume(request: urllib.request.Request, part: Path, progress: Progress, most: int) -> bool:
    """Download the missing bytes over one connection; return whether the file is complete."""
    have = _size(part)
    if have:
        request.add_header("Range", f"bytes={have}-")
    else:
        request.remove_header("Range")
    try:
        answer = urllib.request.build_opener(Redirects).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == RANGE_NOT_SATISFIABLE and have:
                part.unlink()  # the part is longer than the file, so it is of another file
                raise _Interrupted("the part did not fit") from error
            raise SourceFailed(f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        why = error.reason if isinstance(error.reason, str) else reason_of(error.reason)  # type: ignore[arg-type]
        raise SourceFailed(f"it cannot be reached ({why})", unreachable=True) from error
    except (http.client.HTTPException, OSError) as error:
        raise _Interrupted(str(error) or type(error).__name__) from error
    with answer:
        resumed = answer.status == PARTIAL_CONTENT
        if resumed and not str(answer.headers.get("Content-Range", f"bytes {have}-")).startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise _Interrupted("the server sent another range than it was asked for")
        length = answer.headers.get("Content-Length")
        start = have if resumed else 0
        total = start + int(length) if length is not None and length.isdigit() else None
        with part.open("ab" if resumed else "wb") as out:
            done = _copy(answer, out, start, lambda done: progress(done, total or most or None), most)
        return total is None or done >= total


def _copy(
    answer: http.client.HTTPResponse, out: IO[bytes], start: int, progress: Callable[[int], None], most: int
) -> int:
    """Copy until the connection ends; return the bytes of the file so far."""
    done, since, begun = start, time.monotonic(), start
    while True:
        try:
            block = answer.read1(BLOCK)
        except (http.client.HTTPException, OSError) as error:
            raise _Interrupted(str(error) or type(error).__name__) from error
        if not block:
            return done
        out.write(block)
        done += len(block)
        if most and done > most:
            raise SourceFailed(f"it is longer than the {most} bytes that the card says", "hash_mismatch")
        progress(done)
        if time.monotonic() - since > SLOW_S:
            if done - begun < SLOW_BYTES:
                raise _Interrupted(f"fewer than {SLOW_BYTES // 1024} KiB arrived in {SLOW_S:.0f} s")
            since, begun = time.monotonic(), done


@contextlib.contextmanager
def fresh(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file for the block; if the block raises, the file is removed, because it cannot be resumed."""
    try:
        with path.open("wb") as out:
            yield out
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def copy(source: IO[bytes], out: IO[bytes], progress: Progress, *, done: int = 0, most: int = 0) -> int:
    """Copy an open file to the end; return the bytes written so far, counted from `done`.

    Raises:
        SourceFailed: it cannot be read, or is longer than `most` bytes.
        OSError: `out` cannot be written.
    """
    while True:
        try:
            block = source.read(BLOCK)
        except OSError as error:
            raise SourceFailed(f"it cannot be read ({reason_of(error)})") from error
        if not block:
            return done
        done += len(block)
        if most and done > most:
            raise SourceFailed(f"it is longer than the {most} bytes that the card says", "hash_mismatch")
        out.write(block)
        progress(done, most or None)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
