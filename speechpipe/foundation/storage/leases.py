"""Leases: what one process does for all that share a store, until it stops or dies.

They save work, they do not protect data: whatever is done under a lease is also safe if two processes do it.
"""

from collections.abc import Callable

from sqlalchemy import Engine, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from speechpipe.foundation.storage.schema import leases


class Lease:
    """Of one name, for `seconds` at a time; `owner` names the process.

    Thread-safe as the database is; every method raises if that fails.
    """

    def __init__(self, engine: Callable[[], Engine], name: str, seconds: float, owner: str) -> None:
        self._engine = engine
        self._name = name
        self._seconds = seconds
        self._owner = owner

    def hold(self, now: float) -> bool:
        """Take the lease, or keep it for longer; False if another process has it.

        A lease that ends much later than any can was written by a clock that was wrong, and counts as over.
        """
        mine = leases.c.name == self._name
        over = or_(leases.c.until < now, leases.c.until > now + 3 * self._seconds, leases.c.owner == self._owner)
        values = {"owner": self._owner, "until": now + self._seconds}
        try:
            with self._engine().begin() as connection:
                if connection.execute(update(leases).where(mine, over).values(**values)).rowcount:
                    return True
                if connection.execute(select(leases.c.owner).where(mine)).first() is not None:
                    return False
                connection.execute(insert(leases), {"name": self._name, **values})
        except IntegrityError:  # another process was faster
            return False
        return True

    def release(self) -> None:
        """Give it back, if it is held."""
        with self._engine().begin() as connection:
            connection.execute(delete(leases).where(leases.c.name == self._name, leases.c.owner == self._owner))
