"""The route and its history in the store. Writes compare-and-swap on the revision."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, func, insert, select
from sqlalchemy.exc import IntegrityError

from speechpipe.control.rollout.routes import RouteState, load
from speechpipe.foundation.storage.schema import rollout_history, routes
from speechpipe.foundation.storage.swap import ChangedMeanwhile, swap

ROUTE = "default"


@dataclass(frozen=True)
class Entry:
    """An entry of the history: who did what, when and why, with the evidence at that time."""

    at: float
    actor: str
    action: str
    reason: str
    bundle: str
    evidence: Mapping[str, Any]
    revision: int = 0
    rollout: int = 0


class RolloutArchive:
    """Access to the tables. Thread-safe. Every method raises SQLAlchemyError if the database cannot be used."""

    def __init__(self, engine: Callable[[], Engine], known_guards: Mapping[str, float]) -> None:
        self._engine = engine
        self._known_guards = known_guards

    def revision(self) -> int:
        """Return the newest revision; 0 in a new store."""
        query = select(routes.c.revision).where(routes.c.name == ROUTE)
        with self._engine().connect() as connection:
            return int(connection.execute(query).scalar() or 0)

    def state(self) -> RouteState:
        """Return the route."""
        query = select(routes.c.document).where(routes.c.name == ROUTE)
        with self._engine().connect() as connection:
            found = connection.execute(query).scalar()
        return RouteState() if found is None else load(found, self._known_guards)

    def save(self, state: RouteState, entry: Entry) -> None:
        """Write the next state and its entry of the history, in one transaction.

        Raises:
            ChangedMeanwhile: another process or person was faster.
        """
        row = {"revision": state.revision, "document": state.document(), "changed_at": entry.at}
        try:
            with self._engine().begin() as connection:
                if state.revision == 1:
                    connection.execute(insert(routes), {"name": ROUTE, **row})
                elif not swap(connection, routes, {"name": ROUTE, "revision": state.revision - 1}, row):
                    raise ChangedMeanwhile
                connection.execute(
                    insert(rollout_history),
                    {
                        "route": ROUTE,
                        "revision": state.revision,
                        "rollout": state.rollout.id if state.rollout is not None else 0,
                        "at": entry.at,
                        "actor": entry.actor,
                        "action": entry.action,
                        "reason": entry.reason,
                        "bundle": entry.bundle,
                        "evidence": dict(entry.evidence),
                    },
                )
        except IntegrityError as error:
            raise ChangedMeanwhile from error

    def next_id(self) -> int:
        """Return an unused id for a rollout."""
        with self._engine().connect() as connection:
            return 1 + int(connection.execute(select(func.max(rollout_history.c.rollout))).scalar() or 0)

    def history(self, most: int = 200) -> list[Entry]:
        """Return the latest changes, newest first."""
        query = select(rollout_history).order_by(rollout_history.c.id.desc()).limit(most)
        with self._engine().connect() as connection:
            rows = connection.execute(query).all()
        return [
            Entry(row.at, row.actor, row.action, row.reason, row.bundle, row.evidence, row.revision, row.rollout)
            for row in rows
        ]
