"""Retrainings in the store. A change is written only onto the revision that it was made from: two servers on one store
never train the same.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from speechpipe.control.training import Job, Request, State, read_request
from speechpipe.errors import Conflict, UnknownName
from speechpipe.foundation.storage.schema import retrainings
from speechpipe.foundation.storage.swap import swap

SILENT_S = 15.0
"""An owner that has not said anything for so long is gone: its job is free."""


class Retrainings:
    """Thread-safe as the database is. Every method raises SQLAlchemyError if it cannot be used."""

    def __init__(self, engine: Callable[[], Engine], clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def add(self, request: Request, owner: str = "") -> Job:
        """Write a request down: for whoever has time, or for an owner who begins at once.

        Raises:
            Conflict: another retraining of that bundle is not over.
        """
        for job in self.listed(states=(State.WAITING, State.RUNNING)):
            if (job.request.bundle, job.request.kind) == (request.bundle, request.kind):
                raise Conflict(f"retraining {job.id} of {request.bundle} is {job.state.value}: wait for it, or stop it")
        # Another caller may do the same at this moment: the index `retrainings_open` lets one of them in.
        now = self._clock()
        line = {"at": now, "actor": request.by, "action": "ask", "reason": request.reason}
        row = {
            "kind": request.kind.value,
            "bundle": request.bundle,
            "state": (State.RUNNING if owner else State.WAITING).value,
            "revision": 1,
            "created_at": now,
            "changed_at": now,
            "owner": owner,
            "beat_at": now,
            "request": request.document(),
            "outcome": {},
            "history": [line],
        }
        try:
            with self._engine().begin() as connection:
                key = connection.execute(insert(retrainings), row).inserted_primary_key
        except IntegrityError as error:
            raise Conflict(f"a retraining of {request.bundle} was begun by somebody else at the same time") from error
        assert key is not None
        return self.job(int(key[0]))

    def job(self, number: int) -> Job:
        """Return one.

        Raises:
            UnknownName: there is none of that number.
        """
        with self._engine().connect() as connection:
            row = connection.execute(select(retrainings).where(retrainings.c.id == number)).first()
        if row is None:
            raise UnknownName(f"there is no retraining {number}", cause="not_found")
        return _job(row)

    def listed(self, states: Sequence[State] = tuple(State), since: float = 0.0, most: int = 100) -> list[Job]:
        """Return those in some states, the newest first."""
        query = (
            select(retrainings)
            .where(retrainings.c.state.in_([state.value for state in states]), retrainings.c.created_at >= since)
            .order_by(retrainings.c.id.desc())
            .limit(most)
        )
        with self._engine().connect() as connection:
            return [_job(row) for row in connection.execute(query)]

    def claim(self, job: Job, owner: str) -> Job:
        """Take a job that waits, was stopped, or whose owner is gone.

        Raises:
            Conflict: somebody works on it, or it is over.
        """
        now = self._clock()
        mine = job.owner == owner and job.state is State.RUNNING
        gone = job.state is State.RUNNING and now - job.beat_at > SILENT_S
        if not (mine or gone or job.state in (State.WAITING, State.STOPPED, State.FAILED)):
            raise Conflict(f"retraining {job.id} is {job.state.value}")
        return self._change(
            job, "begin" if job.state is State.WAITING else "go on", owner, "", State.RUNNING, owner=owner, beat_at=now
        )

    def beat(self, job: Job) -> Job:
        """Say that its owner is at work on it; return it as it is now: somebody may have stopped it, or taken it."""
        mine = (retrainings.c.id == job.id) & (retrainings.c.owner == job.owner)
        with self._engine().begin() as connection:
            connection.execute(update(retrainings).where(mine).values(beat_at=self._clock()))
        return self.job(job.id)

    def end(self, job: Job, state: State, actor: str, reason: str, outcome: Mapping[str, Any] | None = None) -> Job:
        """Say how it ended."""
        return self._change(job, state.value, actor, reason, state, outcome=dict(outcome or job.outcome))

    def tell(self, job: Job, outcome: Mapping[str, Any], reason: str) -> Job:
        """Add to the outcome of a job that is over."""
        action = "rollout" if "rollout" in outcome else "over"
        return self._change(job, action, "speechpipe", reason, job.state, outcome={**job.outcome, **outcome})

    def again(self, number: int, actor: str) -> Job:
        """Have a job that was stopped or has failed go on, by whoever has time.

        Raises:
            UnknownName: there is none.
            Conflict: it is at work, or done.
        """
        job = self.job(number)
        if job.state not in (State.STOPPED, State.FAILED):
            raise Conflict(f"retraining {number} is {job.state.value}")
        return self._change(job, "again", actor, "", State.WAITING, owner="")

    def stop(self, number: int, actor: str, reason: str = "") -> Job:
        """Have a job stopped; who works on it sees that within seconds.

        Raises:
            UnknownName: there is none.
            Conflict: it is over.
        """
        job = self.job(number)
        if job.state.over:
            raise Conflict(f"retraining {number} is {job.state.value}")
        return self._change(job, "stop", actor, reason, State.STOPPED)

    def _change(self, job: Job, action: str, actor: str, reason: str, state: State, **values: Any) -> Job:
        now = self._clock()
        line = {"at": now, "actor": actor, "action": action, "reason": reason}
        row = {
            "state": state.value,
            "revision": job.revision + 1,
            "changed_at": now,
            "history": [*job.history, line],
            **values,
        }
        try:
            with self._engine().begin() as connection:
                if not swap(connection, retrainings, {"id": job.id, "revision": job.revision}, row):
                    raise Conflict(f"retraining {job.id} was changed by somebody else at the same time")
        except IntegrityError as error:
            raise Conflict(f"another retraining of {job.request.bundle} waits or runs") from error
        return self.job(job.id)


def _job(row: Row[Any]) -> Job:
    values = dict(row._mapping)
    kind, bundle = values.pop("kind"), values.pop("bundle")
    request = read_request(values.pop("request"))
    assert (request.kind.value, request.bundle) == (kind, bundle)
    return Job(**{**values, "request": request, "state": State(values["state"])})
