"""The worker processes of a pool: started, replaced when old or large, restarted when they die."""

import threading
from collections import Counter
from collections.abc import Sequence

from speechpipe.errors import WorkerLoadFailed
from speechpipe.workers import PoolOptions, RecognizerSpec
from speechpipe.workers.messages import Load, Loaded, Reply
from speechpipe.workers.process import WorkerProcess

HOPELESS_STARTS = 4
"""After so many starts in a row that died, waiting jobs are told instead of left to wait."""

RESTART_DELAY_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Before the n-th start in a row that never became ready."""


class Staff:
    """Base of the pool: everything about workers that has nothing to do with jobs. One lock guards both."""

    def __init__(self, options: PoolOptions, preload: Sequence[RecognizerSpec]) -> None:
        self.options = options
        self._preload = tuple(preload)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._workers: list[WorkerProcess] = []
        self._restarts: Counter[str] = Counter()
        self._failed_starts = 0
        self._failure = ""
        self._closing = False
        self._starters: list[threading.Thread] = []

    # ---- what the pool adds ----

    def _dispatch(self) -> None:
        """Give waiting jobs to workers; call with the lock held."""
        raise AssertionError("the pool's")

    def _on_reply(self, worker: WorkerProcess, reply: Reply) -> None:
        """Take what a worker says of a job; runs on its reader thread."""
        raise AssertionError("the pool's")

    def _on_quiet(self, worker: WorkerProcess) -> None:
        """Look whether a worker hangs; runs a few times a second on its reader thread."""
        raise AssertionError("the pool's")

    def _rescue(self, worker: WorkerProcess, in_hand: int, code: int) -> None:
        """Bring a dead worker's jobs to safety."""
        raise AssertionError("the pool's")

    # ---- life ----

    def start(self) -> None:
        """Start the workers; they load and warm in parallel."""
        for number in range(1, self.options.workers + 1):
            self._start_worker()
            if self.options.gentle:
                self._wait_for(number)

    def _wait_for(self, workers: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._ready >= workers, self.options.start_timeout_s)

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
        return self._ready >= self.options.workers

    @property
    def _ready(self) -> int:
        return sum(worker.ready for worker in self._workers)

    def _start_worker(self, replaces: WorkerProcess | None = None) -> None:
        worker = WorkerProcess(self.options.nice)
        with self._lock:
            too_late = self._closing
            if not too_late:
                self._workers.append(worker)
            worker.replaces = replaces
            worker.loads_owed = len(self._preload)
            worker.ready = not self._preload
            for spec in self._preload:
                worker.send(Load(spec, self.options.warm_streams, not self.options.live, self.options.gentle))
            if not too_late:  # under the lock: a pool that closes ends only workers that have begun
                worker.start(
                    on_reply=lambda reply: self._take(worker, reply),
                    on_quiet=lambda: self._on_quiet(worker),
                    on_end=lambda: self._on_end(worker),
                )
        if too_late:  # the pool closed meanwhile: nobody else knows of this one
            worker.kill()
            worker.reap()

    def _take(self, worker: WorkerProcess, reply: Reply) -> None:
        worker.replied()
        if isinstance(reply, Loaded):
            self._on_loaded(worker, reply.error)
        else:
            self._on_reply(worker, reply)

    def _on_loaded(self, worker: WorkerProcess, error: str) -> None:
        with self._changed:
            worker.loads_owed -= 1
            if error:
                self._failure = worker.load_error = error
            elif worker.loads_owed == 0 and not worker.load_error:
                worker.ready, self._failed_starts, self._failure = True, 0, ""
                if (old := worker.replaces) is not None:
                    worker.replaces, old.retiring = None, old.expired
                    self._leave_if_idle(old)
                self._dispatch()
            self._changed.notify_all()

    def _after_job(self, worker: WorkerProcess) -> None:
        """A worker has become free: has it had enough? Call with the lock held."""
        options = self.options
        if not worker.expired:
            if options.max_jobs and worker.jobs_done >= options.max_jobs:
                worker.expired = "recycled_jobs"
            elif options.max_rss_mb and worker.rss_mb > options.max_rss_mb:
                worker.expired = "recycled_rss"
            if worker.expired:  # it goes on until its successor is ready: nobody waits for a recycled worker
                starter = threading.Thread(target=self._start_worker, args=(worker,), daemon=True)
                self._starters = [thread for thread in self._starters if thread.is_alive()] + [starter]
                starter.start()
        self._leave_if_idle(worker)
        self._dispatch()
        self._changed.notify_all()

    def _leave_if_idle(self, worker: WorkerProcess) -> None:
        if worker.retiring and not worker.jobs:
            worker.kill()

    def _on_end(self, worker: WorkerProcess) -> None:
        """The process is gone: rescue its jobs and start a successor. Runs on the worker's reader thread."""
        in_hand = worker.in_hand
        code = worker.reap()
        with self._changed:
            if self._closing or worker not in self._workers:
                return
            self._workers.remove(worker)
            self._restarts[worker.retiring or "crash"] += 1
            for heir in self._workers:
                heir.replaces = None if heir.replaces is worker else heir.replaces
            if not worker.ready:
                self._failed_starts += 1
            if self._failed_starts >= HOPELESS_STARTS and not any(other.ready for other in self._workers):
                self._failure = f"worker processes die at start (exit code {code})"
            delay = RESTART_DELAY_S[min(self._failed_starts, len(RESTART_DELAY_S) - 1)]
        self._rescue(worker, in_hand, code)
        with self._changed:
            self._changed.notify_all()
            self._dispatch()
            if worker.expired or self._changed.wait_for(lambda: self._closing, delay):
                return
        self._start_worker()
