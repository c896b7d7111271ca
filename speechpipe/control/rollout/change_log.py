"""The rollouts as changes of the service."""

from collections.abc import Callable

from sqlalchemy import Engine

from speechpipe.control.rollout.repository import Entry, RolloutArchive
from speechpipe.monitor.change_log import ChangeSource, ServiceChange

NEXT = {
    "ask": "; it waits for you: `speechpipe rollout approve` or `rollback`",
    "hold": "; it is held: `speechpipe rollout resume` or `rollback`",
}
"""What an operator is to do after an action."""


def rollout_changes(engine: Callable[[], Engine]) -> ChangeSource:
    """Return the source of the route's history. It raises SQLAlchemyError if the database cannot be used."""
    archive = RolloutArchive(engine, {})

    def changes(since: float, until: float) -> list[ServiceChange]:
        return [_change(entry) for entry in archive.history() if since <= entry.at < until]

    return changes


def _change(entry: Entry) -> ServiceChange:
    of = f"rollout {entry.rollout}: " if entry.rollout else ""
    why = f": {entry.reason}" if entry.reason else ""
    text = f"{of}{entry.action} of {entry.bundle} by {entry.actor}{why}{NEXT.get(entry.action, '')}"
    first = entry.action == "serve" and entry.revision == 1  # of a new store: nothing was changed
    return ServiceChange(entry.at, f"route {entry.revision}", text, told=not first)
