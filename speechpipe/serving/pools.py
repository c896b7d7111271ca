"""Recognizer workers by recognizer: those of the start, and those of a candidate, in processes of their own.

A candidate whose recognizer crashes takes its own workers with it, never the champion's. A candidate that differs in
its VAD only has the champion's recognizer, and its workers.
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
    """The pools for one set of recognizers: one for files, and one for live audio where the server takes any.

    Apart, because a whole segment occupies a worker for seconds, which live audio cannot wait.
    """

    def __init__(
        self, settings: Settings, specs: Sequence[RecognizerSpec], *, live: bool, gentle: bool = False, name: str = ""
    ) -> None:
        """Prepare the pools; `name` begins the names of their background tasks."""
        files, speech = (replace(options, gentle=gentle) for options in (file_pool(settings), live_pool(settings)))
        self.files = RecognizerPool(files, specs, name=f"{name}file-workers")
        self.live = RecognizerPool(speech, specs, name=f"{name}live-workers") if live else None
        self.keys = {spec.key for spec in specs}
        self.warm_up_cpu_s = 0.0  # is not what live audio costs

    @property
    def pools(self) -> list[RecognizerPool]:
        """Both, or the one."""
        return [pool for pool in (self.files, self.live) if pool is not None]

    @property
    def ready(self) -> bool:
        """Whether every pool has a worker that takes jobs."""
        return all(pool.ready for pool in self.pools)

    @property
    def idle(self) -> bool:
        """Whether nothing is in progress or waits."""
        return all(pool.idle for pool in self.pools)


class PoolManager:
    """Thread-safe."""

    def __init__(self, settings: Settings, specs: Sequence[RecognizerSpec], *, live: bool) -> None:
        """Prepare the workers of the start; nothing runs yet."""
        self._settings = settings
        self._with_live = live
        self.first = PoolPair(settings, specs, live=live)
        self._extra: dict[Key, PoolPair] = {}
        self._unneeded: dict[Key, float] = {}  # since when
        self._sessions: dict[str, Key] = {}  # session -> its recognizer, while it is not the start's
        self._lock = threading.Lock()
        self._warming = threading.Lock()
        self._closed = False
        self._numbers = itertools.count(1)
        self._leaving: list[tuple[PoolPair, float]] = []  # retired, and when they are ended whatever they still do
        self._retirer = BackgroundTask("retired-workers", self._end_retired, every_s=RETIRE_EVERY_S)

    @property
    def tasks(self) -> list[BackgroundTask]:
        """The background tasks of the moment."""
        with self._lock:
            crews = [self.first, *self._extra.values(), *(crew for crew, _ in self._leaving)]
        return [self._retirer, *(pool.task for crew in crews for pool in crew.pools)]

    def start(self) -> None:
        """Have the workers of the start started; they load in parallel."""
        self._retirer.start()
        for pool in self.first.pools:
            pool.start()

    def wait_ready(self) -> None:
        """Block until they are warm.

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
            crews = [self.first, *self._extra.values(), *(crew for crew, _ in self._leaving)]
            self._extra, self._leaving = {}, []
        with contextlib.ExitStack() as steps:  # each is done, whatever happens in another
            steps.callback(self._retirer.close)
            for pool in (pool for crew in reversed(crews) for pool in reversed(crew.pools)):
                steps.callback(_close, pool, until)

    # ---- candidates ----

    def warm(self, spec: RecognizerSpec) -> None:
        """Start workers for a recognizer, unless some have it, and wait until they are warm.

        Raises:
            WorkerLoadFailed: it cannot be loaded; nothing of it is left.
            NotReady: the service is shutting down.
        """
        with self._warming:  # one at a time: the second caller finds what the first has made
            if self.has(spec):
                return
            name = f"candidate{next(self._numbers)}-"
            crew = PoolPair(self._settings, [spec], live=self._with_live, gentle=True, name=name)
            try:
                for pool in crew.pools:  # one after the other: people are being served meanwhile
                    pool.start()
                    pool.wait_ready()
                if crew.live is not None:
                    crew.warm_up_cpu_s = crew.live.status().cpu_s
                with self._lock:
                    if self._closed:
                        raise NotReady("the service is shutting down")
                    self._extra[spec.key] = crew
            except BaseException:
                for pool in crew.pools:
                    pool.close()
                raise

    def has(self, spec: RecognizerSpec) -> bool:
        """Whether workers have this recognizer loaded, or had it when they began."""
        return spec.key in self.first.keys or spec.key in self._extra

    def ready(self, spec: RecognizerSpec) -> bool:
        """Whether a worker with this recognizer takes jobs now."""
        return self.has(spec) and self.crew(spec).ready

    def retire(self, needed: Collection[Key]) -> None:
        """End the workers of recognizers that nobody has needed and no session has used for `GRACE_S`; does not wait.

        The grace is for sessions that were given a bundle and have not asked for its workers yet.
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
        """End the retired workers that have nothing left to do, or whose time is over."""
        now = time.monotonic()
        with self._lock:
            leaving = list(self._leaving)
        for crew, until in leaving:
            if crew.idle or now >= until:
                for pool in crew.pools:
                    pool.close()
                with self._lock:
                    self._leaving = [entry for entry in self._leaving if entry[0] is not crew]

    # ---- sessions ----

    def pool(self, spec: RecognizerSpec, *, whole: bool, session_id: str = "") -> RecognizerPool:
        """Return the workers for a session; with an id they stay until `release`."""
        crew = self.crew(spec)
        if session_id and crew is not self.first:
            with self._lock:
                self._sessions[session_id] = spec.key
        return crew.files if whole or crew.live is None else crew.live

    def release(self, session_id: str) -> None:
        """Note that a session has ended."""
        if self._sessions:
            with self._lock:
                self._sessions.pop(session_id, None)

    def crew(self, spec: RecognizerSpec) -> PoolPair:
        """Return who works with a recognizer; one that nobody loaded beforehand is loaded when its first job comes."""
        return self._extra.get(spec.key, self.first)

    @property
    def _crews(self) -> list[PoolPair]:
        with self._lock:
            return [self.first, *self._extra.values()]

    @property
    def live_cpu_s(self) -> float:
        """CPU time of all workers for live audio."""
        return sum(crew.live.status().cpu_s - crew.warm_up_cpu_s for crew in self._crews if crew.live is not None)

    def statuses(self) -> Mapping[str, PoolStatus]:
        """Return name -> snapshot."""
        with self._lock:
            crews = {"": self.first} | {f"candidate{index or ''}_": c for index, c in enumerate(self._extra.values())}
        found = {f"{name}files": crew.files.status() for name, crew in crews.items()}
        return found | {f"{name}live": crew.live.status() for name, crew in crews.items() if crew.live is not None}


def _close(pool: RecognizerPool, until: float) -> None:
    pool.close(max(0.0, until - time.monotonic()))
