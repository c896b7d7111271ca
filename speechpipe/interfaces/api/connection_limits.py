"""Limits of open connections, from the settings and the limit of open files."""

import contextlib
import resource
from dataclasses import dataclass

from speechpipe.config import Settings

MOST_LINGERING = 32
"""Connections that may linger at once, in addition to the counted ones; fewer if the limit of open files is low."""

LEAST_RESERVED = 48
"""Descriptors reserved for uploads, workers and the store, or a quarter of all, if that is more. A small idle server
has 36 open. If no descriptor is left, the event loop drops new connections without an answer."""

SPARE_CONNECTIONS = 1000
"""Default number of connections in addition to those of live sessions."""


def most_connections(settings: Settings) -> tuple[int, int]:
    """Return how many connections may be open, and how many more may linger after their answer.

    The numbers of the settings are lowered if the limit of open files leaves no room for them and the reserve.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections or settings.live_max_sessions + SPARE_CONNECTIONS
    needed = 2 * wanted  # uploads, workers, the store
    if soft != resource.RLIM_INFINITY and soft < needed:
        more = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    if soft == resource.RLIM_INFINITY:
        return wanted, MOST_LINGERING
    room = soft - max(LEAST_RESERVED, soft // 4)
    lingering = max(1, min(MOST_LINGERING, room // 4))
    return max(1, min(wanted, room - lingering)), lingering


@dataclass(frozen=True)
class Limits:
    """The limits of `Connections`; times are in seconds."""

    most: int
    most_lingering: int
    most_per_address: int
    head_s: float
    send_s: float
