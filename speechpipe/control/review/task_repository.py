"""The queue of review tasks in the store: durable, ordered by priority, leased with a time-out.

A task is leased to one reviewer at a time. Writes compare-and-swap on the revision, so that of two reviewers, in
any processes, one gets a task. A reviewer who leaves loses nothing: the draft of the answer is stored with the task,
and the lease expires.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, insert, or_, select

from speechpipe.control.review import TaskState
from speechpipe.control.review.job_repository import finish_job
from speechpipe.control.review.rows import of_tenant, read_task, said_row, task_row
from speechpipe.control.review.tasks import AnswerSegment, Task
from speechpipe.errors import Conflict, InvalidParameter, UnknownName
from speechpipe.foundation.storage.schema import review_tasks as tasks
from speechpipe.foundation.storage.swap import ChangedMeanwhile, swap

T = TypeVar("T")

LEASE_S = 120.0
LOOK_AT = 200
"""Tasks that are read at once, most urgent first, when one is claimed."""

SKIPS = 3
"""A task is closed when this many reviewers have skipped it."""

MOST_STEP_S = 3600.0
"""The most working time that one step can add; more means that a clock jumped."""

TRIES = 10
"""Tries of a change to a task that others change at the same time: the page saves drafts while it submits."""

REASONS = ("audio_broken", "other_language", "cannot_understand", "not_mine", "other")


@dataclass(frozen=True)
class Reviewer:
    """A reviewer; `tenant` limits them to one tenant, None means all."""

    name: str
    tenant: str | None = None


def _retried(once: Callable[[], T]) -> T:
    """Return what `once` returns; retry it if the task changed between reading and writing.

    Raises:
        Conflict: the task changed in each of the `TRIES` tries.
    """
    for number in range(1, TRIES + 1):
        try:
            return once()
        except ChangedMeanwhile as error:
            if number == TRIES:
                raise Conflict(f"{error} was changed repeatedly at the same time", cause="lease_lost") from error
    raise AssertionError("unreachable: the last try returns or raises")


class ReviewQueue:
    """Access to the tasks table. Thread-safe. Every method raises SQLAlchemyError if it cannot be used."""

    def __init__(self, engine: Callable[[], Engine], clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    # ---- inserting ----

    def add(self, found: Sequence[Task], connection: Connection | None = None) -> None:
        """Insert tasks in one transaction."""
        if connection is not None:
            connection.execute(insert(tasks), [task_row(task) for task in found])
            return
        with self._engine().begin() as begun:
            self.add(found, begun)

    # ---- leases and answers ----

    def claim(self, reviewer: Reviewer, has_audio: Callable[[str], bool], lease_s: float = LEASE_S) -> Task | None:
        """Lease the most urgent task to a reviewer; None if there is none for them.

        Tasks for which `has_audio` is false are passed over: another server may have their audio.
        """
        now = self._clock()
        columns = (tasks.c.id, tasks.c.priority, tasks.c.created_at, tasks.c.skips)
        query = of_tenant(select(*columns).where(_free(now)), reviewer.tenant)
        query = query.order_by(tasks.c.priority.desc(), tasks.c.created_at, tasks.c.id)
        rows: Sequence[Row[Any]] = ()
        while True:
            page = query.where(_behind(rows[-1])) if rows else query  # keyset paging: tasks leave the set meanwhile
            with self._engine().connect() as connection:
                rows = connection.execute(page.limit(LOOK_AT)).all()
            for row in rows:
                if any(skip["by"] == reviewer.name for skip in row.skips) or not has_audio(row.id):
                    continue
                if (task := self._lease(row.id, reviewer, now, lease_s)) is not None:
                    return task
            if len(rows) < LOOK_AT:
                return None

    def _lease(self, id_: str, reviewer: Reviewer, now: float, lease_s: float) -> Task | None:
        """Lease a task; None if another reviewer was faster."""
        with self._engine().connect() as connection:
            row = connection.execute(select(tasks).where(tasks.c.id == id_, _free(now))).first()
        if row is None:
            return None
        lease = secrets.token_hex(16)
        change = {"state": TaskState.LEASED.value, "lease": lease, "reviewer": reviewer.name}
        return self.task(id_) if self._change(read_task(row), {**change, "leased_until": now + lease_s}) else None

    def renew(
        self, id_: str, lease: str, work: Sequence[AnswerSegment] | None, step_s: float = 0.0, lease_s: float = LEASE_S
    ) -> float:
        """Extend a lease, and store the draft of the answer; return the new end (unix seconds).

        Raises:
            UnknownName: there is no such task.
            Conflict: the lease has ended and another reviewer has the task, or it is closed.
        """
        until = self._clock() + lease_s

        def once() -> float:
            task = self._mine(id_, lease)
            change: dict[str, Any] = {"leased_until": until, "work_s": task.work_s + _step(step_s)}
            if work is not None:
                change["work"] = [said_row(said) for said in work]
            self._must(task, change)
            return until

        return _retried(once)

    def release(self, id_: str, lease: str) -> None:
        """Return a task to the queue; the draft of the answer is kept for the next reviewer.

        Raises:
            UnknownName, Conflict: as for `renew`.
        """
        change = {"state": TaskState.OPEN.value, "lease": "", "leased_until": 0.0}
        _retried(lambda: self._must(self._mine(id_, lease), change))

    def skip(self, id_: str, lease: str, reason: str, note: str = "") -> Task:
        """Skip a task: it goes to other reviewers, and is closed when `SKIPS` of them have skipped it.

        Raises:
            UnknownName, Conflict: as for `renew`.
            InvalidParameter: there is no such reason.
        """
        if reason not in REASONS:
            raise InvalidParameter(f"reason must be one of {', '.join(REASONS)}", param="reason")
        return _retried(lambda: self._skip(self._mine(id_, lease), reason, note))

    def _skip(self, task: Task, reason: str, note: str) -> Task:
        now = self._clock()
        skips = [*task.skips, {"by": task.reviewer, "reason": reason, "note": note[:500], "at": now}]
        change: dict[str, Any] = {"skips": skips, "lease": "", "leased_until": 0.0, "state": TaskState.OPEN.value}
        with self._engine().begin() as connection:
            if len({skip["by"] for skip in skips}) >= SKIPS:
                change |= {"state": TaskState.SKIPPED.value, "finished_at": now}
            self._must(task, change, connection)
            if change["state"] == TaskState.SKIPPED:
                finish_job(connection, task.job, now)
        return self.task(task.id)

    def submit(
        self,
        id_: str,
        lease: str,
        said: Sequence[AnswerSegment],
        compare: Callable[[Task, Sequence[AnswerSegment]], Mapping[str, Any]],
        step_s: float = 0.0,
    ) -> tuple[Task, bool]:
        """Store an answer before returning; return the task, and whether the answer is new.

        Repeating the same answer under the same lease changes nothing, even if both arrive at once.

        Raises:
            UnknownName, Conflict: as for `renew`.
            Conflict: a different answer was stored under this lease.
        """

        def once() -> tuple[Task, bool]:
            task = self.task(id_)
            if task.state is TaskState.DONE and lease and secrets.compare_digest(task.lease, lease):
                if task.work != tuple(said):
                    message = f"{id_} was answered already, with another text; the first answer is kept"
                    raise Conflict(message, cause="review_over")
                return task, False  # the response to the first submission was lost
            return self._finish(_held(task, lease), said, compare, step_s), True

        return _retried(once)

    def put(
        self,
        id_: str,
        by: str,
        said: Sequence[AnswerSegment],
        compare: Callable[[Task, Sequence[AnswerSegment]], Mapping[str, Any]],
    ) -> Task:
        """Store an imported answer.

        Raises:
            UnknownName: there is no such task.
            Conflict: it is closed, or a reviewer works on it.
        """

        def once() -> Task:
            task = self.task(id_)
            if task.state.over:
                raise Conflict(f"{id_} is {task.state} already", cause="review_over")
            if task.state is TaskState.LEASED and task.leased_until >= self._clock():
                raise Conflict(f"{task.reviewer} is working on {id_}", cause="review_leased")
            return self._finish(replace(task, reviewer=by), said, compare, 0.0)

        return _retried(once)

    def _finish(
        self,
        task: Task,
        said: Sequence[AnswerSegment],
        compare: Callable[[Task, Sequence[AnswerSegment]], Mapping[str, Any]],
        step_s: float,
    ) -> Task:
        now = self._clock()
        change = {
            "state": TaskState.DONE.value,
            "reviewer": task.reviewer,
            "work": [said_row(one) for one in said],
            "compared": dict(compare(task, said)),
            "work_s": task.work_s + _step(step_s),
            "finished_at": now,
        }
        with self._engine().begin() as connection:
            self._must(task, change, connection)
            finish_job(connection, task.job, now)
        return self.task(task.id)

    def expire(self, before: float) -> int:
        """Close tasks that were created before that time and that no reviewer holds: their audio has been deleted.

        Returns:
            The number of closed tasks.
        """
        now, last, count = self._clock(), "", 0
        old = select(tasks).where(_free(now), tasks.c.created_at < before).order_by(tasks.c.id).limit(LOOK_AT)
        while True:
            with self._engine().connect() as connection:
                rows = connection.execute(old.where(tasks.c.id > last)).all()
            for task in map(read_task, rows):
                with self._engine().begin() as connection:
                    if self._change(task, {"state": TaskState.EXPIRED.value, "finished_at": now}, connection):
                        finish_job(connection, task.job, now)
                        count += 1
            if len(rows) < LOOK_AT:
                return count
            last = rows[-1].id

    def raise_chance(self, id_: str, chance: float) -> bool:
        """Account for another chance of a task to be sampled; False if there is no such task."""
        try:
            task = self.task(id_)
        except UnknownName:
            return False
        if task.draft.whole is None:
            return True
        whole = 1 - (1 - task.draft.whole) * (1 - chance)
        pieces = tuple(replace(piece, chance=max(whole, piece.chance or 0.0)) for piece in task.draft.pieces)
        return self._change(task, {"draft": asdict(replace(task.draft, whole=whole, pieces=pieces))})

    # ---- reading ----

    def task(self, id_: str) -> Task:
        """Return a task.

        Raises:
            UnknownName: there is none.
        """
        with self._engine().connect() as connection:
            row = connection.execute(select(tasks).where(tasks.c.id == id_)).first()
        if row is None:
            raise UnknownName(f"there is no review {id_!r}", cause="not_found")
        return read_task(row)

    def held(self, task: Task, lease: str) -> Task:
        """Return a task as its holder left it.

        Raises:
            Conflict: another reviewer has it, or it is closed.
        """
        return _held(self.task(task.id), lease)

    def of_job(self, job: str) -> list[Task]:
        """Return the tasks of a job."""
        query = select(tasks).where(tasks.c.job == job).order_by(tasks.c.id)
        with self._engine().connect() as connection:
            return [read_task(row) for row in connection.execute(query)]

    # ---- helpers ----

    def _mine(self, id_: str, lease: str) -> Task:
        return _held(self.task(id_), lease)

    def _must(self, task: Task, change: Mapping[str, Any], connection: Connection | None = None) -> None:
        if not self._change(task, change, connection):
            raise ChangedMeanwhile(task.id)

    def _change(self, task: Task, change: Mapping[str, Any], connection: Connection | None = None) -> bool:
        if connection is None:
            with self._engine().begin() as begun:
                return self._change(task, change, begun)
        was = {"id": task.id, "revision": task.revision}
        return swap(connection, tasks, was, {**change, "revision": task.revision + 1})


def _held(task: Task, lease: str) -> Task:
    """Return the task.

    Raises:
        Conflict: it is closed, or `lease` is not its lease.
    """
    if task.state.over:
        raise Conflict(f"{task.id} is {task.state} already", cause="review_over")
    # An expired lease that no other reviewer took is still valid: the reviewer was only slow.
    if task.state is not TaskState.LEASED or not lease or not secrets.compare_digest(task.lease, lease):
        message = f"{task.id} is not yours any more: the lease ended and another reviewer took it"
        raise Conflict(message, cause="lease_lost")
    return task


def _free(now: float) -> ColumnElement[bool]:
    """Condition: tasks that no reviewer holds, open or with an expired lease."""
    left = and_(tasks.c.state == TaskState.LEASED, tasks.c.leased_until < now)
    return or_(tasks.c.state == TaskState.OPEN, left)


def _behind(row: Row[Any]) -> ColumnElement[bool]:
    """Condition: tasks after this one in the order of claiming."""
    older = or_(tasks.c.created_at > row.created_at, and_(tasks.c.created_at == row.created_at, tasks.c.id > row.id))
    return or_(tasks.c.priority < row.priority, and_(tasks.c.priority == row.priority, older))


def _step(seconds: float) -> float:
    return min(max(seconds, 0.0), MOST_STEP_S)
