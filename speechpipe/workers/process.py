"""One worker process seen from the server: start it, talk to it, end it."""

import contextlib
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

from speechpipe import machine
from speechpipe.workers.job import Job
from speechpipe.workers.marker import Marker, marker_file
from speechpipe.workers.messages import Reply, Request

POLL_S = 0.2
SINGLE_THREADED = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""One worker, one core: libraries that start a thread per core make N workers fight for them."""


class WorkerProcess:
    """A child process and the two threads that write to it and read from it."""

    def __init__(self, nice: int) -> None:
        ours, theirs = socket.socketpair()
        try:
            with marker_file() as file:
                descriptors = [theirs.fileno(), file.fileno()]
                self._marker = Marker(file.fileno())
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "speechpipe.workers.worker", *map(str, descriptors), str(nice)],
                    pass_fds=descriptors,
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **SINGLE_THREADED},
                )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._connection: Connection[Request, Reply] = Connection(ours.detach())
        self._outbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        # Below: guarded by the pool's lock.
        self.jobs: dict[int, Job] = {}
        self.loads_owed = 0
        self.ready = False
        self.retiring = ""  # why it takes no more jobs
        self.load_error = ""
        self.jobs_done = 0
        self.replaces: WorkerProcess | None = None  # who retires when this one is ready
        self.expired = ""  # why its successor is on its way
        self._replied_at = time.monotonic()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def owes(self) -> bool:
        """Whether a step that was sent is not answered yet."""
        return any(job.outstanding for job in self.jobs.values())

    def replied(self) -> None:
        """Note that it has answered, or that it owes nothing from now on."""
        self._replied_at = time.monotonic()

    @property
    def quiet_s(self) -> float:
        """Seconds since it answered."""
        return time.monotonic() - self._replied_at

    def takes(self, slots: int) -> bool:
        """Whether another segment may be given to it."""
        return self.ready and not self.retiring and len(self.jobs) < slots

    @property
    def in_hand(self) -> int:
        """The job that the child is working on, or was when it died; 0 for none."""
        return self._marker.get()

    @property
    def rss_mb(self) -> float:
        """The child's resident memory; 0 once it is gone."""
        return machine.rss_mb(self.pid)

    @property
    def cpu_s(self) -> float:
        """CPU time the child has used; 0 once it is gone."""
        return machine.cpu_s(self.pid)

    def start(
        self, on_reply: Callable[[Reply], None], on_quiet: Callable[[], None], on_end: Callable[[], None]
    ) -> None:
        """Begin to write and read. `on_quiet` is called a few times a second, `on_end` once, last of all."""
        writer = threading.Thread(target=self._write, name=f"worker-{self.pid}-write", daemon=True)
        reader = threading.Thread(
            target=self._read, args=(on_reply, on_quiet, on_end), name=f"worker-{self.pid}-read", daemon=True
        )
        self._threads = [writer, reader]
        writer.start()
        reader.start()

    def send(self, request: Request) -> None:
        """Queue a request; never blocks."""
        self._outbox.put(request)

    def _write(self) -> None:
        # A worker that has died shows at the reader; here its requests are only dropped.
        with contextlib.suppress(OSError):
            while (request := self._outbox.get()) is not None:
                self._connection.send(request)

    def _read(
        self, on_reply: Callable[[Reply], None], on_quiet: Callable[[], None], on_end: Callable[[], None]
    ) -> None:
        with contextlib.suppress(EOFError, OSError):
            looked = time.monotonic()
            readable = select.poll()  # kept: `Connection.poll` makes a new one for every message
            readable.register(self._connection, select.POLLIN)
            while True:
                if readable.poll(1000 * POLL_S):
                    on_reply(self._connection.recv())
                if (now := time.monotonic()) - looked >= POLL_S:
                    looked = now
                    on_quiet()
        on_end()

    def kill(self) -> None:
        """End the child now; the reader then sees the end of the stream."""
        self._process.kill()

    def stop(self, wait_s: float = 5.0) -> None:
        """Ask an idle child to leave (end of stream), kill it if it does not, and reap it."""
        self._outbox.put(None)
        self._threads[0].join(wait_s)
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as end:
            end.shutdown(socket.SHUT_WR)
        self.reap(wait_s)

    def reap(self, wait_s: float = 5.0) -> int:
        """Wait for the child, kill it if need be, close the socket; return its exit code."""
        self._outbox.put(None)
        try:
            code = self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        current = threading.current_thread()
        for thread in self._threads:
            if thread is not current:
                thread.join(wait_s)
        with contextlib.suppress(OSError):
            self._connection.close()
        self._marker.close()
        return code
