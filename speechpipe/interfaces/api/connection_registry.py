"""The open connections of a server: their number, by address too, and which of them give way to new ones.

If all places are taken, a connection that waits for a request gives way to a new one, so that clients that open many
connections and send nothing cannot block others.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Protocol, cast

from speechpipe.interfaces.api.connection_limits import Limits
from speechpipe.interfaces.api.lingering import Lingering
from speechpipe.interfaces.api.turns import Turns

Refuse = Callable[[str], None]


class NewConnection(Protocol):
    """A connection that has not sent the head of its first request yet."""

    def give_way(self) -> None:
        """Answer 503 and close."""

    def head_late(self) -> None:
        """Answer 408 and close."""


class IdleConnection(Protocol):
    """A connection that waits for its next request."""

    def abort(self) -> None:
        """Close without an answer."""


class Connections:
    """All open connections of a server."""

    def __init__(self, limits: Limits, refuse: Refuse) -> None:
        self.limits = limits
        self.refuse = refuse
        self._open: dict[object, str] = {}
        self._of: Counter[str] = Counter()
        self._lingering = Lingering(limits.most_lingering)
        self.turns = Turns()
        self._new: OrderedDict[NewConnection, float] = OrderedDict()  # with the time by which the head must be there
        self._new_timer: asyncio.TimerHandle | None = None
        self._idle: OrderedDict[IdleConnection, None] = OrderedDict()  # between two requests

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: "NewConnection", address: str) -> bool:
        """Register a new connection, closing a waiting one if necessary; False if there is no place."""
        most = self.limits.most_per_address
        if most and self._of[address] >= most:
            return False
        if len(self._open) >= self.limits.most and not self._make_room():
            return False
        self._open[connection] = address
        self._of[address] += 1
        loop = asyncio.get_running_loop()
        self._new[connection] = loop.time() + self.limits.head_s
        if self._new_timer is None:
            self._new_timer = loop.call_later(self.limits.head_s, self._heads_late)
        return True

    def _make_room(self) -> bool:
        if self._new:
            oldest, _ = self._new.popitem(last=False)
            oldest.give_way()  # with an answer, because many clients may connect at the same moment
        elif self._idle:
            idle = next(iter(self._idle))
            self.gone(idle)
            self.refuse("connection_given_up")
            idle.abort()
        else:
            return False
        return True

    def _heads_late(self) -> None:
        """Turn away those whose time is over. One timer serves all, because all have the same time."""
        self._new_timer = None
        loop = asyncio.get_running_loop()
        while self._new:
            oldest, until = next(iter(self._new.items()))
            if until > loop.time():
                self._new_timer = loop.call_at(until, self._heads_late)
                return
            del self._new[oldest]
            oldest.head_late()

    def head_arrived(self, connection: "NewConnection") -> None:
        """Note that a connection has sent its first head; it no longer gives way."""
        self._new.pop(connection, None)

    def waiting(self, connection: "IdleConnection") -> None:
        """Note that a connection waits for its next request."""
        if connection in self._open:
            self._idle[connection] = None

    def busy(self, connection: "IdleConnection") -> None:
        """Note that a request is being processed."""
        self._idle.pop(connection, None)

    def handed_over(self, connection: object, to: object) -> None:
        """Note that another object serves the connection from now on."""
        self._forget(connection)
        if (address := self._open.pop(connection, None)) is not None:
            self._open[to] = address

    def gone(self, connection: object) -> None:
        """Note that a connection has ended."""
        self._leave(connection)
        self._lingering.gone(connection)

    def _leave(self, connection: object) -> None:
        self._forget(connection)
        if (address := self._open.pop(connection, None)) is not None:
            self._of[address] -= 1
            if not self._of[address]:
                del self._of[address]

    def _forget(self, connection: object) -> None:
        self._new.pop(cast(NewConnection, connection), None)
        self._idle.pop(cast(IdleConnection, connection), None)

    def linger(self, connection: object, transport: asyncio.Transport) -> None:
        """Close a connection that was sent its whole answer, after its client has had time to read it.

        It no longer counts as open.
        """
        if connection not in self._lingering:
            self._leave(connection)
            self._lingering.add(connection, transport)

    def discarded(self, connection: object) -> None:
        """Note that data arrived on a lingering connection and was discarded."""
        self._lingering.came(connection)
