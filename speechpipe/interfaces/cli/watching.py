"""Helpers for commands that read records: a store by file or URL, and periods."""

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechpipe.errors import BadInput, InvalidParameter
from speechpipe.interfaces.cli.options import settings

if TYPE_CHECKING:
    from speechpipe.config import Settings
    from speechpipe.control.review.operations import ReviewOperations
    from speechpipe.monitor.spec import CascadeSpec
    from speechpipe.serving.health.operations import HealthOperations

UNITS_S = {"m": 60.0, "h": 3600.0, "d": 86_400.0}


def operations(store: str) -> "HealthOperations":
    """Return the health operations of a store (default: that of the settings).

    Raises:
        BadInput: there is no such file.
    """
    from speechpipe.app import change_log
    from speechpipe.foundation.storage.store import Store
    from speechpipe.serving.health.operations import HealthOperations

    found = store_settings(store)
    keep_s = found.keep_records_days * UNITS_S["d"]
    kept = Store(found.record_store_url)
    return HealthOperations(cascade(), kept, keep_records_s=keep_s, change_log=change_log(kept))


def cascade() -> "CascadeSpec":
    """Return the cascade's spec without the metrics that the settings switch off.

    Raises:
        InvalidParameter: one of these metrics does not exist.
    """
    from speechpipe.serving.telemetry.cascade_metrics import CASCADE

    try:
        return CASCADE.without(tuple(settings().metrics_off))
    except ValueError as error:
        raise InvalidParameter(str(error), param="metrics_off") from error


def review_operations(store: str, *, create: bool = False) -> "ReviewOperations":
    """Return the review operations of a store (default: that of the settings).

    Raises:
        BadInput: there is no such file, and `create` is False.
    """
    from speechpipe.control.review.operations import ReviewOperations
    from speechpipe.foundation.storage.store import Store
    from speechpipe.serving.automation import Degree
    from speechpipe.serving.automation.policy import Policy

    found = store_settings(store, create=create)
    return ReviewOperations(Store(found.record_store_url), base=Policy(Degree(found.default_degree)))


def store_settings(store: str, *, create: bool = False) -> "Settings":
    """Return the settings with this store (a file or a URL), if one is given.

    Raises:
        BadInput: there is no such file, and `create` is False.
    """
    from speechpipe.foundation.storage.database import sqlite_path

    changes: dict[str, Any] = {}
    if store:
        changes["store_url"] = store_url(store)
    found = settings(**changes)
    path = sqlite_path(found.record_store_url)
    if not create and path is not None and not path.exists():
        raise BadInput(f"there is no store at {path}", cause="not_found")
    return found


def store_url(store: str) -> str:
    """Return the URL of a store that is given as a file or a URL."""
    from speechpipe.foundation.storage.urls import sqlite_url

    return store if "://" in store else sqlite_url(Path(store).resolve())


def duration_s(text: str) -> float:
    """Return the seconds of a duration: `90m`, `24h` or `7d`.

    Raises:
        InvalidParameter: it is not a duration.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", text.strip())
    if match is None or float(match[1]) <= 0:
        raise InvalidParameter(f"a duration is written as 90m, 24h or 7d, not {text!r}")
    return float(match[1]) * UNITS_S[match[2]]


def moment(text: str) -> float:
    """Return the unix time of `2026-11-23T10:00` (UTC by default) or of an age (`24h`); of now if empty.

    Raises:
        InvalidParameter: it is neither.
    """
    if not text:
        return time.time()
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return time.time() - duration_s(text)
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
