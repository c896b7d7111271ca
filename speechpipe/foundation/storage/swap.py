"""Compare-and-swap: a row is changed only while it is what it was when the change was decided.

Of several processes on one store that change a row at the same time one succeeds. The others are told and read again.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, and_, update


class ChangedMeanwhile(Exception):
    """A row is not what it was when the change was decided; the message may name it. Nothing was written."""


def swap(connection: Connection, table: Table, was: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Change the row that has the values `was`; return False if there is none any more.

    Args:
        connection: the transaction in which the row is changed.
        table: where the row is.
        was: the row's key, and what it was when it was read (its revision, or its state), by column.
        values: the new values, by column. A later swap sees this one only if it changes something of `was`.
    """
    same = and_(*(table.c[name] == value for name, value in was.items()))
    return connection.execute(update(table).where(same).values(**values)).rowcount == 1
