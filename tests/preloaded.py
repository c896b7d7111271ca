"""Processes of the command line that need not import it: a helper process has, and forks one for each start.

`start` and `run` stand in for `subprocess.Popen` and `subprocess.run` of `python -m speechpipe`, most of whose time is
the import of libraries. There is one helper (`tests.preload`) for each process of pytest, started when it is needed.

A forked process gets arguments, environment, working directory and standard streams of its own, and ends as a fresh one
does. Its environment must agree with the helper's in what Python or a library reads while it is imported. Where it does
not, or where `SPEECHPIPE_TEST_PRELOADED=0`, a real process is started. Tests of the start itself use `subprocess`.
"""

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.patience import PATIENCE_S
from tests.preload import LENGTH, PROGRAM

COMMAND = [sys.executable, "-m", PROGRAM]
ROOT = Path(__file__).parents[1]

_READ_AT_START = re.compile(r"(PYTHON|LD_|LC_|LANG|MALLOC_|GLIBC_|OMP_|OPENBLAS_)\w*")
"""Variables that Python and libraries in C read when they are loaded."""

_ALGEBRA = {"OPENBLAS_NUM_THREADS": "1"}
"""What the command line sets before it imports numpy."""


class Helper:
    """The helper of this process, and what it has read from its environment. Any thread may call its methods."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket
        self._environment: dict[str, str]
        self._read: list[str]

    def _begun(self) -> socket.socket:
        if self._process is None:
            self._control, theirs = socket.socketpair()
            self._environment = {**os.environ, **_ALGEBRA}
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.preload", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=self._environment,
                    cwd=ROOT,
                )
            self._read = json.loads(_exactly(self._control, number(self._control)))
        return self._control

    def agrees(self, environment: Mapping[str, str]) -> bool:
        """Whether a process with this environment would have read the same while it imported."""
        with self._lock:
            self._begun()
        wanted = {**_ALGEBRA, **environment}
        names = {name for name in {*self._environment, *wanted} if _READ_AT_START.fullmatch(name)}.union(self._read)
        return all(self._environment.get(name) == wanted.get(name) for name in names)

    def fork(self, request: Mapping[str, object], streams: Sequence[int]) -> socket.socket:
        """Ask for a process with these standard streams. Its id, and at its end its exit code, come on the socket."""
        link, theirs = socket.socketpair()
        with theirs, self._lock:
            socket.send_fds(self._begun(), [b"!"], [theirs.fileno()])
        body = json.dumps(request).encode()
        socket.send_fds(link, [LENGTH.pack(len(body))], streams)
        link.sendall(body)
        return link

    def end(self) -> None:
        """End the helper. Processes that it has forked go on."""
        with self._lock:
            if self._process is not None:
                self._control.close()
                self._process.wait(PATIENCE_S)
                self._process = None


def number(link: socket.socket) -> int:
    """Receive a number: a length, a process id or an exit code."""
    (found,) = LENGTH.unpack(_exactly(link, LENGTH.size))
    return int(found)


def _exactly(link: socket.socket, length: int) -> bytes:
    found = link.recv(length, socket.MSG_WAITALL)
    if len(found) < length:
        raise RuntimeError("the process that has imported the command line has ended")
    return found


HELPER = Helper()


class _Forked(subprocess.Popen[Any]):
    """A `Popen` whose process the helper starts and waits for. Overrides the three places of `Popen` that do that."""

    _link: socket.socket

    def _execute_child(self, *given: Any) -> None:
        (args, _, _, _, _, cwd, env, _, _, _, *pipes, _, _, _, _, _, start_new_session, _) = given
        their_input, our_input, our_output, their_output, our_error, their_error = pipes
        request = {
            "arguments": args,
            "cwd": os.fspath(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "start_new_session": start_new_session,
        }
        streams = [
            found if found != -1 else inherited
            for inherited, found in enumerate((their_input, their_output, their_error))
        ]
        try:
            self._link = HELPER.fork(request, streams)
            self.pid = number(self._link)
            self._child_created = True
        finally:
            self._close_pipe_fds(  # type: ignore[attr-defined]
                their_input, our_input, our_output, their_output, our_error, their_error
            )
            self._closed_child_pipe_fds = True

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        return self._ended(0)

    def _wait(self, timeout: float | None) -> int:
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def _ended(self, timeout: float | None) -> int | None:
        with self._waitpid_lock:  # type: ignore[attr-defined]
            if self.returncode is None and select.select([self._link], [], [], timeout)[0]:
                with self._link:
                    self.returncode = self._code()
        code: int | None = self.returncode
        return code

    def _code(self) -> int:
        try:
            return number(self._link)
        except RuntimeError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)  # nothing could tell how it ends
            self.returncode = -signal.SIGKILL
            raise


def start(*arguments: str, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[Any]:
    """Start `python -m speechpipe` with these arguments.

    `options` are those of `Popen` that concern standard streams and text, `cwd`, and `start_new_session`.
    """
    environment = dict(os.environ if env is None else env)
    if os.environ.get("SPEECHPIPE_TEST_PRELOADED") == "0" or not HELPER.agrees(environment):
        return subprocess.Popen([*COMMAND, *arguments], env=environment, **options)
    return _Forked(arguments, env=environment, **options)


def run(
    *arguments: str,
    input: bytes | str | None = None,  # noqa: A002 - as `subprocess.run` has it
    timeout: float = PATIENCE_S,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run `python -m speechpipe` with these arguments to its end; return its exit code and both of its outputs."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    if input is not None:
        streams["stdin"] = subprocess.PIPE
    with start(*arguments, **streams) as process:
        try:
            said, errors = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(list(arguments), process.returncode, said, errors)
