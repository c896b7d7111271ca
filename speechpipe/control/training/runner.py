"""Starting, following and stopping a training process. Its folder has all of its state."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechpipe.control.training.job_spec import LOG, STOPPED, Result, read_progress, read_result

STOP_S = 20.0
"""How long a process may take to reach the end of a step before it is killed."""

LAST = 2000
"""Characters of the log that are reported."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: with a result, stopped, or failed. `said` is the end of its log."""

    result: Result | None
    stopped: bool
    said: str


class Run:
    """A training process."""

    def __init__(self, folder: Path) -> None:
        """Start the process; it continues an earlier training in the same folder."""
        self.folder = folder
        self.started_at = time.monotonic()
        self._stopping = False
        with (folder / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "speechpipe.control.training.process", str(folder), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def seconds(self) -> float:
        """Seconds since this start."""
        return time.monotonic() - self.started_at

    @property
    def progress(self) -> Mapping[str, Any]:
        """The progress that the process has written."""
        return read_progress(self.folder)

    def poll(self) -> Ended | None:
        """Return how it ended; None while it is running."""
        code = self._process.poll()
        if code is None:
            return None
        stopped = self._stopping or code in (STOPPED, -signal.SIGTERM)
        return Ended(read_result(self.folder), stopped, self._log_end())

    def stop(self) -> None:
        """Ask the process to stop at its next step, and wait for it; the training can be continued later.

        A process that takes longer than `STOP_S` is killed; its last checkpoint remains.
        """
        self._stopping = True
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _log_end(self) -> str:
        try:
            return (self.folder / LOG).read_text(encoding="utf-8", errors="replace")[-LAST:].strip()
        except OSError:
            return ""


def clean(folder: Path) -> None:
    """Delete what an ended training no longer needs: audio copies and the candidate's files."""
    for name in ("audio", "candidate"):
        shutil.rmtree(folder / name, ignore_errors=True)
