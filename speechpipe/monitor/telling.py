"""Delivery of alarm notices from the store to sinks: each firing and each resolution once, retried until accepted.

A notice is claimed before it is sent, so that one of several processes sends it. Failures are retried with growing
pauses; a notice that could not be delivered for a day is counted as lost.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, and_, exists, or_, select, update

from speechpipe.foundation.storage.schema import alarm_notices as notices
from speechpipe.foundation.storage.schema import alarms
from speechpipe.monitor.alarms import Alarm, as_told
from speechpipe.monitor.rows import alarm_of
from speechpipe.monitor.sinks import Sink

MOST_AGE_S = 86_400.0
"""Notices older than this are given up."""
CLAIM_S = 60.0
"""How long a claim lasts: longer than a sink may take."""

AT_ONCE = 50
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice that is due to a sink."""

    id: int
    event: str
    tries: int
    alarm: Alarm


class Outbox:
    """The notices of one sink. Every method raises `SQLAlchemyError` or `OSError` if the database fails."""

    def __init__(self, engine: Callable[[], Engine], sink: str, owner: str) -> None:
        self._engine = engine
        self._sink = sink
        self._owner = owner
        self._due = and_(notices.c.sink == sink, notices.c.state == "due")

    def due(self, now: float, most: int = AT_ONCE) -> list[Notice]:
        """Return due notices that no process has claimed; a resolution only after its firing was delivered."""
        earlier = notices.alias()
        waits = exists().where(
            earlier.c.alarm_id == notices.c.alarm_id,
            earlier.c.sink == notices.c.sink,
            earlier.c.id < notices.c.id,
            earlier.c.state == "due",
        )
        free = or_(notices.c.claimed_until < now, notices.c.claimed_until > now + 3 * CLAIM_S)
        query = (
            select(notices.c.id.label("notice"), notices.c.event, notices.c.tries, alarms)
            .join(alarms, alarms.c.id == notices.c.alarm_id)
            .where(self._due, notices.c.due_at <= now, free, ~waits)
            .order_by(notices.c.due_at, notices.c.id)
            .limit(most)
        )
        with self._engine().connect() as connection:
            rows = connection.execute(query).all()
        return [Notice(row.notice, row.event, row.tries, as_told(alarm_of(row), row.event)) for row in rows]

    def claim(self, found: Sequence[Notice], now: float) -> list[Notice]:
        """Claim notices for this process; return those that it got."""
        mine = []
        with self._engine().begin() as connection:
            for notice in found:
                free = or_(notices.c.claimed_until < now, notices.c.claimed_until > now + 3 * CLAIM_S)
                taken = (
                    update(notices)
                    .where(notices.c.id == notice.id, self._due, notices.c.tries == notice.tries, free)
                    .values(claimed_by=self._owner, claimed_until=now + CLAIM_S)
                )
                if connection.execute(taken).rowcount == 1:
                    mine.append(notice)
        return mine

    def told(self, ids: Sequence[int], now: float) -> None:
        """Mark notices as delivered."""
        with self._engine().begin() as connection:
            for id_ in ids:
                done = update(notices).where(notices.c.id == id_).values(state="told", told_at=now, failure="")
                connection.execute(done)

    def failed(self, found: Sequence[Notice], now: float, failure: str) -> None:
        """Record a failed delivery; the notices are due again after a pause."""
        with self._engine().begin() as connection:
            for notice in found:
                pause_s = min(FIRST_PAUSE_S * 2.0**notice.tries, LONGEST_PAUSE_S)
                again = (
                    update(notices)
                    .where(notices.c.id == notice.id, self._due, notices.c.claimed_by == self._owner)
                    .values(tries=notice.tries + 1, due_at=now + pause_s, claimed_until=0.0, failure=failure[:500])
                )
                connection.execute(again)

    def give_up(self, now: float) -> int:
        """Mark notices that could not be delivered for too long as lost; return how many."""
        old = and_(self._due, notices.c.created_at < now - MOST_AGE_S, notices.c.claimed_until < now)
        with self._engine().begin() as connection:
            return connection.execute(update(notices).where(old).values(state="lost")).rowcount


def _parts(found: Sequence[Notice]) -> list[list[Notice]]:
    """Return the notices in the parts that are sent together: of one incident, and failed ones one by one.

    So a failing notice blocks no other.
    """
    fresh: dict[str, list[Notice]] = {}
    for notice in found:
        if notice.tries == 0:
            fresh.setdefault(notice.alarm.incident, []).append(notice)
    return [*fresh.values(), *([notice] for notice in found if notice.tries)]


class Teller:
    """Delivers notices to one sink. `tell` is called repeatedly, on one thread."""

    def __init__(self, engine: Callable[[], Engine], sink: Sink, owner: str) -> None:
        self.sink = sink
        self.outbox = Outbox(engine, sink.name, owner)
        self.counts: Counter[str] = Counter()  # told, failed (tries), lost
        self._unmarked: list[int] = []  # delivered, but not yet marked in the store

    def tell(self, now: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Deliver every notice that is due.

        Raises:
            Exception: what the sink or the database raised; undelivered notices are due again after a pause.
        """
        begun = time.monotonic()
        self._mark(now)
        self.counts["lost"] += self.outbox.give_up(now)
        while not stop() and (found := self.outbox.due(now)):
            for part in _parts(found):
                if stop():
                    return
                at = now + time.monotonic() - begun  # a slow sink must not send under claims that have lapsed
                if mine := self.outbox.claim(part, at):
                    self._send(mine, at)

    def _send(self, mine: Sequence[Notice], now: float) -> None:
        try:
            self.sink.send([notice.alarm for notice in mine])
        except BaseException as error:
            self.counts["failed"] += len(mine)
            self.outbox.failed(mine, now, f"{type(error).__name__}: {error}")
            raise
        self.counts["told"] += len(mine)
        self._unmarked += [notice.id for notice in mine]
        self._mark(now)

    def _mark(self, now: float) -> None:
        """Mark delivered notices in the store. Called first in each round, so that none is sent twice."""
        if self._unmarked:
            self.outbox.told(self._unmarked, now)
            self._unmarked = []
