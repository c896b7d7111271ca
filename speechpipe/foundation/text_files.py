"""Text files and standard input named by a user: devices, pipes and too large files are refused.

JSON and TOML are parsed here, so that every reader refuses documents that are nested too deeply in the same way.
"""

import contextlib
import fcntl
import json
import os
import stat
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from speechpipe.errors import BadInput, reason_of

MOST_CARD_BYTES = 2**20
"""Largest card, plan or policy; they are written by hand."""

MOST_LIST_BYTES = 2**28
"""Largest manifest, dictionary or export; they have one line for each recording or word."""

MOST_DEPTH = 100
"""Most levels of arrays and objects in a document. Nothing that is read here needs more than five."""

TOO_DEEP = f"arrays and objects are nested more than {MOST_DEPTH} deep"


def read_text(path: Path, most_bytes: int = MOST_CARD_BYTES, *, cause: str = BadInput.cause) -> str:
    """Return the text of a regular file.

    Raises:
        BadInput: it cannot be read, is a device, a pipe or a folder, is longer than `most_bytes`, or is not UTF-8; the
            message names the file.
    """
    try:
        # Without O_NONBLOCK, opening a pipe without a writer would block for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise BadInput(f"{path}: not a regular file", cause=cause)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return decoded(file, str(path), most_bytes, cause=cause)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        raise BadInput(f"{path}: {reason_of(error)}", cause=cause) from error


def decoded(file: BinaryIO, name: str, most_bytes: int = MOST_CARD_BYTES, *, cause: str = BadInput.cause) -> str:
    """Return the text of an open file, with LF at the ends of its lines.

    Raises:
        BadInput: it is longer than `most_bytes`, or is not UTF-8; the message begins with `name`.
        OSError: it cannot be read.
    """
    data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise BadInput(f"{name}: longer than {most_bytes // 2**20} MiB", cause=cause)
    try:
        return data.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{name}: {error}", cause=cause) from error


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is not JSON, or is nested too deeply; the message is one line.
    """
    return _parsed(json.loads, text)


def parse_toml(text: str) -> dict[str, Any]:
    """Return the table of a TOML text.

    Raises:
        ValueError: it is not TOML, or is nested too deeply; the message is one line.
    """
    table: dict[str, Any] = _parsed(tomllib.loads, text)
    return table


def _parsed(parse: Callable[[str], Any], text: str) -> Any:
    try:
        document = parse(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    _check_depth(document)
    return document


def _check_depth(document: object) -> None:
    """Check the depth of a parsed document: comparing or printing a deeper one could exceed Python's limit."""
    waiting = [(document, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, dict | list):
            if depth > MOST_DEPTH:
                raise ValueError(TOO_DEEP)
            waiting.extend((item, depth + 1) for item in (value.values() if isinstance(value, dict) else value))


@contextlib.contextmanager
def naming(file: object) -> Iterator[None]:
    """Put the name of a file in front of the messages of `BadInput` that the block raises without it."""
    try:
        yield
    except BadInput as error:
        if error.message.startswith(str(file)):
            raise
        raise type(error)(f"{file}: {error.message}", cause=error.cause, param=error.param) from error


def standard_input() -> BinaryIO:
    """Return standard input as a binary file.

    Raises:
        BadInput: it is closed, or open for writing only.
    """
    try:
        closed = sys.stdin is None or sys.stdin.closed
        closed = closed or fcntl.fcntl(sys.stdin.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    except (OSError, ValueError):
        closed = True
    if closed:
        raise BadInput("standard input is closed")
    return sys.stdin.buffer
