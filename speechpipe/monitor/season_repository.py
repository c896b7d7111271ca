"""The store's table of seasons, and what they are learned from."""

from collections.abc import Callable, Collection

from sqlalchemy import Engine, delete, insert, select

from speechpipe.foundation.storage.schema import seasons
from speechpipe.foundation.storage.schema import windows as window_rows
from speechpipe.monitor.rows import of_group, window_of
from speechpipe.monitor.seasons import Season, dump, load
from speechpipe.monitor.windows import Group, Window


class SeasonArchive:
    """Access to the table. Thread-safe. `engine` is called for each operation, because a store may be reopened.

    Every method raises `SQLAlchemyError` or `OSError` if the database cannot be used.
    """

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    def known(self) -> frozenset[int]:
        """Return the references that have a season."""
        with self._engine().connect() as connection:
            return frozenset(connection.execute(select(seasons.c.reference_id)).scalars())

    def seasons(self, references: Collection[int]) -> dict[int, Season]:
        """Return the seasons of these references, by reference."""
        query = select(seasons).where(seasons.c.reference_id.in_(references))
        with self._engine().connect() as connection:
            rows = connection.execute(query).all()
        return {
            row.reference_id: Season(row.reference_id, row.since, row.until, row.days, load(row.rhythms, row.payload))
            for row in rows
        }

    def save(self, season: Season) -> None:
        """Store a season, replacing an earlier one of its reference."""
        head, body = dump(season)
        values = {
            "reference_id": season.reference,
            "since": season.since,
            "until": season.until,
            "days": season.days,
            "rhythms": head,
            "payload": body,
        }
        with self._engine().begin() as connection:
            connection.execute(delete(seasons).where(seasons.c.reference_id == season.reference))
            connection.execute(insert(seasons), values)

    def windows(self, group: Group, since: float, until: float) -> list[Window]:
        """Return the windows of a group that begin between two times, in order."""
        mine = *of_group(group), window_rows.c.start >= since, window_rows.c.start < until
        query = select(window_rows).where(*mine).order_by(window_rows.c.start)
        with self._engine().connect() as connection:
            return [window_of(row) for row in connection.execute(query)]
