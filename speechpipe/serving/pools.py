"""Worker pools by recognizer: those of the preloaded bundles, and further ones for candidates.

A candidate has its own worker processes, so that its crashes do not affect the champion. A candidate that differs from
the champion in its VAD only shares the champion's workers.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from speechpipe.cascade.catalog.factories import file_pool, live_pool
from speechpipe.cascade.workers import PoolStatus, RecognizerSpec
from speechpipe.cascade.workers.pool import RecognizerPool
from speechpipe.config import Settings
from speechpipe.errors import NotReady
from speechpipe.foundation.background import BackgroundTask

GRACE_S = 10.0
RETIRE_EVERY_S = 0.5

Key = tuple[object, ...]


class PoolPair:
    """The pools for one set of recognizers: one for files, and one for live audio if the server supports it.

    They are separate because an offline segment occupies a worker for seconds, too long for live audio to wait.
    """

    def __init__(
        self, settings: Settings, specs: Sequence[RecognizerSpec], *, live: bool, gentle: bool = False, name: str = ""
    ) -> None:
        """Make the pools, not started; `name` is the prefix of their background tasks' names."""
        files, speech = (replace(options, gentle=gentle) for options in (file_pool(settings), live_pool(settings)))
        self.files = RecognizerPool(files, specs, name=f"{name}file-workers")
        self.live = RecognizerPool(speech, specs, name=f"{name}live-workers") if live else None
        self.keys = {spec.key for spec in specs}
        self.warm_up_cpu_s = 0.0  # not counted as CPU time of live audio

    @property
    def pools(self) -> list[RecognizerPool]:
        """The one or two pools."""
        return [pool for pool in (self.files, self.live) if pool is not None]

    @property
    def ready(self) -> bool:
        """Whether every pool has a worker that accepts jobs."""
        return all(pool.ready for pool in self.pools)

    @property
    def idle(self) -> bool:
        """Whether no segment is in progress or waiting."""
        return all(pool.idle for pool in self.pools)


class PoolManager:
    """All worker pools of a server. Thread-safe."""

    def __init__(self, settings: Settings, specs: Sequence[RecognizerSpec], *, live: bool) -> None:
        """Make the pools of the preloaded recognizers `specs`, not started; `live`: also for live audio."""
        self._settings = settings
        self._with_live = live
        self.first = PoolPair(settings, specs, live=live)
        self._extra: dict[Key, PoolPair] = {}
        self._unneeded: dict[Key, float] = {}  # monotonic time since which no session or route needs it
        self._sessions: dict[str, Key] = {}  # session -> its recognizer, if that is not a preloaded one
        self._lock = threading.Lock()
        self._warming = threading.Lock()
        self._closed = False
        self._numbers = itertools.count(1)
        self._leaving: list[
            tuple[PoolPair, float]
        ] = []  # retired pools, and the time at which they are closed even if busy
        self._retirer = BackgroundTask("retired-workers", self._end_retired, every_s=RETIRE_EVERY_S)

    @property
    def tasks(self) -> list[BackgroundTask]:
        """The current background tasks."""
        with self._lock:
            pairs = [self.first, *self._extra.values(), *(pair for pair, _ in self._leaving)]
        return [self._retirer, *(pool.task for pair in pairs for pool in pair.pools)]

    def start(self) -> None:
        """Start the workers of the preloaded recognizers; they load in parallel."""
        self._retirer.start()
        for pool in self.first.pools:
            pool.start()

    def wait_ready(self) -> None:
        """Block until the preloaded recognizers are loaded and warmed up.

        Raises:
            WorkerLoadFailed: a recognizer cannot be loaded.
        """
        for pool in self.first.pools:
            pool.wait_ready()

    def close(self, drain_s: float = 0.0) -> None:
        """Finish running work for up to `drain_s` seconds, then end all workers."""
        until = time.monotonic() + drain_s
        with self._lock:
            self._closed = True
            pairs = [self.first, *self._extra.values(), *(pair for pair, _ in self._leaving)]
            self._extra, self._leaving = {}, []
        with contextlib.ExitStack() as steps:  # each is called even if another raises
            steps.callback(self._retirer.close)
            for pool in (pool for pair in reversed(pairs) for pool in reversed(pair.pools)):
                steps.callback(_close, pool, until)

    # ---- candidates ----

    def warm(self, spec: RecognizerSpec) -> None:
        """Start workers for a recognizer, unless there are some, and wait until they are warmed up.

        Raises:
            WorkerLoadFailed: it cannot be loaded; its workers are ended.
            NotReady: the service is shutting down.
        """
        with self._warming:  # one at a time: a second caller then finds the pools of the first
            if self.has(spec):
                return
            name = f"candidate{next(self._numbers)}-"
            pair = PoolPair(self._settings, [spec], live=self._with_live, gentle=True, name=name)
            try:
                for pool in pair.pools:  # one after the other, to leave CPU for running sessions
                    pool.start()
                    pool.wait_ready()
                if pair.live is not None:
                    pair.warm_up_cpu_s = pair.live.status().cpu_s
                with self._lock:
                    if self._closed:
                        raise NotReady("the service is shutting down")
                    self._extra[spec.key] = pair
            except BaseException:
                for pool in pair.pools:
                    pool.close()
                raise

    def has(self, spec: RecognizerSpec) -> bool:
        """Whether there are pools that have this recognizer preloaded."""
        return spec.key in self.first.keys or spec.key in self._extra

    def ready(self, spec: RecognizerSpec) -> bool:
        """Whether workers with this recognizer accept jobs now."""
        return self.has(spec) and self.pair(spec).ready

    def retire(self, needed: Collection[Key]) -> None:
        """Retire the pools of recognizers that are not `needed` and were not used by a session for `GRACE_S` seconds.

        Does not wait. The grace time is for sessions that have chosen a bundle and have not asked for its pool yet.
        """
        now = time.monotonic()
        with self._lock:
            used = {*needed, *self._sessions.values()}
            for key in self._extra:
                if key in used:
                    self._unneeded.pop(key, None)
                else:
                    self._unneeded.setdefault(key, now)
            over = [key for key in self._extra if now - self._unneeded.get(key, now) >= GRACE_S]
            until = now + self._settings.segment_timeout_s
            self._leaving += [(self._extra.pop(key), until) for key in over]
            self._unneeded = {key: since for key, since in self._unneeded.items() if key in self._extra}

    def _end_retired(self) -> None:
        """Close the retired pools that are idle, or whose time is over."""
        now = time.monotonic()
        with self._lock:
            leaving = list(self._leaving)
        for pair, until in leaving:
            if pair.idle or now >= until:
                for pool in pair.pools:
                    pool.close()
                with self._lock:
                    self._leaving = [entry for entry in self._leaving if entry[0] is not pair]

    # ---- sessions ----

    def pool(self, spec: RecognizerSpec, *, offline: bool, session_id: str = "") -> RecognizerPool:
        """Return the pool for a session; with an id it is not retired until `release`."""
        pair = self.pair(spec)
        if session_id and pair is not self.first:
            with self._lock:
                self._sessions[session_id] = spec.key
        return pair.files if offline or pair.live is None else pair.live

    def release(self, session_id: str) -> None:
        """A session has ended: its pool may be retired."""
        if self._sessions:
            with self._lock:
                self._sessions.pop(session_id, None)

    def pair(self, spec: RecognizerSpec) -> PoolPair:
        """Return the pools for a recognizer; one without its own is loaded by the first pools at its first job."""
        return self._extra.get(spec.key, self.first)

    @property
    def _pairs(self) -> list[PoolPair]:
        with self._lock:
            return [self.first, *self._extra.values()]

    @property
    def live_cpu_s(self) -> float:
        """CPU seconds of all live workers, without their warm-up and without work on idle capacity."""
        live = [(pair.live.status(), pair.warm_up_cpu_s) for pair in self._pairs if pair.live is not None]
        return sum(status.cpu_s - status.spare_cpu_s - warm_up_cpu_s for status, warm_up_cpu_s in live)

    @property
    def live_cost(self) -> float:
        """CPU seconds per second of live audio that the warm-ups of the live workers measured; 0: unknown."""
        return max((pair.live.status().live_cost for pair in self._pairs if pair.live is not None), default=0.0)

    def statuses(self) -> Mapping[str, PoolStatus]:
        """Return the state of each pool by name, such as `files`, `live`, `candidate_files`."""
        with self._lock:
            pairs = {"": self.first} | {f"candidate{index or ''}_": c for index, c in enumerate(self._extra.values())}
        found = {f"{name}files": pair.files.status() for name, pair in pairs.items()}
        return found | {f"{name}live": pair.live.status() for name, pair in pairs.items() if pair.live is not None}


def _close(pool: RecognizerPool, until: float) -> None:
    pool.close(max(0.0, until - time.monotonic()))
