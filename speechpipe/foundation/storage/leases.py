"""Leases: one of the processes that share a store does a task for all of them, until it stops or dies.

A lease avoids duplicate work. It does not protect data: what is done under a lease must be safe if two processes do it.
"""

from collections.abc import Callable

from sqlalchemy import Engine, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from speechpipe.foundation.storage.schema import leases


class Lease:
    """A named lease that lasts `seconds` after each `hold`; `owner` identifies this process.

    Thread-safe. Every method raises what the database raises.
    """

    def __init__(self, engine: Callable[[], Engine], name: str, seconds: float, owner: str) -> None:
        self._engine = engine
        self._name = name
        self._seconds = seconds
        self._owner = owner

    def hold(self, now: float) -> bool:
        """Take or extend the lease at Unix time `now`; return False if another process has it.

        A lease that ends later than is possible was written with a wrong clock, and counts as expired.
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
        """Release the lease if this process holds it."""
        with self._engine().begin() as connection:
            connection.execute(delete(leases).where(leases.c.name == self._name, leases.c.owner == self._owner))
