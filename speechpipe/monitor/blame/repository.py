"""The store's tables of blame: pinned cases and verdicts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, delete, insert, select

from speechpipe.foundation.storage.schema import pinned_cases, verdicts
from speechpipe.monitor.cases import Cases
from speechpipe.monitor.windows import Group


@dataclass(frozen=True)
class StoredVerdict:
    """A verdict on a group at a time (unix seconds), as a document (`documents.py`)."""

    at: float
    group: Group
    label: str
    document: Mapping[str, Any]


class BlameArchive:
    """Access to the tables. Thread-safe. `engine` is called for each operation, because a store may be reopened."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    def cases(self, reference: int) -> Cases | None:
        """Return the cases that were pinned for a reference; None if there are none."""
        query = select(pinned_cases.c.payload).where(pinned_cases.c.reference_id == reference)
        with self._engine().connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else Cases.load(row.payload)

    def pin(self, reference: int, cases: Cases) -> None:
        """Store the cases of a reference, replacing earlier ones."""
        with self._engine().begin() as connection:
            connection.execute(delete(pinned_cases).where(pinned_cases.c.reference_id == reference))
            connection.execute(insert(pinned_cases), {"reference_id": reference, "payload": cases.dump()})

    def save(self, found: StoredVerdict) -> None:
        """Store a verdict."""
        values = {"at": found.at, "label": found.label, "document": dict(found.document), **found.group._asdict()}
        with self._engine().begin() as connection:
            connection.execute(insert(verdicts), values)

    def verdicts(self, since: float, until: float) -> list[StoredVerdict]:
        """Return the last verdict on each group between two times."""
        return list({verdict.group: verdict for verdict in self.history(since, until)}.values())

    def history(self, since: float, until: float) -> list[StoredVerdict]:
        """Return every verdict between two times, oldest first."""
        query = select(verdicts).where(verdicts.c.at >= since, verdicts.c.at <= until).order_by(verdicts.c.at)
        with self._engine().connect() as connection:
            rows = connection.execute(query).all()
        return [
            StoredVerdict(
                row.at,
                Group(row.tenant_class, row.tenant, row.channel, row.bundle, row.arm),
                row.label,
                row.document,
            )
            for row in rows
        ]

    def expire(self, before: float) -> None:
        """Delete verdicts older than `before`."""
        with self._engine().begin() as connection:
            connection.execute(delete(verdicts).where(verdicts.c.at < before))
