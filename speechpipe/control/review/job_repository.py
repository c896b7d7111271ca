"""Jobs: uploads whose clients wait for a reviewer's answer, with their callbacks."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine, and_, delete, func, insert, select, update

from speechpipe.control.review import TaskState
from speechpipe.errors import UnknownName
from speechpipe.foundation.storage.schema import review_jobs as jobs
from speechpipe.foundation.storage.schema import review_tasks as tasks
from speechpipe.foundation.storage.swap import swap

WAITING, DONE, FAILED = "waiting", "done", "failed"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 3600.0
TRIES = 20
"""Tries of a callback; with doubling pauses they take about a day."""

CLAIM_S = 60.0
"""How long a claim of a callback lasts: longer than a call can take."""


@dataclass(frozen=True)
class Job:
    """One upload. `document` has what is needed to answer in the requested format."""

    id: str
    tenant: str
    created_at: float
    document: Mapping[str, Any]
    callback: str = ""
    state: str = WAITING
    cause: str = ""
    finished_at: float | None = None
    callback_state: str = "none"
    callback_tries: int = 0


def finish_job(connection: Connection, job: str, now: float) -> None:
    """Close a job if none of its tasks is open. Runs in the transaction that closed a task."""
    if not job:
        return
    # The job is locked first, so that of two tasks closed at once by two processes the later sees the earlier.
    connection.execute(update(jobs).where(jobs.c.id == job).values(state=jobs.c.state))
    states = {row.state for row in connection.execute(select(tasks.c.state).where(tasks.c.job == job))}
    if not all(TaskState(state).over for state in states):
        return
    failed = next((state for state in states if TaskState(state).failed), None)
    causes = {TaskState.SKIPPED: "nobody_could", TaskState.EXPIRED: "audio_expired"}
    values = {"state": DONE if failed is None else FAILED, "finished_at": now, "callback_at": now}
    mine = and_(jobs.c.id == job, jobs.c.state == WAITING)
    connection.execute(
        update(jobs).where(mine).values(**values, cause="" if failed is None else causes[TaskState(failed)])
    )
    ended = and_(jobs.c.id == job, jobs.c.callback != "", jobs.c.callback_state == "none")
    connection.execute(update(jobs).where(ended).values(callback_state="due"))


class Jobs:
    """Access to the jobs table. Thread-safe. Every method raises SQLAlchemyError if it cannot be used."""

    def __init__(self, engine: Callable[[], Engine], clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def add(self, job: Job, connection: Connection) -> None:
        """Insert a job, in the transaction that inserts its tasks."""
        row = {"id": job.id, "tenant": job.tenant, "created_at": job.created_at, "document": dict(job.document)}
        row |= {"state": WAITING, "cause": "", "callback": job.callback, "callback_state": "none"}
        connection.execute(insert(jobs), {**row, "callback_tries": 0, "callback_at": 0.0})

    def job(self, id_: str, tenant: str | None) -> Job:
        """Return a job of a tenant; None: of any tenant.

        Raises:
            UnknownName: there is none, or it is another tenant's.
        """
        with self._engine().connect() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == id_)).first()
        if row is None or (tenant is not None and row.tenant != tenant):
            raise UnknownName(f"no transcription {id_!r} waits for a reviewer", cause="not_found")
        return _job(row)

    def due(self, most: int = 100) -> list[Job]:
        """Return jobs whose callbacks are due: of each tenant the longest due first, the tenants in turns."""
        order = (jobs.c.callback_at, jobs.c.id)
        rank = func.row_number().over(partition_by=jobs.c.tenant, order_by=order).label("rank")
        due = select(jobs, rank).where(jobs.c.callback_state == "due", jobs.c.callback_at <= self._clock()).subquery()
        query = select(due).order_by(due.c.rank, due.c.callback_at, due.c.id).limit(most)
        with self._engine().connect() as connection:
            return [_job(row) for row in connection.execute(query)]

    def claim(self, job: Job) -> Job | None:
        """Claim a due callback for this process and count the try; None if another process has claimed it.

        If the process dies, the callback is due again after `CLAIM_S`. The number of tries is limited in that case too.
        """
        tries = job.callback_tries + 1
        if tries > TRIES:  # the last try was claimed and its result never recorded
            self._write(job, {"callback_state": "failed"})
            return None
        if not self._write(job, {"callback_tries": tries, "callback_at": self._clock() + CLAIM_S}):
            return None
        return replace(job, callback_tries=tries)

    def postpone(self, job: Job, seconds: float) -> None:
        """Postpone a due callback without counting a try."""
        self._write(job, {"callback_at": self._clock() + seconds})

    def called(self, job: Job, *, reached: bool) -> None:
        """Record the result of a claimed callback; failures are retried with growing pauses."""
        tries = job.callback_tries
        pause_s = min(FIRST_PAUSE_S * 2.0 ** (tries - 1), LONGEST_PAUSE_S)
        state = "sent" if reached else "failed" if tries >= TRIES else "due"
        self._write(job, {"callback_state": state, "callback_at": self._clock() + pause_s})

    def _write(self, job: Job, values: Mapping[str, Any]) -> bool:
        """Update a due callback; return False if another process has tried it since `job` was read."""
        was = {"id": job.id, "callback_state": "due", "callback_tries": job.callback_tries}
        with self._engine().begin() as connection:
            return swap(connection, jobs, was, values)

    def forget(self, before: float) -> int:
        """Delete jobs that were closed before that time; return how many."""
        with self._engine().begin() as connection:
            return connection.execute(delete(jobs).where(jobs.c.finished_at < before)).rowcount


def _job(row: Any) -> Job:
    names = ("id", "tenant", "created_at", "document", "callback", "state", "cause", "finished_at")
    return Job(**{name: getattr(row, name) for name in (*names, "callback_state", "callback_tries")})
