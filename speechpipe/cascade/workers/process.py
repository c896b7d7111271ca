"""One worker process seen from the server: start it, talk to it, end it."""

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

from speechpipe.cascade.workers.inflight import InFlight, marker_descriptor
from speechpipe.cascade.workers.job import Job
from speechpipe.cascade.workers.messages import Cancel, Reply, Request
from speechpipe.foundation import system

SINGLE_THREADED = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""One worker, one core: libraries that start a thread per core make N workers fight for them."""

KILLED_S = 5.0
"""A process that was killed is gone at once; on a machine that is very busy, after this time."""

log = logging.getLogger(__name__)


class WorkerProcess:
    """A child process and the two threads that write to it and read from it.

    The threads live as long as the process: whatever ends one of them ends the process, and `on_end` is called.
    """

    def __init__(self, nice: int) -> None:
        """Start the process; it is spoken to from `start` on.

        Raises:
            OSError: it cannot be started now: no process, descriptor or memory is left.
        """
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            with theirs:
                descriptor = marker_descriptor()
                try:
                    self._marker = InFlight(descriptor)
                    undo.callback(self._marker.close)
                    descriptors = [theirs.fileno(), descriptor]
                    self._process = subprocess.Popen(
                        [sys.executable, "-m", "speechpipe.cascade.workers.worker", *map(str, descriptors), str(nice)],
                        pass_fds=descriptors,
                        stdin=subprocess.DEVNULL,
                        process_group=0,  # Ctrl-C in a terminal is the server's: a worker that loads would die of it
                        env=system.child_environment(SINGLE_THREADED),
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
        self.unwanted: set[int] = set()  # streams that were cancelled, until the worker says that it has let go of them
        self.loads_owed = 0
        self.ready = False
        self.ended = False  # the process or its connection is gone
        self.retiring = ""  # why it takes no more jobs
        self.failure = ""  # why it never became ready, or why a thread of it ended
        self.jobs_done = 0
        self.expired = ""  # why its successor is on its way
        self._replied_at = self.started_at

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def owes(self) -> bool:
        """Whether a step that was sent, or a cancelled stream, is not answered yet."""
        return bool(self.unwanted) or any(job.outstanding for job in self.jobs.values())

    def replied(self) -> None:
        """Note that it has answered, or that it owes nothing from now on."""
        self._replied_at = time.monotonic()

    @property
    def quiet_s(self) -> float:
        """Seconds since it answered."""
        return time.monotonic() - self._replied_at

    def takes(self, slots: int) -> bool:
        """Whether another segment may be given to it."""
        return self.ready and not self.retiring and len(self.jobs) + len(self.unwanted) < slots

    @property
    def in_hand(self) -> int:
        """The job that the child is working on, or was when it died; 0 for none."""
        return self._marker.get()

    @property
    def rss_mb(self) -> float:
        """The child's resident memory; 0 once it is gone."""
        return system.rss_mb(self.pid)

    @property
    def cpu_s(self) -> float:
        """CPU time the child has used; 0 once it is gone."""
        return system.cpu_s(self.pid)

    @property
    def stopped(self) -> bool:
        """Whether the child was stopped by a signal."""
        return system.stopped(self.pid)

    def start(self, on_reply: Callable[[Reply], None], on_end: Callable[[], None]) -> None:
        """Begin to write and read. `on_reply` is called on the reader's thread, `on_end` once, last of all.

        Raises:
            RuntimeError: no thread can be started.
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
        """Have it let go of a stream; it owes an answer until it has. Call with the pool's lock held."""
        if not self.owes:
            self.replied()
        self.unwanted.add(number)
        self.send(Cancel(number))

    def _write(self) -> None:
        try:
            while (request := self._outbox.get()) is not None:
                self._connection.send(request)
        except OSError:
            return  # it has died, which the reader sees
        except Exception as error:  # noqa: BLE001 - whatever ends this thread ends the process
            self._broken(error)

    def _read(self, on_reply: Callable[[Reply], None], on_end: Callable[[], None]) -> None:
        try:
            readable = select.poll()  # kept: `Connection.poll` makes a new one for every message
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
        log.error("worker %d is ended: its connection broke", self.pid, exc_info=error)
        self.kill()

    def kill(self) -> None:
        """End the child now; the reader then sees the end of the stream."""
        self._process.kill()

    def leave(self) -> None:
        """Ask an idle child to go: it sees the end of the stream once it has answered everything."""
        self._outbox.put(None)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def reap(self, wait_s: float) -> int | None:
        """Wait for the child and kill it if it is still there; return its exit code.

        None: the system cannot end it yet (it waits for a device). Descriptors and threads are given back all the same.
        """
        self._outbox.put(None)
        code = self._wait(wait_s)
        if code is None:
            self._process.kill()
            code = self._wait(KILLED_S)
        with contextlib.suppress(OSError):  # wakes the reader, whatever the child does
            self._socket.shutdown(socket.SHUT_RDWR)
        for thread in (self._writer, self._reader):
            if thread is not None and thread is not threading.current_thread():
                thread.join(1.0)
        self._socket.detach()  # the descriptor is the connection's to close
        with contextlib.suppress(OSError):
            self._connection.close()
        self._marker.close()
        return code

    def _wait(self, wait_s: float) -> int | None:
        try:
            return self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            return None
