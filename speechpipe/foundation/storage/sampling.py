"""Records of some of the sessions of a long time, spread evenly over it, where all of them would be too many."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, select

from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.record_rows import numbered
from speechpipe.foundation.storage.schema import records

MOST_OF_THE_SERVER = 5_000
"""Records of the server that are read at most: of a day more than one of two."""

PART = 500
"""Values in one query: databases limit them."""


def sampled(engine: Engine, most: int, since: float, until: float, **columns: str) -> list[Record]:
    """Return the records of at most `most` sessions that ended in a span (unix seconds) and have these values.

    `columns` are those of `records`, such as `bundle`. With the records that the server made of itself (kind `system`),
    spread as evenly. Those of a session that were written later, such as feedback, are among them. The server's come
    first, each kind in the order of writing.

    Raises:
        SQLAlchemyError, OSError: the database cannot be read.
    """
    in_span = and_(records.c.at >= since, records.c.at < until)
    mine = and_(*(records.c[name] == value for name, value in columns.items()))
    sessions = select(records.c.session_id).where(in_span, mine, records.c.kind == "session").order_by(records.c.seq)
    system = select(records.c.seq).where(in_span, records.c.kind == "system").order_by(records.c.seq)
    with engine.connect() as connection:
        ids = connection.execute(sessions).scalars().all()
        places = connection.execute(system).scalars().all()
    found = _with(engine, records.c.seq, _spread(places, MOST_OF_THE_SERVER))
    return found + _with(engine, records.c.session_id, _spread(ids, most))


def _spread(values: Sequence[Any], most: int) -> list[Any]:
    """Return at most `most` of these values, evenly spread."""
    if len(values) <= most:
        return list(values)
    return [values[number * len(values) // most] for number in range(most)]


def _with(engine: Engine, column: ColumnElement[Any], values: Sequence[Any]) -> list[Record]:
    """Return the records whose column has one of these values."""
    found: list[Record] = []
    for first in range(0, len(values), PART):
        query = select(records).where(column.in_(values[first : first + PART])).order_by(records.c.seq)
        found += [record for _, record in numbered(engine, query)]
    return found
