"""Review operations on a store: tasks, answers, statistics, and jobs that clients wait for. No server is needed."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from speechpipe.cascade.evaluation.scores import align
from speechpipe.control.review import TaskState
from speechpipe.control.review.agreement import compare, evenly
from speechpipe.control.review.comparison import Judged, People, equally_drawn, people, wrong
from speechpipe.control.review.job_repository import Job, Jobs
from speechpipe.control.review.policy_repository import Automation
from speechpipe.control.review.task_repository import Reviewer, ReviewQueue
from speechpipe.control.review.task_stats import TaskStats
from speechpipe.control.review.tasks import AnswerSegment, Kind, Task, read_answer
from speechpipe.errors import UnknownName
from speechpipe.foundation.storage.database import translating_store_errors
from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.store import Store
from speechpipe.serving.automation import Author, Degree
from speechpipe.serving.automation.policy import Policy
from speechpipe.serving.telemetry.records import feedback_record

DEFAULT = Policy()

CACHED_S = 60.0
"""The granularity of `since` in cached statistics."""
MOST_CACHED = 8


class ReviewOperations:
    """Thread-safe. Every method raises `StoreUnavailable` if the store cannot be used."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.time,
        *,
        base: Policy = DEFAULT,
        on_done: Callable[[Task], None] = lambda _: None,
    ) -> None:
        """Work on `store`.

        Args:
            store: where tasks, jobs and policies are.
            clock: unix time in seconds.
            base: the policy of tenants for which none is set.
            on_done: called with each task that gets its answer, on the thread that gave it.
        """
        self._store = store
        self._clock = clock
        self.automation = Automation(lambda: store.engine, clock, base)
        self.queue = ReviewQueue(lambda: store.engine, clock)
        self.task_stats = TaskStats(lambda: store.engine)
        self.jobs = Jobs(lambda: store.engine, clock)
        self._known: dict[tuple[object, ...], People] = {}  # cached, because dashboards ask every few seconds
        self._on_done = on_done

    def add(self, tasks: Sequence[Task], job: Job | None) -> None:
        """Insert tasks and the job that waits for them, in one transaction."""
        with translating_store_errors(), self._store.engine.begin() as connection:
            if job is not None:
                self.jobs.add(job, connection)
            self.queue.add(tasks, connection)

    # ---- work ----

    def held(self, id_: str, reviewer: Reviewer, lease: str) -> Task:
        """Return a task that this person holds.

        Raises:
            UnknownName: no such task of theirs.
            Conflict: another reviewer holds it, or it is closed.
        """
        found = self.task(id_, reviewer)
        with translating_store_errors():
            return self.queue.held(found, lease)

    def renew(self, id_: str, reviewer: Reviewer, lease: str, given: Any, step_s: float) -> float:
        """Keep a lease for longer, and work in progress (`given`; None: there is none); return until when.

        Raises:
            UnknownName: no such task of theirs.
            InvalidParameter: something in `given` means nothing.
            Conflict: another reviewer holds it now, or it is closed.
        """
        found = self.task(id_, reviewer)
        work = None if given is None else read_answer(found, given, whole=False)
        with translating_store_errors():
            return self.queue.renew(id_, lease, work, step_s)

    def release(self, id_: str, reviewer: Reviewer, lease: str) -> None:
        """Give a task back.

        Raises:
            UnknownName, Conflict: as `held`.
        """
        self.task(id_, reviewer)
        with translating_store_errors():
            self.queue.release(id_, lease)

    def skip(self, id_: str, reviewer: Reviewer, lease: str, reason: str, note: str) -> Task:
        """Say that one cannot do a task; return it as it is now.

        Raises:
            UnknownName, Conflict: as `held`.
            InvalidParameter: no such reason.
        """
        self.task(id_, reviewer)
        with translating_store_errors():
            return self.queue.skip(id_, lease, reason, note)

    # ---- answers ----

    def submit(self, id_: str, reviewer: Reviewer, lease: str, given: Any, step_s: float) -> Task:
        """Store a reviewer's answer before returning; return the task.

        Raises:
            UnknownName: there is no such task for this reviewer.
            InvalidParameter: a segment is invalid.
            Conflict: another reviewer has the task now, or it is closed.
        """
        with translating_store_errors():
            said = read_answer(self.task(id_, reviewer), given)
            done, fresh = self.queue.submit(id_, lease, said, _compare, step_s)
        if fresh:
            self._on_done(done)
        return done

    def put(self, task: Task, by: str, said: Sequence[AnswerSegment]) -> Task:
        """Store an imported answer.

        Raises:
            Conflict: the task is answered, or a reviewer works on it.
        """
        with translating_store_errors():
            done = self.queue.put(task.id, by, said, _compare)
        self._on_done(done)
        return done

    def task(self, id_: str, reviewer: Reviewer) -> Task:
        """Return a task that this reviewer may see.

        Raises:
            UnknownName: there is none, or it is another tenant's.
        """
        with translating_store_errors():
            found = self.queue.task(id_)
        if reviewer.tenant is not None and found.tenant != reviewer.tenant:
            raise UnknownName(f"there is no review {id_!r}", cause="not_found")
        return found

    def feedback(self, task: Task) -> Record | None:
        """Return the feedback record of a review; None if it is not a fair sample or its session is unknown."""
        units = [unit for unit in task.compared.get("units", ()) if evenly(unit, task.draft.base)]
        words = sum(unit["words"] for unit in units)
        with translating_store_errors():
            found = self._store.find(session_id=task.id)
        of = next((record for record in found if record.kind in ("unit", "session")), None)
        if of is None or not words:
            return None
        wer = sum(unit["edits"] for unit in units) / words
        return feedback_record(of, "review", f"review-{uuid.uuid4().hex}", self._clock(), {"people.wer": wer})

    # ---- jobs ----

    def callback_body(self, job: Job) -> dict[str, object]:
        """Return the body of a job's callback: its status and the URL of the text, never the text."""
        return {
            "id": job.id,
            "status": job.state,
            "cause": job.cause or None,
            "status_url": job.document.get("status_url", ""),
        }

    def waiting(self, id_: str, tenant: str | None) -> tuple[Job, list[Task]]:
        """Return a job and its tasks.

        Raises:
            UnknownName: there is none, or it is another tenant's.
        """
        with translating_store_errors():
            return self.jobs.job(id_, tenant), self.queue.of_job(id_)

    # ---- statistics ----

    def judged(self, since: float) -> Iterator[Judged]:
        """Yield the answered segments since a time that had equal chances of review, in order of their answers."""
        with translating_store_errors():
            for task in self.task_stats.finished(since):
                for unit in equally_drawn(task):
                    yield Judged(task.tenant, task.bundle, unit["confidence"], wrong(unit))

    def people(
        self,
        since: float = 0.0,
        *,
        bound: float = DEFAULT.bound,
        delta: float = DEFAULT.delta,
        tenant: str | None = None,
    ) -> People:
        """Return the review statistics since a time, by bundle."""
        with translating_store_errors():
            waiting = self.task_stats.counts(tenant)
            key = (since // CACHED_S, bound, delta, tenant, self.task_stats.newest())
            known = self._known.get(key)
            if known is None:
                known = people(self.task_stats.finished(since, tenant=tenant), bound, delta)
                self._known = dict([*self._known.items(), (key, known)][-MOST_CACHED:])
            return replace(known, waiting=waiting)


def _compare(task: Task, said: Sequence[AnswerSegment]) -> Mapping[str, Any]:
    if not task.bundle:
        return {"units": [], "pairs": []}  # the cascade was not run
    return compare(task, said, align)


def author(task: Task) -> Author:
    """Return the author of a task's text."""
    if task.state is not TaskState.DONE:
        return Author.MACHINE
    drafted = any(piece.text for piece in task.draft.pieces) and not task.draft.blind
    return Author.BOTH if drafted and task.degree not in (Degree.HUMAN_ONLY, Degree.SHADOW) else Author.HUMAN


def segments(task: Task) -> list[dict[str, Any]]:
    """Return a task's text as it is delivered: the reviewer's segments, and the machine's accepted ones."""
    answered = {name for said in task.work for name in said.of}
    by = author(task)
    found = [
        {"start": said.start_s, "end": said.end_s, "text": said.text, "author": by, "kind": said.kind.value}
        for said in task.work
        if said.kind is not Kind.NO_SPEECH
    ]
    found += [
        {
            "start": piece.start_s,
            "end": piece.end_s,
            "text": piece.text,
            "author": Author.MACHINE,
            "kind": Kind.SPEECH.value,
        }
        for piece in task.draft.pieces
        if piece.accepted and piece.id not in answered and piece.text
    ]
    return sorted(found, key=lambda item: (item["start"], item["end"]))
