"""The helper process of `tests.preloaded`: has imported the command line, and forks a process for each start.

`python -m tests.preload DESCRIPTOR`, started in the root of the checkout. DESCRIPTOR is a socket to the process of
pytest. Each byte on it brings another socket (`link`), for one process. On it the forked process reads what it is to
be, and the helper writes its process id and, once it has ended, its exit code. The helper has one thread. It ends when
the first socket is closed.
"""

import atexit
import contextlib
import gc
import io
import json
import os
import runpy
import select
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, ItemsView, Iterator, MutableMapping
from importlib import import_module
from pathlib import Path
from typing import Any

PROGRAM = "speechpipe"
LENGTH = struct.Struct("!q")
"""Before each message, and the form of process ids and exit codes."""

LIBRARIES = (
    *("httpx", "rich.console", "rich.progress", "rich.table", "av", "soundfile", "soxr", "psycopg", "webrtcvad"),
    *("speechpipe.interfaces.api.server", "speechpipe.serving.transcription.transcriber"),
    *("speechpipe.serving.live.sources", "speechpipe.interfaces.cli.batch", "speechpipe.interfaces.cli.progress"),
    *("speechpipe.cascade.catalog.download", "speechpipe.cascade.evaluation.manifest"),
    "speechpipe.interfaces.cli.watching",
)
"""What commands import when they run. Without onnxruntime, which starts a thread when it is imported."""


class _RecordingEnvironment(MutableMapping[str, str]):
    """Takes the place of `os.environ` during imports, and keeps the names of the variables that were read."""

    def __init__(self, real: MutableMapping[str, str]) -> None:
        self._real = real
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.read.add(name)
        return self._real[name]

    def __setitem__(self, name: str, value: str) -> None:
        self._real[name] = value

    def __delitem__(self, name: str) -> None:
        del self._real[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._real))

    def __len__(self) -> int:
        return len(self._real)

    def items(self) -> ItemsView[str, str]:
        """Copies of the whole environment (in `wsgiref`) are no reads."""
        return self._real.items()


class _ExitFunctions:
    """Keeps what libraries register with `atexit` during imports, until the program has registered its first function.

    The program registers one before it imports libraries, so that it is called after theirs: it ends the process.
    """

    def __init__(self) -> None:
        self._register = atexit.register
        self._kept: list[tuple[Callable[..., object], Any, Any]] = []

    def keep(self) -> None:
        def kept(function: Callable[..., object], *arguments: Any, **named: Any) -> Callable[..., object]:
            self._kept.append((function, arguments, named))
            return function

        atexit.register = kept  # type: ignore[assignment]

    def give_back(self) -> None:
        def first(function: Callable[..., object], *arguments: Any, **named: Any) -> Callable[..., object]:
            atexit.register = self._register
            self._register(function, *arguments, **named)
            for one, its_arguments, its_named in self._kept:
                self._register(one, *its_arguments, **its_named)
            return function

        atexit.register = first  # type: ignore[assignment]


def _preload() -> tuple[set[str], _ExitFunctions]:
    """Import the command line and what it needs; return the variables that this read, and the exit functions."""
    real = os.environ
    os.environ = recording = _RecordingEnvironment(real)  # type: ignore[assignment]
    exit_functions = _ExitFunctions()
    command_line = import_module(f"{PROGRAM}.interfaces.cli")
    exit_functions.keep()  # the module above is imported before the program registers its first one
    for family in command_line.FAMILIES:
        import_module(f"{command_line.__name__}.{family}")
    for name in LIBRARIES:
        import_module(name)
    os.environ = real  # noqa: B003 - the object that it was
    if sys.platform == "linux":
        threads = list(Path("/proc/self/task").iterdir())
        assert len(threads) == 1, "a library has started a thread, which forked processes would lack"
    gc.collect()
    gc.freeze()  # forked processes then share the pages of these objects
    return recording.read, exit_functions


class Helper:
    """Forks a process for each byte that comes, and reports the end of each."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._links: dict[int, socket.socket] = {}
        self._woken, wake = os.pipe()
        for descriptor in (self._woken, wake):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGINT):  # Ctrl-C at a terminal is for pytest, which ends this process
            signal.signal(number, lambda *_: None)

    def request(self) -> socket.socket:
        """Serve until pytest has ended. Returns in forked processes only, with the socket that says what to be."""
        events = select.poll()
        events.register(self._control, select.POLLIN)
        events.register(self._woken, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in events.poll()}
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if self._control.fileno() not in ready:
                continue
            message, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
            if not message:
                os._exit(0)
            link = socket.socket(fileno=descriptors[0])
            pid = os.fork()
            if pid == 0:
                return link
            self._links[pid] = link
            self._tell(link, pid)

    def _reap(self) -> None:
        for pid in list(self._links):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with self._links.pop(pid) as link:
                    self._tell(link, os.waitstatus_to_exitcode(status))

    def _tell(self, link: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):  # pytest has closed it: nothing waits for this process
            link.sendall(LENGTH.pack(number))


def become(link: socket.socket, exit_functions: _ExitFunctions) -> None:
    """Make this forked process what a fresh one would be, by the message on `link`."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    head, descriptors, _, _ = socket.recv_fds(link, LENGTH.size, 3)
    (length,) = LENGTH.unpack(head)
    with link.makefile("rb") as stream:
        wanted = json.loads(stream.read(length))
    if wanted["start_new_session"]:
        os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    link.detach()
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(wanted["env"])
    os.chdir(wanted["cwd"])
    sys.path[0] = str(Path.cwd())
    sys.argv = ["-m", *wanted["arguments"]]
    sys.orig_argv = [sys.executable, "-m", PROGRAM, *wanted["arguments"]]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        setattr(sys, f"__{name}__", _stream(number, name))
        setattr(sys, name, getattr(sys, f"__{name}__"))
    time.tzset()
    tempfile.tempdir = None
    import numpy as np

    np.random.seed()  # otherwise all forked processes would draw the same numbers
    exit_functions.give_back()


def _stream(number: int, name: str) -> io.TextIOWrapper:
    """Return a standard stream as Python makes it, with the encoding that it chose for the helper's."""
    before = getattr(sys, name)
    binary = open(number, "rb" if name == "stdin" else "wb", closefd=False)  # noqa: SIM115 - open until the process ends
    binary.raw.name = f"<{name}>"  # type: ignore[attr-defined]
    return io.TextIOWrapper(
        binary,
        encoding=before.encoding,
        errors=before.errors,
        newline=None if name == "stdin" else "\n",
        line_buffering=name == "stderr" or binary.isatty(),
    )


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    read, exit_functions = _preload()
    helper = Helper(control)
    names = json.dumps(sorted(read)).encode()
    control.sendall(LENGTH.pack(len(names)) + names)
    become(helper.request(), exit_functions)
    runpy.run_module(PROGRAM, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
