"""Background threads: each runs one body again and again, and no exception ends it.

Every thread that works for as long as its owner lives is a `BackgroundTask`. What its body raises is logged, kept in
the task's status and followed by a pause that grows with the failures in a row; then the body is called again.
`BackgroundTasks` is the register of one server's tasks: `/readyz`, the metrics and the health report read it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

BACK_OFF_S = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Pause after the n-th failure in a row; the last one for all that follow."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskStatus:
    """State of a background task at one moment.

    Attributes:
        name: the task's name.
        alive: its thread runs. False before `start` and after `close`, and if the thread ended by itself.
        ended: the thread was started, was not asked to end, and does not run, which is a defect.
        failing: the last call of the body raised.
        failures: calls that raised since the start.
        last_failure: the last exception as `Type: message`, one line; empty if there was none.
        last_failure_at: when, in Unix seconds; 0 if there was none.
    """

    name: str
    alive: bool
    ended: bool
    failing: bool
    failures: int
    last_failure: str
    last_failure_at: float


class BackgroundTask:
    """A daemon thread that calls `body` until it is closed. Thread-safe.

    The body is called on the task's own thread. After it returned, the thread waits for `every_s` seconds or for
    `wake`. With `every_s=0` the body is called again at once; it must wait for work itself, for about a second at
    most, or until `unblock` is called. If the body raises, it is called again after a pause from `back_off_s`.

    Args:
        name: of the thread, and in the status.
        body: one unit of work.
        every_s: seconds between the end of one call and the next; 0 = none.
        unblock: called once by `close`, on the closing thread, to end a body that waits.
        back_off_s: pauses after the 1st, 2nd, ... failure in a row; the last one repeats.
    """

    def __init__(
        self,
        name: str,
        body: Callable[[], None],
        *,
        every_s: float = 0.0,
        unblock: Callable[[], None] | None = None,
        back_off_s: tuple[float, ...] = BACK_OFF_S,
    ) -> None:
        self.name = name
        self.body = body
        self._every_s = every_s
        self._unblock = unblock
        self._back_off_s = back_off_s
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._failures = 0
        self._last_failure = ""
        self._last_failure_at = 0.0
        self._started = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        with self._lock:
            if self._started or self._closing.is_set():
                return
            # Under the lock, so that no status says that a thread has ended which is about to start.
            self._thread.start()
            self._started = True

    def wake(self) -> None:
        """Call the body at once instead of after `every_s`; has no effect on a pause after a failure."""
        self._wake.set()

    def close(self, wait_s: float = 10.0) -> bool:
        """Ask the thread to end and wait for it; return False if it is still busy after `wait_s` seconds."""
        self._closing.set()
        self._wake.set()
        if self._unblock is not None:
            self._unblock()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(wait_s)
        return not self._thread.is_alive()

    def pause(self, seconds: float) -> bool:
        """Wait for so many seconds, from inside the body; return True at once if the task is asked to end."""
        return self._closing.wait(seconds)

    @property
    def closing(self) -> bool:
        """Whether the task was asked to end. A body with a long loop must check it."""
        return self._closing.is_set()

    @property
    def status(self) -> TaskStatus:
        """The task's state now."""
        with self._lock:
            alive = self._thread.is_alive()
            return TaskStatus(
                name=self.name,
                alive=alive,
                ended=self._started and not alive and not self._closing.is_set(),
                failing=self._in_a_row > 0,
                failures=self._failures,
                last_failure=self._last_failure,
                last_failure_at=self._last_failure_at,
            )

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self.body()
            except Exception as error:  # noqa: BLE001 - the one catch-all of every background thread
                self._failed(error)
                self._closing.wait(self._back_off_s[min(self._in_a_row, len(self._back_off_s)) - 1])
            else:
                with self._lock:
                    recovered, self._in_a_row = self._in_a_row, 0
                if recovered:
                    log.info("background task %s works again after %d failures in a row", self.name, recovered)
                if self._every_s:
                    self._wake.wait(self._every_s)
                    self._wake.clear()

    def _failed(self, error: Exception) -> None:
        message = next(iter(str(error).splitlines()), "")
        with self._lock:
            known = self._in_a_row > 0 and self._last_failure == f"{type(error).__name__}: {message}"
            self._in_a_row += 1
            self._failures += 1
            self._last_failure = f"{type(error).__name__}: {message}"
            self._last_failure_at = time.time()
        if not known:  # log a failure that repeats only once
            log.error("background task %s failed and will be tried again", self.name, exc_info=error)


class BackgroundTasks:
    """The tasks of one server, in the order in which they were added. Thread-safe."""

    def __init__(self) -> None:
        self._sources: list[Callable[[], Iterable[BackgroundTask]]] = []
        self._lock = threading.Lock()

    def add(self, *tasks: BackgroundTask) -> None:
        """Register tasks that live as long as the server."""
        self.add_source(lambda: tasks)

    def add_source(self, source: Callable[[], Iterable[BackgroundTask]]) -> None:
        """Register an owner whose tasks change; `source` returns the current ones and is called on any thread."""
        with self._lock:
            self._sources.append(source)

    def __iter__(self) -> Iterator[BackgroundTask]:
        with self._lock:
            sources = list(self._sources)
        return iter([task for source in sources for task in source()])

    def statuses(self) -> list[TaskStatus]:
        """Return the state of every task."""
        return [task.status for task in self]
