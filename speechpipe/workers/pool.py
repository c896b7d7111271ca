"""The pool: gives jobs to workers, watches the workers, and gives a dead worker's jobs to another."""

import itertools
import time
from collections.abc import Sequence

from speechpipe.asr import DecodeOptions
from speechpipe.errors import NotReady
from speechpipe.types import NullCause, Samples
from speechpipe.workers import Decoded, Hypothesis, PoolOptions, PoolStatus, RecognizerSpec
from speechpipe.workers.job import Job
from speechpipe.workers.messages import Cancel, Feed, Final, Finish, Partial, Peek, Progress, Reply
from speechpipe.workers.process import WorkerProcess
from speechpipe.workers.queue import FairQueue
from speechpipe.workers.staff import Staff


class RecognizerPool(Staff):
    """Thread-safe. One lock guards all state; futures are resolved outside it."""

    def __init__(self, options: PoolOptions, preload: Sequence[RecognizerSpec] = ()) -> None:
        super().__init__(options, preload)
        self._numbers = itertools.count(1)
        self._queue = FairQueue()

    # ---- life ----

    def close(self, drain_s: float = 0.0) -> None:
        """Finish what is in progress for up to `drain_s` seconds, fail the rest, end the workers."""
        with self._changed:
            self._changed.wait_for(self._idle, drain_s)
            self._closing = True
            left = self._queue.drain()
            for worker in self._workers:
                left += worker.jobs.values()
                worker.jobs.clear()
            workers, self._workers = self._workers, []
        for job in left:
            self._resolve(job, job.failed(NullCause.ERROR, "the server is shutting down"))
        for thread in self._starters:
            thread.join()
        for worker in workers:
            worker.stop(wait_s=1.0)

    def _idle(self) -> bool:
        return not len(self._queue) and not any(worker.jobs for worker in self._workers)

    # ---- jobs ----

    def open(self, spec: RecognizerSpec, options: DecodeOptions, session: str, before: Job | None = None) -> Job:
        """Begin a segment of `session`.

        With `before`, the session's segment before, this one begins with what that one ended with, so it is given
        to a worker only when that one is final: the same audio gets the same text however the workers fare.

        Raises:
            NotReady: the pool is closing, or its workers cannot be started.
        """
        with self._lock:
            if self._closing:
                raise NotReady("the recognizers are shutting down")
            if self._failure and not any(worker.ready for worker in self._workers):
                raise NotReady(f"no recognizer is running: {self._failure}")
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
        self._resolve(job, job.failed(NullCause.ERROR, "the server is shutting down"))

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
            if job.worker is None or job.peeking or job.finished or job.future.done():
                return False
            job.peeking = True
            job.worker.send(Peek(job.number))
            return True

    def cancel(self, job: Job) -> None:
        """Drop a job (see `Job.cancel`)."""
        self._take_back(job)
        job.future.cancel()

    def give_up(self, job: Job, cause: NullCause, detail: str) -> None:
        """End a job without a text (see `Job.give_up`)."""
        with self._lock:
            if job.future.done():
                return
            self._take_back(job)
        self._resolve(job, job.failed(cause, detail))

    def _take_back(self, job: Job) -> None:
        with self._lock:
            worker = job.worker
            if worker is not None and worker.jobs.pop(job.number, None) is not None:
                worker.send(Cancel(job.number))
                self._after_job(worker)
            else:
                self._queue.remove(job)

    def _forward(self, job: Job, request: Feed | Finish) -> None:
        worker = job.worker
        if worker is not None:
            if job.outstanding == 0 and not worker.owes:
                worker.replied()
            job.outstanding += 1
            worker.send(request)

    def _dispatch(self) -> None:
        """Give waiting jobs to the least busy workers; call with the lock held."""
        while len(self._queue):
            free = [worker for worker in self._workers if worker.takes(self.options.slots)]
            if not free:
                return
            worker = min(free, key=lambda candidate: len(candidate.jobs))
            job = self._queue.pop()
            assert job is not None
            if not worker.owes:
                worker.replied()
            worker.jobs[job.number] = job
            for request in job.begin(worker):
                worker.send(request)

    def _resolve(self, job: Job, decoded: Decoded) -> None:
        job.audio = []  # nobody needs it again
        if job.future.set_running_or_notify_cancel():
            job.future.set_result(decoded)

    # ---- workers ----

    def _on_reply(self, worker: WorkerProcess, reply: Reply) -> None:
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
                if job is not None:
                    job.on_partial(Hypothesis(text, samples))
            case Final(number, transcript, cpu_s, carried):
                with self._lock:
                    job = worker.jobs.pop(number, None)
                    worker.jobs_done += 1
                    self._after_job(worker)
                if job is not None:  # else: cancelled or timed out meanwhile
                    self._resolve(job, job.decoded(transcript, cpu_s, carried))

    def _on_quiet(self, worker: WorkerProcess) -> None:
        """Kill a worker that owes an answer for too long; the segment it has in hand times out, others move on."""
        limit = self.options.segment_timeout_s
        with self._lock:
            if not worker.owes or worker.quiet_s <= limit:
                return
            job = worker.jobs.pop(worker.in_hand, None)
            worker.retiring = "timeout"
            worker.kill()
        if job is not None:
            self._resolve(job, job.failed(NullCause.TIMEOUT, f"no answer from the recognizer for {limit:g} s"))

    def _rescue(self, worker: WorkerProcess, in_hand: int, code: int) -> None:
        """Queue a dead worker's jobs again; the one it had in hand only so many times."""
        given_up = []
        with self._lock:
            for job in reversed(worker.jobs.values()):
                job.worker = None
                job.strikes += job.number == in_hand
                if job.strikes >= self.options.attempts:
                    given_up.append(job)
                else:
                    job.dispatched_at = None
                    self._queue.push_front(job)
            worker.jobs.clear()
            if self._failure and not any(other.ready for other in self._workers):
                given_up += self._queue.drain()
        for job in given_up:
            detail = f"{job.strikes} workers died on this segment (last exit code {code})"
            self._resolve(job, job.failed(NullCause.WORKER_CRASH, detail))

    # ---- facts ----

    def status(self) -> PoolStatus:
        """Return a snapshot."""
        with self._lock:
            return PoolStatus(
                ready_workers=sum(worker.ready and not worker.retiring for worker in self._workers),
                workers=self.options.workers,
                queued=len(self._queue),
                active=sum(len(worker.jobs) for worker in self._workers),
                queued_s=self._queue.audio_s,
                backlog_s=sum(job.backlog_s for worker in self._workers for job in worker.jobs.values()),
                cpu_s=sum(worker.cpu_s for worker in self._workers),
                restarts=dict(self._restarts),
                rss_mb=tuple(worker.rss_mb for worker in self._workers),
                failure=self._failure,
            )
