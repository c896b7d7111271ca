"""The supervisor owns the worker processes of a pool: it starts, watches and replaces them.

A background task reconciles the running workers with the wanted number. A failed start is counted, logged and tried
again without limit, with growing pauses. A worker is replaced if it does not become ready, hangs, is stopped by a
signal, or has reached its limit of jobs or memory.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from speechpipe.cascade.workers import PoolOptions, RecognizerSpec
from speechpipe.cascade.workers.messages import Load, Loaded, Reply
from speechpipe.cascade.workers.process import WorkerProcess, reap_late
from speechpipe.errors import NotReady, WorkerLoadFailed
from speechpipe.foundation.background import BackgroundTask

FATAL_STARTS = 4
"""After so many processes in a row that died before they were ready, `wait_ready` raises."""

RESTART_DELAY_S = (0.0, 0.5, 1.0, 2.0, 5.0)
"""Pause before the next start, by the number of failed starts in a row."""

MOST_START_FACTOR = 4
"""After starts that took too long, the next may take longer, up to this many times `start_timeout_s`."""

LOOK_EVERY_S = 0.1
STOPPED_S = 3.0
"""A worker that is stopped by a signal and has not answered for so long is replaced."""

REAP_S = 1.0

log = logging.getLogger(__name__)


class JobDispatcher(Protocol):
    """What the supervisor calls when its workers change; implemented by the pool."""

    def on_reply(self, worker: WorkerProcess, reply: Reply) -> None:
        """Handle a reply; called on the worker's reader thread, without the lock."""
        ...

    def on_free(self) -> None:
        """A worker accepts jobs; called on any thread, with the lock held."""
        ...

    def on_hung(self, worker: WorkerProcess, limit_s: float) -> None:
        """A worker has not answered for `limit_s` seconds; called on the supervisor's thread, without the lock."""
        ...

    def on_end(self, worker: WorkerProcess, inflight: tuple[int, ...], code: int | None) -> None:
        """Requeue the jobs of a worker that has ended while it decoded `inflight`; called as `on_hung`."""
        ...

    def on_tick(self) -> None:
        """Check the waiting jobs; called regularly on the supervisor's thread, without the lock."""
        ...


class Supervisor:
    """The worker processes of one pool. Thread-safe: `changed`, the condition on the pool's lock, guards all state."""

    def __init__(
        self,
        name: str,
        options: PoolOptions,
        preload: Sequence[RecognizerSpec],
        changed: threading.Condition,
        dispatcher: JobDispatcher,
    ) -> None:
        self.options = options
        self.workers: list[WorkerProcess] = []
        self._collecting: list[WorkerProcess] = []  # have ended, and their jobs are not requeued yet
        self.restarts: Counter[str] = Counter()  # ended workers by reason
        self.failure = ""  # why the last start failed; empty after a successful one
        self.closing = False
        self.task = BackgroundTask(name, self._tick, every_s=LOOK_EVERY_S)
        self._preload = tuple(preload)
        self._changed = changed
        self._dispatcher = dispatcher
        self._failed_starts = 0  # in a row
        self._slow_starts = 0  # in a row
        self._fatal = ""  # why `wait_ready` must raise at once
        self._logged = ""  # the last reason logged, so that a repeated one is logged once
        self._start_after = 0.0
        self._was_ready = False
        self._unready_since = time.monotonic()
        self._looked_for_stopped_at = 0.0

    # ---- life ----

    def start(self) -> None:
        """Start the background task. Workers load in parallel, or one after the other with `options.gentle`."""
        self._unready_since = time.monotonic()
        self.task.start()

    def wait_ready(self) -> None:
        """Block until every worker has loaded the preloaded recognizers.

        Raises:
            WorkerLoadFailed: a recognizer cannot be loaded, workers die at start, or the next worker did not become
                ready within `start_timeout_s`.
            NotReady: the pool was closed in the meantime.
        """
        limit_s = self.options.start_timeout_s
        with self._changed:
            before = -1
            while before < self.ready < self.options.workers and not self._fatal and not self.closing:
                before = self.ready
                self._changed.wait_for(lambda: self._fatal or self.closing or self.ready > before, limit_s)  # noqa: B023 - called here
            if self.closing:
                raise NotReady("the recognizers are shutting down")
            if self.ready < self.options.workers:
                raise WorkerLoadFailed("asr", self._fatal or self.failure or f"no worker ready in {limit_s:g} s")

    def close(self) -> None:
        """End all workers, within seconds. The pool must have removed their jobs before."""
        with self._changed:
            self.closing = True
            self._changed.notify_all()
        self.task.close()
        with self._changed:
            workers, self.workers = self.workers, []
        for worker in workers:
            worker.leave()
        until = time.monotonic() + REAP_S
        for worker in workers:
            worker.reap(max(0.0, until - time.monotonic()))

    # ---- facts; call with the lock held ----

    @property
    def ready(self) -> int:
        """Number of workers that accept jobs."""
        return sum(worker.ready and not worker.retiring for worker in self.workers)

    @property
    def never_ready(self) -> bool:
        """Whether a start has failed and no worker has ever been ready."""
        return not self._was_ready and bool(self.failure)

    @property
    def unavailable_s(self) -> float:
        """Seconds for which no worker has been ready; 0 while one is."""
        return 0.0 if self.ready else time.monotonic() - self._unready_since

    @property
    def gave_up_reason(self) -> str:
        """Why waiting segments must fail: no worker could be started for `options.wait_s`; empty otherwise.

        If no start has failed, `start_timeout_s` is waited for at least.
        """
        limit_s = self.options.wait_s if self.failure else max(self.options.wait_s, self.options.start_timeout_s)
        if self.unavailable_s <= limit_s:
            return ""
        return f"no recognizer worker for {self.unavailable_s:.0f} s: {self.failure or 'none became ready'}"

    # ---- called by workers ----

    def _take(self, worker: WorkerProcess, reply: Reply) -> None:
        worker.replied()
        self._dispatcher.on_reply(worker, reply)
        if isinstance(reply, Loaded):
            self._on_loaded(worker, reply.error)

    def _on_loaded(self, worker: WorkerProcess, error: str) -> None:
        with self._changed:
            worker.loads_pending -= 1
            if error:
                worker.failure = self.failure = self._fatal = error
                worker.kill()
            elif worker.loads_pending == 0 and not worker.failure and worker in self.workers:
                self._is_ready(worker)
            self._changed.notify_all()

    def _is_ready(self, worker: WorkerProcess) -> None:
        if self._failed_starts:
            log.info("%s: a worker has started after %d failed starts", self.task.name, self._failed_starts)
        worker.ready = self._was_ready = True
        self._failed_starts = self._slow_starts = 0
        self.failure = self._fatal = self._logged = ""
        self._release_expired()
        self._dispatcher.on_free()

    def after_job(self, worker: WorkerProcess) -> None:
        """A worker has finished a segment: check its limits. Call with the lock held."""
        options = self.options
        if not worker.expired:
            if options.max_jobs and worker.jobs_done >= options.max_jobs:
                worker.expired = "recycled_jobs"
            elif options.max_rss_mb and worker.rss_mb > options.max_rss_mb:
                worker.expired = "recycled_rss"
            if worker.expired:  # it keeps working until its successor is ready
                self.task.wake()
        self._leave_if_idle(worker)
        self._dispatcher.on_free()
        self._changed.notify_all()

    def _release_expired(self) -> None:
        """Retire as many expired workers as successors have become ready."""
        expired = [worker for worker in self.workers if worker.expired and not worker.retiring]
        for worker in expired[: max(0, self.ready - self.options.workers)]:
            worker.retiring = worker.expired
            self._leave_if_idle(worker)

    @property
    def holding(self) -> list[WorkerProcess]:
        """Workers that may have jobs, including ended ones; call with the lock held."""
        return [*self.workers, *self._collecting]

    def _leave_if_idle(self, worker: WorkerProcess) -> None:
        if worker.retiring and not worker.jobs:
            worker.kill()

    def _on_connection_end(self, worker: WorkerProcess) -> None:
        worker.ended = True
        self.task.wake()

    # ---- the task ----

    def _tick(self) -> None:
        reap_late()
        self._collect_ended()
        self._end_hung()
        self._start_missing()
        self._dispatcher.on_tick()

    def _collect_ended(self) -> None:
        """Reap workers that have ended, and have their jobs requeued."""
        with self._changed:
            gone = [worker for worker in self.workers if worker.ended]
        for worker in gone:
            with self._changed:
                if self.closing:
                    return
                self.workers.remove(worker)
                self._collecting.append(worker)
                self._note_readiness(worker)
            inflight, code = worker.inflight, None
            try:
                code = worker.reap(REAP_S)
                self._count_end(worker, code)
            finally:  # its jobs must be requeued in any case
                try:
                    self._dispatcher.on_end(worker, inflight, code)
                finally:
                    with self._changed:
                        self._collecting.remove(worker)

    def _count_end(self, worker: WorkerProcess, code: int | None) -> None:
        with self._changed:
            self.restarts[worker.retiring or ("crash" if worker.ready else "start_failed")] += 1
            if not worker.ready:
                reason = worker.failure or f"worker processes die at start (exit code {code})"
                self._start_failed(reason, fatal=self._failed_starts + 1 >= FATAL_STARTS)
            self._changed.notify_all()

    def _note_readiness(self, gone: WorkerProcess) -> None:
        if gone.ready and not self.ready:
            self._unready_since = time.monotonic()

    def _start_failed(self, reason: str, *, fatal: bool = False) -> None:
        """Count a failed start; call with the lock held. With `fatal`, `wait_ready` raises at once."""
        self._failed_starts += 1
        if fatal:
            self._fatal = self._fatal or reason
        if reason != self._logged:
            self._logged = reason
            log.error("%s: a worker could not be started and will be tried again: %s", self.task.name, reason)
        self.failure = reason
        self._start_after = time.monotonic() + RESTART_DELAY_S[min(self._failed_starts, len(RESTART_DELAY_S) - 1)]
        self._changed.notify_all()

    def _end_hung(self) -> None:
        now, limit_s = time.monotonic(), self.options.segment_timeout_s
        hung, quiet = [], []
        with self._changed:
            for worker in self.workers:
                if worker.ended:
                    continue
                if not worker.ready:
                    self._end_if_slow(worker, now)
                elif worker.awaits_reply and worker.quiet_s > limit_s * max(1, len(worker.inflight)):
                    worker.retiring = "timeout"
                    hung.append(worker)
                if worker.quiet_s > STOPPED_S:
                    quiet.append(worker)
        for worker in hung:
            self._dispatcher.on_hung(worker, limit_s)
            worker.kill()
        if now - self._looked_for_stopped_at >= STOPPED_S / 2:
            self._looked_for_stopped_at = now
            self._end_stopped(quiet)

    def _end_stopped(self, quiet: Sequence[WorkerProcess]) -> None:
        """Replace workers stopped by a signal; their segments in progress are not counted as failed attempts."""
        for worker in quiet:
            if not worker.retiring and worker.stopped:
                log.warning("%s: worker %d is stopped by a signal and is replaced", self.task.name, worker.pid)
                with self._changed:
                    worker.retiring = "stopped"
                worker.kill()

    def _end_if_slow(self, worker: WorkerProcess, now: float) -> None:
        limit_s = self.options.start_timeout_s * min(2**self._slow_starts, MOST_START_FACTOR)
        if now - worker.started_at > limit_s and not worker.retiring:
            self._slow_starts += 1
            worker.retiring = "start_timeout"
            worker.failure = f"a worker was not ready within {limit_s:g} s"
            worker.kill()

    def _start_missing(self) -> None:
        while True:
            with self._changed:
                fresh = [worker for worker in self.workers if not worker.expired and not worker.retiring]
                loading = any(not worker.ready for worker in fresh)
                if (
                    self.closing
                    or len(fresh) >= self.options.workers
                    or (self.options.gentle and loading)
                    or time.monotonic() < self._start_after
                ):
                    return
            try:
                self._start_one()
            except Exception as error:  # noqa: BLE001 - every failed start is counted and tried again
                with self._changed:
                    self.restarts["start_failed"] += 1
                    self._start_failed(f"{type(error).__name__}: {error}")

    def _start_one(self) -> None:
        """Start a worker.

        Raises:
            OSError, RuntimeError: no process, descriptor, memory or thread is available.
        """
        worker = WorkerProcess(self.options.nice, self.options.threads)
        worker.loads_pending = len(self._preload)
        for spec in self._preload:
            worker.send(Load(spec, self.options.warm_streams, not self.options.live, self.options.gentle))
        try:
            worker.start(lambda reply: self._take(worker, reply), lambda: self._on_connection_end(worker))
        except BaseException:
            worker.kill()
            worker.reap(REAP_S)
            raise
        with self._changed:
            self.workers.append(worker)
            if worker.loads_pending == 0 and not worker.failure:
                self._is_ready(worker)
            self._changed.notify_all()
