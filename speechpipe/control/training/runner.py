"""Running a training process: started, followed, stopped. What it leaves in its folder is its memory."""

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
"""For a process to reach the end of a step."""

LAST = 2000


@dataclass(frozen=True)
class Ended:
    """How a process ended: with a result, stopped, or broken (what it said last)."""

    result: Result | None
    stopped: bool
    said: str


class Run:
    """One training process."""

    def __init__(self, folder: Path) -> None:
        """Start it; in a folder where one was before it goes on."""
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
        """The process."""
        return self._process.pid

    @property
    def seconds(self) -> float:
        """How long it has run, this time."""
        return time.monotonic() - self.started_at

    @property
    def progress(self) -> Mapping[str, Any]:
        """Where it stands."""
        return read_progress(self.folder)

    def poll(self) -> Ended | None:
        """Return how it ended; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        stopped = self._stopping or code in (STOPPED, -signal.SIGTERM)
        return Ended(read_result(self.folder), stopped, self._said())

    def stop(self) -> None:
        """Have it stop at the next step, and wait for that; it can go on later.

        One whose step is longer than `STOP_S` is killed: it goes on from its last checkpoint all the same.
        """
        self._stopping = True
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _said(self) -> str:
        try:
            return (self.folder / LOG).read_text(encoding="utf-8", errors="replace")[-LAST:].strip()
        except OSError:
            return ""


def clean(folder: Path) -> None:
    """Delete what a training that is over does not need: copies of audio, checkpoints, the candidate's files."""
    for name in ("audio", "candidate"):
        shutil.rmtree(folder / name, ignore_errors=True)
