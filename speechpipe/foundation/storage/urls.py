"""URLs of stores: which ones can work, and the URL of a SQLite file."""

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.util import asbool

SERVER_DRIVERS = {"psycopg": ("psycopg.conninfo", "make_conninfo"), "psycopg2": ("psycopg2.extensions", "make_dsn")}
"""Drivers whose connections get the time limits of `database.py`, with the function that joins options for libpq."""

LARGEST_INT = 2**31 - 1

ISOLATION_LEVELS = ("DEFERRED", "IMMEDIATE", "EXCLUSIVE")

SQLITE_OPTIONS: dict[str, tuple[Callable[[str], bool], str]] = {
    "timeout": (lambda text: 0 <= float(text) <= LARGEST_INT / 1000, "a number of seconds"),
    "isolation_level": (lambda text: text.upper() in ISOLATION_LEVELS, f"one of {', '.join(ISOLATION_LEVELS)}"),
    "detect_types": (lambda text: int(text) in range(4), "a number in 0..3"),
    "check_same_thread": (lambda text: not asbool(text), "false: connections are used on several threads"),
    "cached_statements": (lambda text: 0 <= int(text) <= LARGEST_INT, "a number"),
}
"""Options of a SQLite URL that the driver takes for a file, with the check of their values and what they must be."""

LIBPQ_INTEGERS = (
    *("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    "tcp_user_timeout",
)
"""Options of a PostgreSQL URL that libpq parses only after it has connected."""

LIBPQ_SWITCHES = ("sslcompression", "sslsni", "gssdelegation")
"""Options whose values libpq does not check: all but 1 mean 0."""

REPLICATION_OFF = ("false", "off", "no", "0")

NO_SOCKET = "/nonexistent/speechpipe"
"""A folder without the socket of a server: libpq fails there after it has checked all options."""

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
    if unknown := sorted(set(url.query) - set(SQLITE_OPTIONS)):
        raise ValueError(f"unknown SQLite option {unknown[0]!r}; a question mark in the path is written %3F")
    for name, value in _single(url).items():
        valid, meant = SQLITE_OPTIONS[name]
        if not _holds(valid, value):
            raise ValueError(f"the SQLite option {name} must be {meant}")
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
        module = import_module(driver)
        dsn = import_module(SERVER_DRIVERS[driver][0])
    except ImportError as error:
        hint = "; it is installed with the extra `postgres`" if driver == "psycopg" else "; psycopg is supported too"
        raise ValueError(f"the driver {driver} cannot be loaded ({error}){hint}") from error
    for name, value in _single(url, "host", "port").items():
        if name in LIBPQ_INTEGERS and not _holds(lambda text: abs(int(text)) <= LARGEST_INT, value):
            raise ValueError(f"the PostgreSQL option {name} must be a whole number")
        if name in LIBPQ_SWITCHES and value not in ("0", "1"):
            raise ValueError(f"the PostgreSQL option {name} must be 0 or 1")
        if name == "replication" and value.lower() not in REPLICATION_OFF:
            raise ValueError("a store cannot be opened by a replication connection")
    _ask_libpq(url, module, getattr(dsn, SERVER_DRIVERS[driver][1]))


def _ask_libpq(url: URL, driver: Any, dsn: Callable[..., str]) -> None:
    """Have libpq check the options. It does so before it connects, which is prevented here.

    Raises:
        ValueError: it does not accept them.
    """
    try:
        _, options = url.get_dialect()().create_connect_args(url)
    except ArgumentError as error:
        raise ValueError(str(error).lower()) from None
    ports = str(options.pop("port", "")).split(",")
    hosts = str(options.pop("host", "")).split(",")
    if any(port and not (port.isdecimal() and 0 < int(port) <= LARGEST_PORT) for port in ports):
        raise ValueError(f"the port must be in 1..{LARGEST_PORT}")
    if len(ports) not in (1, len(hosts)):
        raise ValueError(f"{len(ports)} ports for {len(hosts)} hosts")
    for name in ("password", "passfile"):
        options.pop(name, None)
    try:
        driver.connect(dsn(**{**options, "host": NO_SOCKET, "hostaddr": ""})).close()
    except driver.Error as error:
        reason = " ".join(str(error).split()).removeprefix("connection is bad: ")
        if not any(part in reason for part in (NO_SOCKET, "over a local socket")):
            raise ValueError(reason) from None


def _single(url: URL, *several: str) -> dict[str, str]:
    """Return the options of a URL without those that may be there several times.

    Raises:
        ValueError: another one is there several times.
    """
    options = {name: value for name, value in url.query.items() if name not in several}
    if twice := sorted(name for name, value in options.items() if not isinstance(value, str)):
        raise ValueError(f"the option {twice[0]!r} is there several times")
    return {name: str(value) for name, value in options.items()}


def _holds(valid: Callable[[str], bool], value: str) -> bool:
    try:
        return valid(value)
    except (ValueError, ArgumentError):
        return False
