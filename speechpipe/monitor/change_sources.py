"""Changes that the monitor itself has in its store: references, announcements and starts of servers."""

from collections.abc import Callable

from sqlalchemy import Engine, select

from speechpipe.foundation.storage.schema import records
from speechpipe.monitor.change_log import ChangeSource, ServiceChange
from speechpipe.monitor.repository import Archive

STARTED = "started"
"""The outcome of the first record that a server writes of itself."""


def reference_changes(archive: Archive) -> ChangeSource:
    """Return the source of references that were pinned, and of changes that an operator has announced."""

    def changes(since: float, until: float) -> list[ServiceChange]:
        found = [
            ServiceChange(
                reference.approved_at,
                f"reference {reference.id}",
                f"reference {reference.id} of {reference.group.label} was pinned by {reference.approved_by}",
                told=False,
                of_service=False,
            )
            for reference in archive.references()
            if reference.approved_at is not None and since <= reference.approved_at < until
        ]
        for change in archive.changes():
            if since <= change.since < until:
                whose = change.tenant or "all tenants"
                text = f"an announced change of {whose} began: {change.note}"
                found.append(ServiceChange(change.since, f"announced {change.number}", text, told=False))
        return found

    return changes


def start_changes(engine: Callable[[], Engine]) -> ChangeSource:
    """Return the source of starts of servers. It raises SQLAlchemyError if the database cannot be used."""

    def changes(since: float, until: float) -> list[ServiceChange]:
        query = (
            select(records.c.id, records.c.at, records.c.versions)
            .where(records.c.kind == "system", records.c.at >= since, records.c.at < until)
            .where(records.c.outcome == STARTED)
        )
        with engine().connect() as connection:
            rows = connection.execute(query).all()
        return [ServiceChange(row.at, row.id, _said(row.versions), told=False) for row in rows]

    return changes


def _said(versions: dict[str, str]) -> str:
    """Return what started, as its record says."""
    parts = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return f"a server started ({parts})" if parts else "a server started"
