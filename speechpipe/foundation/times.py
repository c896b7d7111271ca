"""Times as people read them."""

from datetime import UTC, datetime


def clock(at: float, *, days: bool = False, seconds: bool = False) -> str:
    """Return a time (unix seconds) in UTC: hours and minutes, with the day or with seconds."""
    shape = "%d %b %H:%M" if days else "%H:%M"
    return datetime.fromtimestamp(at, UTC).strftime(shape + ":%S" * seconds)
