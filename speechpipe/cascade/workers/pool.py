"""The pool: gives jobs to workers, and a dead worker's jobs to another. Its supervisor keeps the workers."""

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.workers import Decoded, Hypothesis, PoolOptions, PoolStatus, RecognizerSpec
from speechpipe.cascade.workers.job import Job
from speechpipe.cascade.workers.messages import Cancelled, Feed, Final, Finish, Partial, Peek, Progress, Reply
from speechpipe.cascade.workers.process import WorkerProcess
from speechpipe.cascade.workers.queue import FairQueue
from speechpipe.cascade.workers.supervisor import Supervisor
from speechpipe.errors import NotReady
from speechpipe.foundation.background import BackgroundTask
from speechpipe.types import NullCause, Samples, Transcript

SHORT_OUTAGE_S = 5.0
"""New work is still taken while no worker is ready for this long, if no start has failed."""

SHUTTING_DOWN = "the server is shutting down"


class RecognizerPool:
    """Thread-safe. One lock guards all state; futures are resolved outside it."""

    def __init__(
        self, options: PoolOptions, preload: Sequence[RecognizerSpec] = (), *, name: str = "recognizer-workers"
    ) -> None:
        """Prepare a pool; `name` is that of its supervisor among the background tasks."""
        self.options = options
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._supervisor = Supervisor(name, options, preload, self._changed, self)
        self._numbers = itertools.count(1)
        self._queue = FairQueue()
        self._closing = False

    # ---- life ----

    def start(self) -> None:
        """Have the workers started; they load and warm in the background."""
        self._supervisor.start()

    def wait_ready(self) -> None:
        """Block until every worker has loaded what it must.

        Raises:
            WorkerLoadFailed: a recognizer cannot be loaded, or not within `start_timeout_s`.
            NotReady: the pool was closed meanwhile.
        """
        self._supervisor.wait_ready()

    @property
    def task(self) -> BackgroundTask:
        """The supervisor's thread, for the register of background tasks."""
        return self._supervisor.task

    def close(self, drain_s: float = 0.0) -> None:
        """Finish what is in progress for up to `drain_s` seconds, fail the rest, end the workers."""
        with self._changed:
            self._changed.wait_for(self._idle, drain_s)
            self._closing = True
            left = self._queue.drain()
            for worker in self._supervisor.workers:
                left += worker.jobs.values()
                worker.jobs.clear()
        for job in left:
            self._resolve(job, job.failed(NullCause.ERROR, SHUTTING_DOWN))
        self._supervisor.close()

    def _idle(self) -> bool:
        return not len(self._queue) and not any(worker.jobs for worker in self._supervisor.workers)

    # ---- jobs ----

    def open(self, spec: RecognizerSpec, options: DecodeOptions, session: str, before: Job | None = None) -> Job:
        """Begin a segment of `session`.

        With `before`, the session's segment before, this one begins with what that one ended with, so it is given
        to a worker only when that one is final: the same audio gets the same text however the workers fare.

        Raises:
            NotReady: the pool is closing, or no worker could be started for too long.
        """
        with self._lock:
            if self._closing:
                raise NotReady("the recognizers are shutting down")
            if self._supervisor.never_ready:
                raise NotReady(f"no recognizer is running: {self._supervisor.failure}")
            if reason := self._supervisor.given_up:
                raise NotReady(reason)
            job = Job(self, next(self._numbers), session, spec, options)
        if before is None:
            self._release(job)
        else:
            before.future.add_done_callback(lambda _: self._release(job, before))
        return job

    def _release(self, job: Job, before: Job | None = None) -> None:
        """Put a job in line for a worker."""
        if before is not None:
            job.carry_on(before)
        with self._lock:
            if job.future.done():
                return
            if not self._closing:
                self._queue.push(job)
                self._dispatch()
                return
        self._resolve(job, job.failed(NullCause.ERROR, SHUTTING_DOWN))

    def feed(self, job: Job, samples: Samples, *, pausing: bool = False) -> None:
        """Give a job more audio (see `Job.feed`)."""
        with self._lock:
            if job.future.done() or job.finished:
                return
            job.audio.append(samples)
            job.samples += len(samples)
            self._forward(job, Feed(job.number, samples, pausing))

    def finish(self, job: Job) -> None:
        """End a job's audio (see `Job.finish`)."""
        with self._lock:
            if job.future.done() or job.finished:
                return
            job.finished = True
            job.finished_at = time.monotonic()
            self._forward(job, Finish(job.number))

    def peek(self, job: Job) -> bool:
        """Ask for a partial result (see `Job.peek`)."""
        with self._lock:
            worker = self._worker_of(job)
            if worker is None or job.peeking or job.finished or job.future.done():
                return False
            job.peeking = True
            worker.send(Peek(job.number))
            return True

    def cancel(self, job: Job) -> None:
        """Drop a job (see `Job.cancel`)."""
        try:
            self._take_back(job)
        finally:
            job.future.cancel()

    def give_up(self, job: Job, cause: NullCause, detail: str) -> None:
        """End a job without a text (see `Job.give_up`)."""
        if job.future.done():
            return
        try:
            self._take_back(job)
        finally:
            self._resolve(job, job.failed(cause, detail))

    def _worker_of(self, job: Job) -> WorkerProcess | None:
        """Return who has a job; None if it waits or is over. Call with the lock held."""
        return next((worker for worker in self._supervisor.holding if job.number in worker.jobs), None)

    def _take_back(self, job: Job) -> None:
        with self._lock:
            if (worker := self._worker_of(job)) is not None:
                del worker.jobs[job.number]
                worker.cancel(job.number)
                self._supervisor.after_job(worker)
            else:
                self._queue.remove(job)

    def _forward(self, job: Job, request: Feed | Finish) -> None:
        if (worker := self._worker_of(job)) is not None:
            if job.outstanding == 0 and not worker.owes:
                worker.replied()
            job.outstanding += 1
            worker.send(request)

    def _dispatch(self) -> None:
        """Give waiting jobs to the least busy workers; call with the lock held.

        Those that have not let go of a cancelled segment come last: they may hang on it.
        """
        while len(self._queue):
            free = [worker for worker in self._supervisor.workers if worker.takes(self.options.slots)]
            if not free:
                return
            worker = min(free, key=lambda candidate: (bool(candidate.unwanted), len(candidate.jobs)))
            job = self._queue.pop()
            assert job is not None
            if not worker.owes:
                worker.replied()
            worker.jobs[job.number] = job
            for request in job.begin():
                worker.send(request)

    def _resolve(self, job: Job, decoded: Decoded) -> None:
        with self._lock:
            if job.answered:
                return
            job.answered = True
        job.audio = []  # nobody needs it again
        if job.future.set_running_or_notify_cancel():
            job.future.set_result(decoded)

    # ---- told by the supervisor ----

    def on_free(self) -> None:
        """See `Employer`."""
        self._dispatch()

    def on_reply(self, worker: WorkerProcess, reply: Reply) -> None:
        """See `Employer`."""
        match reply:
            case Progress(number, samples):
                with self._lock:
                    if (job := worker.jobs.get(number)) is not None:
                        job.outstanding -= 1
                        job.worked_on = samples
            case Partial(number, text, samples):
                with self._lock:
                    if (job := worker.jobs.get(number)) is not None:
                        job.peeking = False
                        job.said = job.said or bool(text)
                if job is not None:
                    job.on_partial(Hypothesis(text, samples))
            case Final(number, transcript, cpu_s, carried):
                with self._lock:
                    job = worker.jobs.pop(number, None)
                    worker.jobs_done += 1
                try:
                    with self._lock:
                        self._supervisor.after_job(worker)
                finally:  # it belongs to nobody any more: whatever happens, it gets its answer
                    if job is not None:  # else: cancelled or timed out meanwhile
                        self._resolve(job, job.decoded(_told_apart(transcript, job), cpu_s, carried))
            case Cancelled(number):
                with self._lock:
                    worker.unwanted.discard(number)
                    self._supervisor.after_job(worker)

    def on_hung(self, worker: WorkerProcess, limit_s: float) -> None:
        """End the segment that the worker has in hand; the others move on."""
        with self._lock:
            job = worker.jobs.pop(worker.in_hand, None)
        if job is not None:
            self._resolve(job, job.failed(NullCause.TIMEOUT, f"no answer from the recognizer for {limit_s:g} s"))

    def on_end(self, worker: WorkerProcess, in_hand: int, code: int | None) -> None:
        """Queue a dead worker's jobs again; the one it had in hand only so many times."""
        given_up = []
        with self._lock:
            for job in reversed(worker.jobs.values()):
                job.strikes += job.number == in_hand and worker.retiring != "stopped"
                if job.strikes >= self.options.attempts:
                    given_up.append(job)
                else:
                    job.dispatched_at = None
                    self._queue.push_front(job)
            worker.jobs.clear()
            self._dispatch()
        for job in given_up:
            detail = f"{job.strikes} workers died on this segment (last exit code {code})"
            self._resolve(job, job.failed(NullCause.WORKER_CRASH, detail))

    def on_look(self) -> None:
        """End the segments that wait for workers in vain."""
        with self._lock:
            reason = self._supervisor.given_up
            waiting = self._queue.drain() if reason else []
        for job in waiting:
            self._resolve(job, job.failed(NullCause.WORKER_UNAVAILABLE, reason))

    # ---- facts ----

    @property
    def unavailable(self) -> str:
        """Why new work should not be given to this pool; empty if it may be.

        A pool whose workers have just died is not unavailable: their successors are seconds away.
        """
        with self._lock:
            staff = self._supervisor
            if staff.ready or not (staff.failure or staff.unavailable_s > SHORT_OUTAGE_S):
                return ""
            return f"no recognizer worker is ready for {staff.unavailable_s:.0f} s {staff.failure}".strip()

    @property
    def ready(self) -> bool:
        """Whether a worker takes jobs now."""
        with self._lock:
            return self._supervisor.ready > 0

    @property
    def idle(self) -> bool:
        """Whether no segment is in progress or waits."""
        with self._lock:
            return self._idle()

    def status(self) -> PoolStatus:
        """Return a snapshot."""
        with self._lock:
            staff = self._supervisor
            return PoolStatus(
                ready_workers=staff.ready,
                workers=self.options.workers,
                queued=len(self._queue),
                active=sum(len(worker.jobs) for worker in staff.workers),
                queued_s=self._queue.audio_s,
                backlog_s=sum(job.backlog_s for worker in staff.workers for job in worker.jobs.values()),
                cpu_s=sum(worker.cpu_s for worker in staff.workers),
                restarts=dict(staff.restarts),
                rss_mb=tuple(worker.rss_mb for worker in staff.workers),
                failure=staff.failure,
            )


def _told_apart(transcript: Transcript, job: Job) -> Transcript:
    """Tell a segment whose words were withdrawn from one in which none were heard."""
    if transcript.null_cause is NullCause.EMPTY and job.said:
        return replace(transcript, null_cause=NullCause.WITHDRAWN)
    return transcript
