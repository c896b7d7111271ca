"""Audio that is kept for a while, if the operator has asked for it: what a replay needs. Nothing is kept by default.

One FLAC file a session, named by its id, deleted when it is too old. Written as the session is fed; what cannot be
written is left out and counted, and disturbs nobody.
"""

import logging
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import soundfile

from speechpipe.foundation.state_files import create_file, make_folder
from speechpipe.types import SAMPLE_RATE_HZ, Samples

SWEEP_S, LEAST_SWEEP_S = 60.0, 1.0
NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")

log = logging.getLogger(__name__)


class AudioRetention:
    """A folder of sessions; thread-safe as the file system is."""

    def __init__(self, folder: Path, hours: float, share: float = 1.0, clock: Callable[[], float] = time.time) -> None:
        """Keep a `share` of the sessions for `hours`; 0 hours keep nothing."""
        self.folder = folder
        self.failed: Counter[str] = Counter()
        self._keep_s = hours * 3600.0
        self._share = share
        self._clock = clock
        self.sweep_every_s = min(max(self._keep_s / 10, LEAST_SWEEP_S), SWEEP_S)

    def open(self, session_id: str) -> "AudioRecorder | None":
        """Return what takes a session's audio; None if it is not kept."""
        if self._keep_s <= 0 or random.random() >= self._share or NAME.fullmatch(session_id) is None:
            return None
        try:
            make_folder(self.folder)
            path = self.folder / f"{session_id}.flac"
            create_file(path)
            return AudioRecorder(path, self.failed)
        except (OSError, soundfile.SoundFileError) as error:
            self._fails(error)
            return None

    def path(self, session_id: str) -> Path | None:
        """Return the file of a session; None if it is not there (any more), or cannot be reached now."""
        path = self.folder / f"{session_id}.flac"
        try:
            return path if NAME.fullmatch(session_id) and path.exists() else None
        except OSError as error:  # a folder on a network that is away
            self._fails(error)
            return None

    def drop(self, session_id: str) -> None:
        """Delete the file of a session, if it is there."""
        if NAME.fullmatch(session_id):
            try:
                (self.folder / f"{session_id}.flac").unlink(missing_ok=True)
            except OSError as error:
                self._fails(error)

    def quiet(self, seconds: float) -> list[str]:
        """Return the sessions whose files were not written to for so long."""
        now, found = self._clock(), []
        for path in self.folder.glob("*.flac"):
            try:
                if now - path.stat().st_mtime > seconds:
                    found.append(path.stem)
            except OSError as error:
                self._fails(error)
        return found

    def sweep(self) -> None:
        """Delete what is too old. Its owner calls it every `sweep_every_s`."""
        now = self._clock()
        for path in self.folder.glob("*.flac"):
            try:
                if now - path.stat().st_mtime > self._keep_s:
                    path.unlink()
            except OSError as error:
                self._fails(error)

    def _fails(self, error: Exception) -> None:
        if not self.failed:
            log.warning("audio cannot be kept: %s", error)
        self.failed[type(error).__name__] += 1


class AudioRecorder:
    """One session's audio on its way to its file."""

    def __init__(self, path: Path, failed: Counter[str]) -> None:
        self._failed = failed
        self._file: Any = soundfile.SoundFile(path, "w", SAMPLE_RATE_HZ, 1, "PCM_16")

    def feed(self, samples: Samples) -> None:
        """Take (n,) samples at 16 kHz."""
        if self._file is None:
            return
        try:
            self._file.write(samples)
        except (OSError, soundfile.SoundFileError) as error:
            self._failed[type(error).__name__] += 1
            self.close()

    def close(self) -> None:
        """End the file."""
        found, self._file = self._file, None
        if found is not None:
            found.close()
