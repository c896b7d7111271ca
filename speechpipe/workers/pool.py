"""The pool: gives jobs to workers, watches the workers, and gives a dead worker's jobs to another."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence

from speechpipe.asr import DecodeOptions
from speechpipe.errors import NotReady, WorkerLoadFailed
from speechpipe.types import NullCause, Samples
from speechpipe.workers import Decoded, PoolOptions, PoolStatus, RecognizerSpec
from speechpipe.workers.job import Job
from speechpipe.workers.messages import Cancel, Feed, Final, Finish, Load, Loaded, Progress, Reply
from speechpipe.workers.process import WorkerProcess
from speechpipe.workers.queue import FairQueue

HOPELESS_STARTS = 4
"""After so many starts in a row that died, waiting jobs are told instead of left to wait."""

RESTART_DELAY_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Before the n-th start in a row that never became ready."""


class RecognizerPool:
    """Thread-safe. One lock guards all state; futures are resolved outside it."""

    def __init__(self, options: PoolOptions, preload: Sequence[RecognizerSpec] = ()) -> None:
        self.options = options
        self._preload = tuple(preload)
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._queue = FairQueue()
        self._workers: list[WorkerProcess] = []
        self._restarts: Counter[str] = Counter()
        self._failed_starts = 0
        self._failure = ""
        self._closing = False

    # ---- life ----

    def start(self) -> None:
        """Start the workers; they load and warm in parallel."""
        for _ in range(self.options.workers):
            self._start_worker()

    def wait_ready(self) -> None:
        """Block until every worker has loaded what it must.

        Raises:
            WorkerLoadFailed: a recognizer cannot be loaded, or not within `start_timeout_s`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._all_ready(), self.options.start_timeout_s)
            if not self._all_ready():
                raise WorkerLoadFailed("asr", self._failure or f"no worker ready in {self.options.start_timeout_s} s")

    def _all_ready(self) -> bool:
        return len(self._workers) == self.options.workers and all(worker.ready for worker in self._workers)

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
        for worker in workers:
            worker.stop(wait_s=1.0)

    def _idle(self) -> bool:
        return not len(self._queue) and not any(worker.jobs for worker in self._workers)

    # ---- jobs ----

    def open(self, spec: RecognizerSpec, options: DecodeOptions, session: str) -> Job:
        """Begin a segment of `session`.

        Raises:
            NotReady: the pool is closing, or its workers cannot be started.
        """
        with self._lock:
            if self._closing:
                raise NotReady("the recognizers are shutting down")
            if self._failure and not any(worker.ready for worker in self._workers):
                raise NotReady(f"no recognizer is running: {self._failure}")
            job = Job(self, next(self._numbers), session, spec, options)
            self._queue.push(job)
            self._dispatch()
            return job

    def feed(self, job: Job, samples: Samples) -> None:
        """Give a job more audio (see `Job.feed`)."""
        with self._lock:
            if job.future.done() or job.finished:
                return
            job.audio.append(samples)
            job.samples += len(samples)
            self._forward(job, Feed(job.number, samples))

    def finish(self, job: Job) -> None:
        """End a job's audio (see `Job.finish`)."""
        with self._lock:
            if job.future.done() or job.finished:
                return
            job.finished = True
            self._forward(job, Finish(job.number))

    def cancel(self, job: Job) -> None:
        """Drop a job (see `Job.cancel`)."""
        with self._lock:
            worker = self._worker_of(job)
            if worker is not None:
                del worker.jobs[job.number]
                worker.send(Cancel(job.number))
                self._after_job(worker)
            else:
                self._queue.remove(job)
        job.future.cancel()

    def _forward(self, job: Job, request: Feed | Finish) -> None:
        worker = self._worker_of(job)
        if worker is not None:
            if job.outstanding == 0:
                job.last_progress = time.monotonic()
            job.outstanding += 1
            worker.send(request)

    def _worker_of(self, job: Job) -> WorkerProcess | None:
        return next((worker for worker in self._workers if job.number in worker.jobs), None)

    def _dispatch(self) -> None:
        """Give waiting jobs to free workers; call with the lock held."""
        free = [worker for worker in self._workers if worker.ready and not worker.jobs and not worker.retiring]
        for worker in free:
            job = self._queue.pop()
            if job is None:
                break
            worker.jobs[job.number] = job
            for request in job.begin():
                worker.send(request)

    def _resolve(self, job: Job, decoded: Decoded) -> None:
        if job.future.set_running_or_notify_cancel():
            job.future.set_result(decoded)

    # ---- workers ----

    def _start_worker(self) -> None:
        worker = WorkerProcess(self.options.nice)
        with self._lock:
            if self._closing:
                worker.kill()
            self._workers.append(worker)
            worker.loads_owed = len(self._preload)
            worker.ready = not self._preload
            for spec in self._preload:
                worker.send(Load(spec))
        worker.start(
            on_reply=lambda reply: self._on_reply(worker, reply),
            on_quiet=lambda: self._on_quiet(worker),
            on_end=lambda: self._on_end(worker),
        )

    def _on_reply(self, worker: WorkerProcess, reply: Reply) -> None:
        match reply:
            case Loaded(_, error):
                with self._changed:
                    worker.loads_owed -= 1
                    if error:
                        self._failure = worker.load_error = error
                    elif worker.loads_owed == 0 and not worker.load_error:
                        worker.ready, self._failed_starts, self._failure = True, 0, ""
                        self._dispatch()
                    self._changed.notify_all()
            case Progress(number):
                with self._lock:
                    if (job := worker.jobs.get(number)) is not None:
                        job.outstanding -= 1
                        job.last_progress = time.monotonic()
            case Final(number, transcript, cpu_s):
                with self._lock:
                    job = worker.jobs.pop(number, None)
                    worker.jobs_done += 1
                    self._after_job(worker)
                if job is not None:  # else: cancelled or timed out meanwhile
                    self._resolve(job, job.decoded(transcript, cpu_s))

    def _after_job(self, worker: WorkerProcess) -> None:
        """A worker has become free: retire it or give it the next job; call with the lock held."""
        options = self.options
        if options.max_jobs and worker.jobs_done >= options.max_jobs:
            worker.retiring = "recycled_jobs"
        elif options.max_rss_mb and worker.rss_mb > options.max_rss_mb:
            worker.retiring = "recycled_rss"
        if worker.retiring and not worker.jobs:
            worker.kill()  # idle: nothing is lost; `_on_end` starts its successor
        self._dispatch()
        self._changed.notify_all()

    def _on_quiet(self, worker: WorkerProcess) -> None:
        """Kill a worker that owes an answer for too long; its late segment times out, others move on."""
        now = time.monotonic()
        with self._lock:
            late = [job for job in worker.jobs.values() if job.overdue(now, self.options.segment_timeout_s)]
            for job in late:
                del worker.jobs[job.number]
            if late:
                worker.retiring = "timeout"
                worker.kill()
        for job in late:
            limit = self.options.segment_timeout_s
            self._resolve(job, job.failed(NullCause.TIMEOUT, f"no answer from the recognizer for {limit:g} s"))

    def _on_end(self, worker: WorkerProcess) -> None:
        """The process is gone: rescue its jobs and start a successor. Runs on the worker's reader thread."""
        code = worker.reap()
        given_up = []
        with self._changed:
            if self._closing or worker not in self._workers:
                return
            self._workers.remove(worker)
            self._restarts[worker.retiring or "crash"] += 1
            for job in reversed(worker.jobs.values()):
                if job.attempts >= self.options.attempts:
                    given_up.append(job)
                else:
                    job.dispatched_at = None
                    self._queue.push_front(job)
            if not worker.ready:
                self._failed_starts += 1
            if self._failed_starts >= HOPELESS_STARTS and not any(other.ready for other in self._workers):
                self._failure = f"worker processes die at start (exit code {code})"
                given_up += self._queue.drain()
            delay = RESTART_DELAY_S[min(self._failed_starts, len(RESTART_DELAY_S) - 1)]
            self._changed.notify_all()
        for job in given_up:
            detail = f"{job.attempts} workers died on this segment (last exit code {code})"
            self._resolve(job, job.failed(NullCause.WORKER_CRASH, detail))
        with self._changed:
            if self._changed.wait_for(lambda: self._closing, delay):
                return
            self._dispatch()
        self._start_worker()

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
                restarts=dict(self._restarts),
                rss_mb=tuple(worker.rss_mb for worker in self._workers),
                failure=self._failure,
            )
