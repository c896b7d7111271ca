"""What the commands that look at records share: a store by file or URL, a stretch of time."""

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
    """Return what reads a store; empty: the one of the settings.

    Raises:
        BadInput: there is no such file.
    """
    from speechpipe.foundation.storage.writer import Store
    from speechpipe.serving.health.operations import HealthOperations

    found = store_settings(store)
    keep_s = found.keep_records_days * UNITS_S["d"]
    return HealthOperations(cascade(), Store(found.record_store_url), keep_records_s=keep_s)


def cascade() -> "CascadeSpec":
    """Return the cascade without the metrics that the settings switch off, as the server has it.

    Raises:
        InvalidParameter: one of them does not exist.
    """
    from speechpipe.serving.telemetry.cascade import CASCADE

    try:
        return CASCADE.without(tuple(settings().metrics_off))
    except ValueError as error:
        raise InvalidParameter(str(error), param="metrics_off") from error


def review_operations(store: str, *, create: bool = False) -> "ReviewOperations":
    """Return what reads and answers the reviews of a store; empty: the one of the settings.

    Raises:
        BadInput: there is no such file, and it is not to be made.
    """
    from speechpipe.control.review.operations import ReviewOperations
    from speechpipe.foundation.storage.writer import Store
    from speechpipe.serving.automation import Degree
    from speechpipe.serving.automation.policy import Policy

    found = store_settings(store, create=create)
    return ReviewOperations(Store(found.record_store_url), base=Policy(Degree(found.default_degree)))


def store_settings(store: str, *, create: bool = False) -> "Settings":
    """Return the settings with this store (a file or a URL), if one is named.

    Raises:
        BadInput: there is no such file, and it is not to be made.
    """
    changes: dict[str, Any] = {}
    if store:
        changes["store_url"] = store if "://" in store else f"sqlite:///{Path(store).resolve()}"
    found = settings(**changes)
    url = found.record_store_url
    if not create and url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        raise BadInput(f"there is no store at {url.removeprefix('sqlite:///')}", cause="not_found")
    return found


def duration_s(text: str) -> float:
    """Return the seconds of `90m`, `24h` or `7d`.

    Raises:
        InvalidParameter: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", text.strip())
    if match is None or float(match[1]) <= 0:
        raise InvalidParameter(f"a length of time is 90m, 24h or 7d, not {text!r}")
    return float(match[1]) * UNITS_S[match[2]]


def moment(text: str) -> float:
    """Return the unix time of `2026-11-23T10:00` (UTC unless it says otherwise), or of so long ago (`24h`); empty: now.

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
