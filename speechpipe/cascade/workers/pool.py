"""The pool: dispatches jobs to workers, and requeues the jobs of dead workers. Its supervisor owns the processes."""

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.workers import Decoded, Hypothesis, PoolOptions, PoolStatus, RecognizerSpec
from speechpipe.cascade.workers.job import Job
from speechpipe.cascade.workers.messages import (
    Cancelled,
    Feed,
    Final,
    Finish,
    Loaded,
    Opened,
    Partial,
    Progress,
    Reply,
    RequestPartial,
    Together,
)
from speechpipe.cascade.workers.process import WorkerProcess
from speechpipe.cascade.workers.queue import FairQueue
from speechpipe.cascade.workers.recognizers import KnownRecognizers
from speechpipe.cascade.workers.supervisor import Supervisor
from speechpipe.errors import NotReady
from speechpipe.foundation.background import BackgroundTask
from speechpipe.types import NullCause, Samples, Transcript

SHORT_OUTAGE_S = 5.0
"""New work is accepted for this long while no worker is ready, unless a start has failed."""

HUNG = 0.5
"""A worker that owes an answer for this share of `segment_timeout_s` is counted as hung; at the whole it is killed."""

SHUTTING_DOWN = "the server is shutting down"


class RecognizerPool:
    """A pool of recognizer workers. Thread-safe: one lock guards all state, and futures are resolved without it."""

    def __init__(
        self, options: PoolOptions, preload: Sequence[RecognizerSpec] = (), *, name: str = "recognizer-workers"
    ) -> None:
        """Make a pool that is not started. `name` is that of its supervisor in the list of background tasks.

        Args:
            options: size and limits.
            preload: recognizers that each worker loads before it is ready.
            name: of the background task.
        """
        self.options = options
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._supervisor = Supervisor(name, options, preload, self._changed, self)
        self._numbers = itertools.count(1)
        self._queue = FairQueue()
        self._open_ended: dict[int, Job] = {}  # segments of an upload that are dispatched when they have ended
        self._known = KnownRecognizers()
        self._closing = False

    # ---- life ----

    def start(self) -> None:
        """Start the workers in the background; `wait_ready` waits for them."""
        self._supervisor.start()

    def wait_ready(self) -> None:
        """Block until every worker has loaded the preloaded recognizers.

        Raises:
            WorkerLoadFailed: a recognizer cannot be loaded, or not within `start_timeout_s`.
            NotReady: the pool was closed in the meantime.
        """
        self._supervisor.wait_ready()

    @property
    def supervisor(self) -> Supervisor:
        """The owner of the worker processes."""
        return self._supervisor

    @property
    def task(self) -> BackgroundTask:
        """The supervisor's thread, for the register of background tasks."""
        return self._supervisor.task

    def close(self, drain_s: float = 0.0) -> None:
        """Wait up to `drain_s` seconds for jobs in progress, fail the others, and end the workers."""
        with self._changed:
            self._changed.wait_for(self._idle, drain_s)
            self._closing = True
            left = [*self._queue.drain(), *self._open_ended.values()]
            self._open_ended.clear()
            for worker in self._supervisor.workers:
                left += worker.jobs.values()
                worker.jobs.clear()
        for job in left:
            self._resolve(job, job.failed(NullCause.ERROR, SHUTTING_DOWN))
        self._supervisor.close()

    def _idle(self) -> bool:
        waiting = len(self._queue) or self._open_ended
        return not waiting and not any(worker.jobs for worker in self._supervisor.workers)

    # ---- jobs ----

    def open(self, spec: RecognizerSpec, options: DecodeOptions, session: str, before: Job | None = None) -> Job:
        """Begin a segment of `session`.

        `before` is the session's previous segment. The new one then starts with the recognizer state at the end of that
        one, and is dispatched only when that one is final, so that the text does not depend on the timing of workers.

        Raises:
            NotReady: the pool is closing, or no worker could be started for too long.
        """
        with self._lock:
            if self._closing:
                raise NotReady("the recognizers are shutting down")
            if self._supervisor.never_ready:
                raise NotReady(f"no recognizer is running: {self._supervisor.failure}")
            if reason := self._supervisor.gave_up_reason:
                raise NotReady(reason)
            job = Job(self, next(self._numbers), session, spec, replace(options, group=session))
        if before is None:
            self._release(job)
        else:
            before.future.add_done_callback(lambda _: self._release(job, before))
        return job

    def _release(self, job: Job, before: Job | None = None) -> None:
        """Queue a job for a worker, with the state after `before`.

        A segment of an upload whose recognizer decodes complete segments together is queued when it has ended.
        """
        if before is not None:
            job.take_context(before)
        with self._lock:
            if job.future.done():
                return
            if not self._closing:
                if self._known.waits_for_its_end(job):
                    self._open_ended[job.number] = job
                else:
                    self._queue.push(job)
                    self._dispatch()
                return
        self._resolve(job, job.failed(NullCause.ERROR, SHUTTING_DOWN))

    def feed(self, job: Job, samples: Samples, *, endpoint_near: bool = False) -> None:
        """Give a job more audio (see `Job.feed`)."""
        with self._lock:
            if job.future.done() or job.finished:
                return
            job.audio.append(samples)
            job.samples += len(samples)
            self._forward(job, Feed(job.number, samples, endpoint_near))

    def finish(self, *jobs: Job) -> None:
        """End the audio of jobs (see `Job.finish`)."""
        with self._lock:
            for job in jobs:
                if job.future.done() or job.finished:
                    continue
                job.finished = True
                job.finished_at = time.monotonic()
                if self._open_ended.pop(job.number, None) is not None:
                    self._queue.push(job)
                else:
                    self._forward(job, Finish(job.number))
            self._dispatch()

    def request_partial(self, job: Job) -> bool:
        """Ask for a partial result (see `Job.request_partial`)."""
        with self._lock:
            worker = self._worker_of(job)
            if worker is None or job.partial_requested or job.finished or job.future.done():
                return False
            job.partial_requested = True
            worker.send(RequestPartial(job.number))
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
        """Return the worker that has a job; None if it waits or is final. Call with the lock held."""
        return next((worker for worker in self._supervisor.holding if job.number in worker.jobs), None)

    def _take_back(self, job: Job) -> None:
        with self._lock:
            if (worker := self._worker_of(job)) is not None:
                del worker.jobs[job.number]
                worker.cancel(job.number)
                self._supervisor.after_job(worker)
            elif self._open_ended.pop(job.number, None) is None:
                self._queue.remove(job)

    def _forward(self, job: Job, request: Feed | Finish) -> None:
        if (worker := self._worker_of(job)) is not None:
            if job.outstanding == 0 and not worker.awaits_reply:
                worker.replied()
            job.outstanding += 1
            worker.send(request)

    def _dispatch(self) -> None:
        """Send waiting jobs to the least busy workers, several at once if they are decoded together.

        Call with the lock held.

        Workers that have not confirmed a cancelled segment come last, because they may hang on it.
        """
        while len(self._queue):
            free = [worker for worker in self._supervisor.workers if worker.takes(self.options.slots)]
            if not free:
                return
            worker = min(free, key=lambda candidate: (bool(candidate.cancelled_streams), len(candidate.jobs)))
            job = self._queue.pop()
            assert job is not None
            if not worker.awaits_reply:
                worker.replied()
            share_s = (job.audio_s + self._queue.audio_s) / len(free)  # so that the other workers have work too
            batch = [job, *self._queue.pop_with(job, min(share_s, self._known.together_s(job)))]
            worker.jobs |= {one.number: one for one in batch}
            worker.send(Together(tuple(step for one in batch for step in one.begin())))

    def _resolve(self, job: Job, decoded: Decoded) -> None:
        with self._lock:
            if job.answered:
                return
            job.answered = True
        job.audio = []  # free the memory
        if job.future.set_running_or_notify_cancel():
            job.future.set_result(decoded)

    # ---- called by the supervisor ----

    def on_free(self) -> None:
        """See `JobDispatcher`."""
        self._dispatch()

    def on_reply(self, worker: WorkerProcess, reply: Reply) -> None:
        """See `JobDispatcher`."""
        match reply:
            case Loaded(spec, "", batch_s, cost):
                with self._lock:
                    self._known.loaded(spec.key, batch_s, cost)
            case Opened(number, buffered, batch_s):
                with self._lock:
                    if (job := worker.jobs.get(number)) is not None:
                        job.outstanding -= 1
                        job.buffered = buffered
                        self._known.opened(job.spec.key, batch_s)
            case Progress(number, samples):
                with self._lock:
                    if (job := worker.jobs.get(number)) is not None:
                        job.outstanding -= 1
                        job.worked_on = samples
            case Partial(number, text, samples, stable, spare_cpu_s, requested):
                with self._lock:
                    worker.spare_cpu_s = spare_cpu_s
                    if (job := worker.jobs.get(number)) is not None:
                        job.partial_requested = job.partial_requested and not requested
                        job.had_words = job.had_words or bool(text)
                if job is not None:
                    job.on_partial(Hypothesis(text, samples, stable))
            case Final():
                self._on_final(worker, reply)
            case Cancelled(number):
                with self._lock:
                    worker.cancelled_streams.discard(number)
                    self._supervisor.after_job(worker)

    def _on_final(self, worker: WorkerProcess, reply: Final) -> None:
        with self._lock:
            job = worker.jobs.pop(reply.stream, None)
            worker.jobs_done += 1
            worker.spare_cpu_s = reply.spare_cpu_s
            if job is not None:
                self._known.decoded(job, reply.effort.cpu_s)
        try:
            with self._lock:
                self._supervisor.after_job(worker)
        finally:  # the worker no longer has the job, so it must be resolved here in any case
            if job is not None:  # None: it was cancelled or timed out
                transcript = _withdrawn_if_words(reply.transcript, job)
                self._resolve(job, job.decoded(transcript, reply.effort, reply.context))

    def on_hung(self, worker: WorkerProcess, limit_s: float) -> None:
        """Fail the segment that the worker was decoding; its other segments are requeued when it has ended.

        Of several that it was decoding together, none fails: each is decoded alone next.
        """
        inflight = worker.inflight
        with self._lock:
            job = worker.jobs.pop(inflight[0], None) if len(inflight) == 1 else None
        if job is not None:
            self._resolve(job, job.failed(NullCause.TIMEOUT, f"no answer from the recognizer for {limit_s:g} s"))

    def on_end(self, worker: WorkerProcess, inflight: tuple[int, ...], code: int | None) -> None:
        """Requeue a dead worker's jobs; the one it was decoding (`inflight`) at most `attempts` times.

        If it was decoding several together, any of them may be the reason: none is blamed, each is decoded alone next.
        """
        given_up = []
        with self._lock:
            for job in reversed(worker.jobs.values()):
                if job.number in inflight and worker.retiring != "stopped":
                    job.deaths += len(inflight) == 1
                    job.alone = True
                if job.deaths >= self.options.attempts:
                    given_up.append(job)
                else:
                    job.dispatched_at = None
                    self._queue.push_front(job)
            worker.jobs.clear()
            self._dispatch()
        for job in given_up:
            detail = f"{job.deaths} workers died on this segment (last exit code {code})"
            self._resolve(job, job.failed(NullCause.WORKER_CRASH, detail))

    def on_tick(self) -> None:
        """Fail the waiting segments if no worker can be started."""
        with self._lock:
            reason = self._supervisor.gave_up_reason
            waiting = self._queue.drain() if reason else []
        for job in waiting:
            self._resolve(job, job.failed(NullCause.WORKER_UNAVAILABLE, reason))

    # ---- facts ----

    @property
    def unavailable(self) -> str:
        """Why the pool accepts no new work; empty if it does.

        A pool whose workers have just died is still available, because they are replaced within seconds.
        """
        with self._lock:
            supervisor = self._supervisor
            if supervisor.ready or not (supervisor.failure or supervisor.unavailable_s > SHORT_OUTAGE_S):
                return ""
            reason = f"no recognizer worker has been ready for {supervisor.unavailable_s:.0f} s"
            return f"{reason}: {supervisor.failure}" if supervisor.failure else reason

    @property
    def ready(self) -> bool:
        """Whether a worker accepts jobs now."""
        with self._lock:
            return self._supervisor.ready > 0

    @property
    def idle(self) -> bool:
        """Whether no segment is in progress or waiting."""
        with self._lock:
            return self._idle()

    def status(self) -> PoolStatus:
        """Return the state of the pool now."""
        with self._lock:
            supervisor = self._supervisor
            slow_s = HUNG * self.options.segment_timeout_s
            return PoolStatus(
                ready_workers=supervisor.ready,
                workers=self.options.workers,
                queued=len(self._queue),
                active=sum(len(worker.jobs) for worker in supervisor.workers),
                queued_s=self._queue.audio_s,
                backlog_s=sum(job.undecoded_s for worker in supervisor.workers for job in worker.jobs.values()),
                cpu_s=sum(worker.cpu_s for worker in supervisor.workers),
                restarts=dict(supervisor.restarts),
                rss_mb=tuple(worker.rss_mb for worker in supervisor.workers),
                failure=supervisor.failure,
                spare_cpu_s=sum(worker.spare_cpu_s for worker in supervisor.workers),
                live_cost=self._known.live_cost,
                hung=sum(worker.awaits_reply and worker.quiet_s > slow_s for worker in supervisor.workers),
            )


def _withdrawn_if_words(transcript: Transcript, job: Job) -> Transcript:
    """Change the cause EMPTY to WITHDRAWN if a partial result of the segment had words."""
    if transcript.null_cause is NullCause.EMPTY and job.had_words:
        return replace(transcript, null_cause=NullCause.WITHDRAWN)
    return transcript
