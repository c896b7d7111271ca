"""Records of the rows of a query, which are read in parts."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, Select

from speechpipe.foundation.storage.record import Record

AT_ONCE = 1_000


def numbered(engine: Engine, query: Select[Any]) -> Iterator[tuple[int, Record]]:
    """Yield (number, record) of the rows of `records` that a query selects, in its order.

    Raises:
        SQLAlchemyError, OSError: the database cannot be read.
    """
    with engine.connect() as connection, connection.execution_options(yield_per=AT_ONCE).execute(query) as rows:
        for row in rows:
            values = row._asdict()
            yield values.pop("seq"), Record(**values)
