"""What a client waits for: an upload that a person must answer first, and whom to call when it is done."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine, and_, delete, insert, select, update

from speechpipe.control.review import TaskState
from speechpipe.errors import UnknownName
from speechpipe.foundation.storage.schema import review_jobs as jobs
from speechpipe.foundation.storage.schema import review_tasks as tasks
from speechpipe.foundation.storage.swap import swap

WAITING, DONE, FAILED = "waiting", "done", "failed"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 3600.0
TRIES = 20
"""Of a callback, with pauses that double: for about a day."""

CLAIM_S = 60.0
"""For how long a call belongs to the process that makes it: longer than a call can take."""


@dataclass(frozen=True)
class Job:
    """One upload. `document`: what it takes to answer it in the format that was asked for."""

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
    """Note the end of a job if none of its tasks is open; within the transaction that ended the last one."""
    if not job:
        return
    # The job is locked first: of two tasks that end at once, in two processes, the later sees the earlier.
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
    """Thread-safe as the database is. Every method raises SQLAlchemyError if it cannot be used."""

    def __init__(self, engine: Callable[[], Engine], clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def add(self, job: Job, connection: Connection) -> None:
        """Add a job, within the transaction that adds its tasks."""
        row = {"id": job.id, "tenant": job.tenant, "created_at": job.created_at, "document": dict(job.document)}
        row |= {"state": WAITING, "cause": "", "callback": job.callback, "callback_state": "none"}
        connection.execute(insert(jobs), {**row, "callback_tries": 0, "callback_at": 0.0})

    def job(self, id_: str, tenant: str | None) -> Job:
        """Return a job of a tenant; of anybody if None.

        Raises:
            UnknownName: there is none; another tenant's is none.
        """
        with self._engine().connect() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == id_)).first()
        if row is None or (tenant is not None and row.tenant != tenant):
            raise UnknownName(f"no transcription {id_!r} waits for a person", cause="not_found")
        return _job(row)

    def due(self, most: int = 10) -> list[Job]:
        """Return jobs whose clients are to be called now, the longest due first."""
        query = select(jobs).where(jobs.c.callback_state == "due", jobs.c.callback_at <= self._clock())
        query = query.order_by(jobs.c.callback_at, jobs.c.id).limit(most)
        with self._engine().connect() as connection:
            return [_job(row) for row in connection.execute(query)]

    def claim(self, job: Job) -> Job | None:
        """Take a due call for this process, and count the try; None if another process has taken it.

        A call whose process dies is due again after `CLAIM_S`; what broke the process does not run without end.
        """
        tries = job.callback_tries + 1
        if tries > TRIES:  # nobody noted how the last one went
            self._write(job, {"callback_state": "failed"})
            return None
        if not self._write(job, {"callback_tries": tries, "callback_at": self._clock() + CLAIM_S}):
            return None
        return replace(job, callback_tries=tries)

    def postpone(self, job: Job, seconds: float) -> None:
        """Make a due call later; that is no try."""
        self._write(job, {"callback_at": self._clock() + seconds})

    def called(self, job: Job, *, reached: bool) -> None:
        """Note how a claimed call went; what failed is tried again, with longer and longer pauses."""
        tries = job.callback_tries
        pause_s = min(FIRST_PAUSE_S * 2.0 ** (tries - 1), LONGEST_PAUSE_S)
        state = "sent" if reached else "failed" if tries >= TRIES else "due"
        self._write(job, {"callback_state": state, "callback_at": self._clock() + pause_s})

    def _write(self, job: Job, values: Mapping[str, Any]) -> bool:
        """Change a call that is due, if nobody has tried it since `job` was read."""
        was = {"id": job.id, "callback_state": "due", "callback_tries": job.callback_tries}
        with self._engine().begin() as connection:
            return swap(connection, jobs, was, values)

    def forget(self, before: float) -> int:
        """Delete what was over before; return how many."""
        with self._engine().begin() as connection:
            return connection.execute(delete(jobs).where(jobs.c.finished_at < before)).rowcount


def _job(row: Any) -> Job:
    names = ("id", "tenant", "created_at", "document", "callback", "state", "cause", "finished_at")
    return Job(**{name: getattr(row, name) for name in (*names, "callback_state", "callback_tries")})
