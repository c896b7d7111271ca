"""URLs of stores: which ones can work, and the URL of a SQLite file."""

import re
from importlib import import_module
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

SERVER_DRIVERS = ("psycopg", "psycopg2")
"""Drivers whose connections get the time limits of `database.py`."""

SQLITE_OPTIONS = {"timeout", "isolation_level", "detect_types", "check_same_thread", "cached_statements"}
"""Options of a SQLite URL that the driver takes for a file."""

LARGEST_PORT = 65535


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file, whatever characters its path has."""
    return "sqlite:///" + re.sub("[%?#]", lambda found: f"%{ord(found[0]):02X}", str(path))


def check_store_url(url: str) -> None:
    """Check that a store can be opened by this URL once its disk or server can be reached.

    Raises:
        ValueError: it cannot; the message never contains the URL, which may hold a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ValueError("not a database URL") from error
    if parsed.get_backend_name() == "sqlite":
        _check_file(parsed)
    elif parsed.get_backend_name() == "postgresql":
        _check_server(parsed)
    else:
        raise ValueError("must begin with sqlite:/// or postgresql+psycopg://")


def _check_file(url: URL) -> None:
    if url.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise ValueError(f"the driver {url.get_driver_name()} is not supported for SQLite; write sqlite:///PATH")
    if url.host or url.port or url.username:
        raise ValueError("a SQLite URL has no host; write sqlite:///PATH, or sqlite:////PATH for an absolute path")
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ValueError("a SQLite store needs the path of a file: sqlite:///PATH")
    if unknown := sorted(set(url.query) - SQLITE_OPTIONS):
        raise ValueError(f"unknown SQLite option {unknown[0]!r}; a question mark in the path is written %3F")
    try:
        folder = Path(url.database).is_dir()
    except OSError as error:
        raise ValueError(f"the file cannot be looked up: {error.strerror}") from None
    if folder:
        raise ValueError("the path of the SQLite store is a folder")


def _check_server(url: URL) -> None:
    driver = url.get_driver_name()
    if driver not in SERVER_DRIVERS:
        raise ValueError(f"the driver {driver} is not supported for PostgreSQL; write postgresql+psycopg://")
    if url.port is not None and not 0 < url.port <= LARGEST_PORT:
        raise ValueError(f"the port must be in 1..{LARGEST_PORT}")
    try:
        import_module(driver)
    except ImportError as error:
        hint = "; it is installed with the extra `postgres`" if driver == "psycopg" else "; psycopg is supported too"
        raise ValueError(f"the driver {driver} cannot be loaded ({error}){hint}") from error
