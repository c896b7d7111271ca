"""How many connections may be open, from the settings and from what the system allows."""

import contextlib
import resource
from dataclasses import dataclass

from speechpipe.config import Settings

MOST_LINGERING = 32
"""Connections that may do so at the same time, beside those that are counted; fewer where few files may be open."""

LEAST_RESERVED = 48
"""Descriptors left for uploads, workers and the store (36 are open in a small idle server); a quarter, if that is more.
Where none is left, the event loop closes new connections without a word."""

SPARE_CONNECTIONS = 1000


def most_connections(settings: Settings) -> tuple[int, int]:
    """Return how many connections may be open, and how many more may linger after their answer.

    As set, or as many as the limit of open files leaves room for: both together never take what is reserved.
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
    """Seconds and counts of `Connections`."""

    most: int
    most_lingering: int
    most_per_address: int
    head_s: float
    send_s: float
