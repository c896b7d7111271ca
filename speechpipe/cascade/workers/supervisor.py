"""Owns the worker processes of a pool: their number, their ends, their successors.

One background task compares what there should be with what there is, again and again. A start that fails for
whatever reason is counted, said, and tried again for ever, with pauses that grow; a process that does not become
ready, hangs, was stopped or has had enough is replaced.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from speechpipe.cascade.workers import PoolOptions, RecognizerSpec
from speechpipe.cascade.workers.messages import Load, Loaded, Reply
from speechpipe.cascade.workers.process import WorkerProcess
from speechpipe.errors import NotReady, WorkerLoadFailed
from speechpipe.foundation.background import BackgroundTask

HOPELESS_STARTS = 4
"""After so many processes in a row that died before they were ready, `wait_ready` raises instead of waiting on."""

RESTART_DELAY_S = (0.0, 0.5, 1.0, 2.0, 5.0)
"""Before the next start after so many that failed in a row."""

MOST_PATIENCE = 4
"""A start may take up to this many times `start_timeout_s` where those before it took too long: the machine is slow."""

LOOK_EVERY_S = 0.1
STOPPED_S = 3.0
"""A worker that was stopped by a signal and has not answered for so long is replaced."""

REAP_S = 1.0

log = logging.getLogger(__name__)


class Employer(Protocol):
    """Who gives the workers their jobs: the pool."""

    def on_reply(self, worker: WorkerProcess, reply: Reply) -> None:
        """Take what a worker says of a job; on its reader's thread, without the lock."""
        ...

    def on_free(self) -> None:
        """Note that a worker takes jobs; on any thread, with the lock held."""
        ...

    def on_hung(self, worker: WorkerProcess, limit_s: float) -> None:
        """Note that a worker has not answered for `limit_s` seconds; on the supervisor's thread, without the lock."""
        ...

    def on_end(self, worker: WorkerProcess, in_hand: int, code: int | None) -> None:
        """Bring a dead worker's jobs to safety; on the supervisor's thread, without the lock."""
        ...

    def on_look(self) -> None:
        """Look after the jobs that wait; on the supervisor's thread, without the lock."""
        ...


class Supervisor:
    """Thread-safe. `changed` is the condition on the pool's lock, which guards all state here too."""

    def __init__(
        self,
        name: str,
        options: PoolOptions,
        preload: Sequence[RecognizerSpec],
        changed: threading.Condition,
        employer: Employer,
    ) -> None:
        self.options = options
        self.workers: list[WorkerProcess] = []
        self._buried: list[WorkerProcess] = []  # gone, and their jobs are not handed back yet
        self.restarts: Counter[str] = Counter()
        self.failure = ""  # why the last start failed; empty once one has succeeded since
        self.closing = False
        self.task = BackgroundTask(name, self._look, every_s=LOOK_EVERY_S)
        self._preload = tuple(preload)
        self._changed = changed
        self._employer = employer
        self._failed_starts = 0  # in a row
        self._slow_starts = 0  # in a row
        self._hopeless = ""  # what `wait_ready` raises at once
        self._logged = ""  # the same reason again and again is one line
        self._start_after = 0.0
        self._was_ready = False
        self._unready_since = time.monotonic()
        self._looked_for_stopped_at = 0.0

    # ---- life ----

    def start(self) -> None:
        """Begin to start workers; they load and warm in parallel, or one after the other (`options.gentle`)."""
        self._unready_since = time.monotonic()
        self.task.start()

    def wait_ready(self) -> None:
        """Block until every worker has loaded what it must.

        Raises:
            WorkerLoadFailed: a recognizer cannot be loaded, the processes die, or none became ready within
                `start_timeout_s` after the one before.
            NotReady: the pool was closed meanwhile.
        """
        limit_s = self.options.start_timeout_s
        with self._changed:
            before = -1
            while before < self.ready < self.options.workers and not self._hopeless and not self.closing:
                before = self.ready
                self._changed.wait_for(lambda: self._hopeless or self.closing or self.ready > before, limit_s)  # noqa: B023 - called here
            if self.closing:
                raise NotReady("the recognizers are shutting down")
            if self.ready < self.options.workers:
                raise WorkerLoadFailed("asr", self._hopeless or self.failure or f"no worker ready in {limit_s:g} s")

    def close(self) -> None:
        """End all workers, within seconds. Their jobs must have been taken from them before."""
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
        """Workers that take jobs."""
        return sum(worker.ready and not worker.retiring for worker in self.workers)

    @property
    def never_ready(self) -> bool:
        """Whether no worker has been ready since the start, though starts have failed."""
        return not self._was_ready and bool(self.failure)

    @property
    def unavailable_s(self) -> float:
        """Seconds since the last worker that took jobs; 0 while there is one."""
        return 0.0 if self.ready else time.monotonic() - self._unready_since

    @property
    def given_up(self) -> str:
        """Why segments wait in vain: no worker could be started for `options.wait_s`; empty while they may hope.

        A start that is on its way and none that failed before it is given its whole time.
        """
        limit_s = self.options.wait_s if self.failure else max(self.options.wait_s, self.options.start_timeout_s)
        if self.unavailable_s <= limit_s:
            return ""
        return f"no recognizer worker for {self.unavailable_s:.0f} s: {self.failure or 'none became ready'}"

    # ---- told by workers ----

    def _take(self, worker: WorkerProcess, reply: Reply) -> None:
        worker.replied()
        if isinstance(reply, Loaded):
            self._on_loaded(worker, reply.error)
        else:
            self._employer.on_reply(worker, reply)

    def _on_loaded(self, worker: WorkerProcess, error: str) -> None:
        with self._changed:
            worker.loads_owed -= 1
            if error:
                worker.failure = self.failure = self._hopeless = error
                worker.kill()
            elif worker.loads_owed == 0 and not worker.failure and worker in self.workers:
                self._is_ready(worker)
            self._changed.notify_all()

    def _is_ready(self, worker: WorkerProcess) -> None:
        if self._failed_starts:
            log.info("%s: a worker has started after %d failed starts", self.task.name, self._failed_starts)
        worker.ready = self._was_ready = True
        self._failed_starts = self._slow_starts = 0
        self.failure = self._hopeless = self._logged = ""
        self._release_expired()
        self._employer.on_free()

    def after_job(self, worker: WorkerProcess) -> None:
        """Note that a worker has done a segment: has it had enough? Call with the lock held."""
        options = self.options
        if not worker.expired:
            if options.max_jobs and worker.jobs_done >= options.max_jobs:
                worker.expired = "recycled_jobs"
            elif options.max_rss_mb and worker.rss_mb > options.max_rss_mb:
                worker.expired = "recycled_rss"
            if worker.expired:  # it goes on until its successor is ready: nobody waits for a recycled worker
                self.task.wake()
        self._leave_if_idle(worker)
        self._employer.on_free()
        self._changed.notify_all()

    def _release_expired(self) -> None:
        """Let as many expired workers go as others have become ready."""
        expired = [worker for worker in self.workers if worker.expired and not worker.retiring]
        for worker in expired[: max(0, self.ready - self.options.workers)]:
            worker.retiring = worker.expired
            self._leave_if_idle(worker)

    @property
    def holding(self) -> list[WorkerProcess]:
        """Workers that may have jobs, those that are gone included; call with the lock held."""
        return [*self.workers, *self._buried]

    def _leave_if_idle(self, worker: WorkerProcess) -> None:
        if worker.retiring and not worker.jobs:
            worker.kill()

    def _on_connection_end(self, worker: WorkerProcess) -> None:
        worker.ended = True
        self.task.wake()

    # ---- the task ----

    def _look(self) -> None:
        self._bury()
        self._end_those_that_hang()
        self._start_missing()
        self._employer.on_look()

    def _bury(self) -> None:
        """Rescue the jobs of workers that are gone."""
        with self._changed:
            gone = [worker for worker in self.workers if worker.ended]
        for worker in gone:
            with self._changed:
                if self.closing:
                    return
                self.workers.remove(worker)
                self._buried.append(worker)
                self._note_readiness(worker)
            in_hand, code = worker.in_hand, None
            try:
                code = worker.reap(REAP_S)
                self._count_end(worker, code)
            finally:  # its jobs belong to nobody any more: whatever happens, they go elsewhere
                try:
                    self._employer.on_end(worker, in_hand, code)
                finally:
                    with self._changed:
                        self._buried.remove(worker)

    def _count_end(self, worker: WorkerProcess, code: int | None) -> None:
        with self._changed:
            self.restarts[worker.retiring or ("crash" if worker.ready else "start_failed")] += 1
            if not worker.ready:
                reason = worker.failure or f"worker processes die at start (exit code {code})"
                self._start_failed(reason, hopeless=self._failed_starts + 1 >= HOPELESS_STARTS)
            self._changed.notify_all()

    def _note_readiness(self, gone: WorkerProcess) -> None:
        if gone.ready and not self.ready:
            self._unready_since = time.monotonic()

    def _start_failed(self, reason: str, *, hopeless: bool = False) -> None:
        """Count a failed start; call with the lock held. `hopeless`: whoever waits for the first one is told now."""
        self._failed_starts += 1
        if hopeless:
            self._hopeless = self._hopeless or reason
        if reason != self._logged:
            self._logged = reason
            log.error("%s: a worker could not be started, it is tried again: %s", self.task.name, reason)
        self.failure = reason
        self._start_after = time.monotonic() + RESTART_DELAY_S[min(self._failed_starts, len(RESTART_DELAY_S) - 1)]
        self._changed.notify_all()

    def _end_those_that_hang(self) -> None:
        now, limit_s = time.monotonic(), self.options.segment_timeout_s
        hung, quiet = [], []
        with self._changed:
            for worker in self.workers:
                if worker.ended:
                    continue
                if not worker.ready:
                    self._end_if_slow(worker, now)
                elif worker.owes and worker.quiet_s > limit_s:
                    worker.retiring = "timeout"
                    hung.append(worker)
                if worker.quiet_s > STOPPED_S:
                    quiet.append(worker)
        for worker in hung:
            self._employer.on_hung(worker, limit_s)
            worker.kill()
        if now - self._looked_for_stopped_at >= STOPPED_S / 2:
            self._looked_for_stopped_at = now
            self._end_stopped(quiet)

    def _end_stopped(self, quiet: Sequence[WorkerProcess]) -> None:
        """Replace those that somebody has stopped: what they have in hand is not to blame."""
        for worker in quiet:
            if not worker.retiring and worker.stopped:
                log.warning("%s: worker %d was stopped by a signal, it is replaced", self.task.name, worker.pid)
                with self._changed:
                    worker.retiring = "stopped"
                worker.kill()

    def _end_if_slow(self, worker: WorkerProcess, now: float) -> None:
        limit_s = self.options.start_timeout_s * min(2**self._slow_starts, MOST_PATIENCE)
        if now - worker.started_at > limit_s and not worker.retiring:
            self._slow_starts += 1
            worker.retiring = "start_timeout"
            worker.failure = f"a worker was not ready in {limit_s:g} s"
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
            except Exception as error:  # noqa: BLE001 - a start that fails, why ever, is counted and tried again
                with self._changed:
                    self.restarts["start_failed"] += 1
                    self._start_failed(f"{type(error).__name__}: {error}")

    def _start_one(self) -> None:
        """Start a worker.

        Raises:
            OSError, RuntimeError: no process, descriptor, memory or thread is left for it.
        """
        worker = WorkerProcess(self.options.nice)
        worker.loads_owed = len(self._preload)
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
            if worker.loads_owed == 0 and not worker.failure:
                self._is_ready(worker)
            self._changed.notify_all()
