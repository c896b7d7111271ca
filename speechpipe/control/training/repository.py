"""Retrainings in the store. Writes compare-and-swap on the revision, so that two servers never run the same job."""

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
"""A job whose owner has sent no heartbeat for this long can be claimed."""


class Retrainings:
    """Access to the table. Thread-safe. Every method raises SQLAlchemyError if the database cannot be used."""

    def __init__(self, engine: Callable[[], Engine], clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def add(self, request: Request, owner: str = "") -> Job:
        """Insert a request: waiting, or running if its owner starts it at once.

        Raises:
            Conflict: another retraining of that bundle is in progress.
        """
        for job in self.listed(states=(State.WAITING, State.RUNNING)):
            if (job.request.bundle, job.request.kind) == (request.bundle, request.kind):
                raise Conflict(f"retraining {job.id} of {request.bundle} is {job.state.value}: wait for it, or stop it")
        # A concurrent caller may do the same: the index `retrainings_open` admits only one.
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
            raise Conflict(f"a retraining of {request.bundle} was requested at the same time") from error
        assert key is not None
        return self.job(int(key[0]))

    def job(self, number: int) -> Job:
        """Return a job.

        Raises:
            UnknownName: there is no such job.
        """
        with self._engine().connect() as connection:
            row = connection.execute(select(retrainings).where(retrainings.c.id == number)).first()
        if row is None:
            raise UnknownName(f"there is no retraining {number}", cause="not_found")
        return _job(row)

    def listed(self, states: Sequence[State] = tuple(State), since: float = 0.0, most: int = 100) -> list[Job]:
        """Return jobs in these states, newest first."""
        query = (
            select(retrainings)
            .where(retrainings.c.state.in_([state.value for state in states]), retrainings.c.created_at >= since)
            .order_by(retrainings.c.id.desc())
            .limit(most)
        )
        with self._engine().connect() as connection:
            return [_job(row) for row in connection.execute(query)]

    def claim(self, job: Job, owner: str) -> Job:
        """Claim a job that waits, was stopped or failed, or whose owner has died.

        Raises:
            Conflict: another owner runs it, or it is done.
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
        """Record a heartbeat of its owner; return the job, which may have been stopped or claimed meanwhile."""
        mine = (retrainings.c.id == job.id) & (retrainings.c.owner == job.owner)
        with self._engine().begin() as connection:
            connection.execute(update(retrainings).where(mine).values(beat_at=self._clock()))
        return self.job(job.id)

    def end(self, job: Job, state: State, actor: str, reason: str, outcome: Mapping[str, Any] | None = None) -> Job:
        """Record how a job ended."""
        return self._change(job, state.value, actor, reason, state, outcome=dict(outcome or job.outcome))

    def tell(self, job: Job, outcome: Mapping[str, Any], reason: str) -> Job:
        """Add to the outcome of a job that has ended."""
        action = "rollout" if "rollout" in outcome else "over"
        return self._change(job, action, "speechpipe", reason, job.state, outcome={**job.outcome, **outcome})

    def again(self, number: int, actor: str) -> Job:
        """Put a stopped or failed job back into the queue.

        Raises:
            UnknownName: there is no such job.
            Conflict: it is running, waiting or done.
        """
        job = self.job(number)
        if job.state not in (State.STOPPED, State.FAILED):
            raise Conflict(f"retraining {number} is {job.state.value}")
        return self._change(job, "again", actor, "", State.WAITING, owner="")

    def stop(self, number: int, actor: str, reason: str = "") -> Job:
        """Mark a job as stopped; its owner sees that at its next heartbeat.

        Raises:
            UnknownName: there is no such job.
            Conflict: it has ended.
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
                    raise Conflict(f"retraining {job.id} was changed at the same time")
        except IntegrityError as error:
            raise Conflict(f"another retraining of {job.request.bundle} is waiting or running") from error
        return self.job(job.id)


def _job(row: Row[Any]) -> Job:
    values = dict(row._mapping)
    kind, bundle = values.pop("kind"), values.pop("bundle")
    request = read_request(values.pop("request"))
    assert (request.kind.value, request.bundle) == (kind, bundle)
    return Job(**{**values, "request": request, "state": State(values["state"])})
