"""A worker process as the server sees it: starting it, exchanging messages, ending it."""

import contextlib
import logging
import os
import queue
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from speechpipe.cascade.workers.inflight import InFlight, inflight_descriptor
from speechpipe.cascade.workers.job import Job
from speechpipe.cascade.workers.messages import Cancel, Reply, Request
from speechpipe.foundation import system

THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that numerical libraries read. With a thread per core in each worker, the workers would compete for the
cores: threads that wait for each other cost up to half of the CPU time."""

KILLED_S = 5.0
"""A process that was killed is gone at once; on a machine that is very busy, after this time."""

log = logging.getLogger(__name__)

_unreaped: list["subprocess.Popen[bytes]"] = []
"""Killed processes that the system had not ended when `WorkerProcess.reap` gave up; any thread may add or remove."""


def reap_late() -> int:
    """Reap the killed processes that have ended since `WorkerProcess.reap` gave up; return how many are left."""
    for process in list(_unreaped):
        if process.poll() is not None:
            with contextlib.suppress(ValueError):  # another thread was faster
                _unreaped.remove(process)
    return len(_unreaped)


class WorkerProcess:
    """A child process, and the two threads that write to it and read from it.

    The threads live as long as the process. If one of them ends, the process is ended and `on_end` is called.
    """

    def __init__(self, nice: int, threads: int = 1) -> None:
        """Start the process; `start` begins the exchange of messages.

        Args:
            nice: see `system.give_way`.
            threads: of numerical libraries.

        Raises:
            OSError: no process, descriptor or memory is available.
        """
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            with theirs:
                descriptor = inflight_descriptor()
                try:
                    self._inflight = InFlight(descriptor)
                    undo.callback(self._inflight.close)
                    descriptors = [theirs.fileno(), descriptor]
                    self._process = subprocess.Popen(
                        [sys.executable, "-m", "speechpipe.cascade.workers.worker", *map(str, descriptors), str(nice)],
                        pass_fds=descriptors,
                        stdin=subprocess.DEVNULL,
                        process_group=0,  # Ctrl-C in a terminal must not reach a worker that is still loading
                        env=system.child_environment({**dict.fromkeys(THREAD_COUNTS, str(threads)), **system.ONE_HEAP}),
                    )
                finally:
                    os.close(descriptor)
            self._socket = ours
            self._connection: Connection[Request, Reply] = Connection(ours.fileno())
            undo.pop_all()
        self._outbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._reader: threading.Thread | None = None
        self.started_at = time.monotonic()
        # Below: guarded by the pool's lock.
        self.jobs: dict[int, Job] = {}
        self.cancelled_streams: set[int] = set()  # until the worker confirms the cancellation
        self.spare_cpu_s = 0.0  # as in Final
        self.loads_pending = 0
        self.ready = False
        self.ended = False  # the process or its connection is gone
        self.retiring = ""  # why it accepts no more jobs
        self.failure = ""  # why it never became ready, or why one of its threads ended
        self.jobs_done = 0
        self.expired = ""  # why it will be replaced once its successor is ready
        self._replied_at = self.started_at

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def awaits_reply(self) -> bool:
        """Whether a step or a cancellation was sent and is not answered yet."""
        return bool(self.cancelled_streams) or any(job.outstanding for job in self.jobs.values())

    def replied(self) -> None:
        """Restart the measurement of `quiet_s`: it has answered, or a first request is about to be sent."""
        self._replied_at = time.monotonic()

    @property
    def quiet_s(self) -> float:
        """Seconds since its last reply, see `replied`."""
        return time.monotonic() - self._replied_at

    def takes(self, slots: int) -> bool:
        """Whether it accepts another segment."""
        return self.ready and not self.retiring and len(self.jobs) + len(self.cancelled_streams) < slots

    @property
    def inflight(self) -> tuple[int, ...]:
        """The numbers of the jobs that the child is decoding, or was decoding when it died."""
        return self._inflight.get()

    @property
    def rss_mb(self) -> float:
        """The child's resident memory in MiB; 0 once it has ended."""
        return system.rss_mb(self.pid)

    @property
    def peak_rss_mb(self) -> float:
        """The most resident memory that the child has had, in MiB; 0 once it has ended."""
        return system.peak_rss_mb(self.pid)

    @property
    def cpu_s(self) -> float:
        """CPU seconds that the child has used; 0 once it has ended."""
        return system.cpu_s(self.pid)

    @property
    def stopped(self) -> bool:
        """Whether the child is stopped by a signal."""
        return system.stopped(self.pid)

    def start(self, on_reply: Callable[[Reply], None], on_end: Callable[[], None]) -> None:
        """Start the threads. `on_reply` is called on the reader thread for each reply, `on_end` there once, at the end.

        Raises:
            RuntimeError: a thread cannot be started.
        """
        name = f"worker-{self.pid}"
        writer = threading.Thread(target=self._write, name=f"{name}-write", daemon=True)
        reader = threading.Thread(target=self._read, args=(on_reply, on_end), name=f"{name}-read", daemon=True)
        writer.start()
        self._writer = writer
        reader.start()
        self._reader = reader

    def send(self, request: Request) -> None:
        """Queue a request; never blocks."""
        self._outbox.put(request)

    def cancel(self, number: int) -> None:
        """Tell the child to drop a stream, which it must confirm. Call with the pool's lock held."""
        if not self.awaits_reply:
            self.replied()
        self.cancelled_streams.add(number)
        self.send(Cancel(number))

    def _write(self) -> None:
        try:
            while (request := self._outbox.get()) is not None:
                self._connection.send(request)
        except OSError:
            return  # the child has ended; the reader notices
        except Exception as error:  # noqa: BLE001 - whatever ends this thread ends the process
            self._broken(error)

    def _read(self, on_reply: Callable[[Reply], None], on_end: Callable[[], None]) -> None:
        try:
            readable = select.poll()  # reused: `Connection.poll` makes a new one for every message
            readable.register(self._connection, select.POLLIN)
            while True:
                if readable.poll():
                    on_reply(self._connection.recv())
        except (EOFError, OSError):
            pass  # the process is gone
        except Exception as error:  # noqa: BLE001 - whatever ends this thread ends the process
            self._broken(error)
        on_end()

    def _broken(self, error: Exception) -> None:
        self.failure = self.failure or f"{type(error).__name__}: {error}"
        log.error("worker %d is killed: its connection failed", self.pid, exc_info=error)
        self.kill()

    def kill(self) -> None:
        """Kill the child; the reader thread then notices the end of the connection."""
        self._process.kill()

    def leave(self) -> None:
        """Close the sending side; the child ends when it has answered all requests."""
        self._outbox.put(None)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def reap(self, wait_s: float) -> int | None:
        """Wait up to `wait_s` seconds for the child to end, kill it if it has not, and return its exit code.

        Returns None if the system cannot end it yet (it waits for a device, or the machine is very busy); `reap_late`
        then removes it from the process table. Descriptors are closed in any case.
        """
        self._outbox.put(None)
        code = self._wait(wait_s)
        if code is None:
            self._process.kill()
            code = self._wait(KILLED_S)
            if code is None:
                _unreaped.append(self._process)
        with contextlib.suppress(OSError):  # ends the reader thread
            self._socket.shutdown(socket.SHUT_RDWR)
        for thread in (self._writer, self._reader):
            if thread is not None and thread is not threading.current_thread():
                thread.join(1.0)
        self._socket.detach()  # the connection closes the descriptor
        with contextlib.suppress(OSError):
            self._connection.close()
        self._inflight.close()
        return code

    def _wait(self, wait_s: float) -> int | None:
        try:
            return self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            return None
