"""Retention of session audio for replays and reviews. By default nothing is kept.

One FLAC file per session, named by its id, written while the session is fed and deleted when it is too old. Failed
writes are counted and do not affect the session.
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
    """A folder with the audio of sessions. Thread-safe."""

    def __init__(self, folder: Path, hours: float, share: float = 1.0, clock: Callable[[], float] = time.time) -> None:
        """Keep the audio of a `share` (0..1) of the sessions for `hours`; with 0 hours none.

        Args:
            folder: created at first use.
            hours: see above.
            share: see above.
            clock: returns Unix seconds.
        """
        self.folder = folder
        self.failed: Counter[str] = Counter()
        self._keep_s = hours * 3600.0
        self._share = share
        self._clock = clock
        self.sweep_every_s = min(max(self._keep_s / 10, LEAST_SWEEP_S), SWEEP_S)

    def open(self, session_id: str) -> "AudioRecorder | None":
        """Return a recorder for a session's audio; None if it is not kept, or cannot be."""
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
        """Return the file of a session; None if it does not exist or cannot be reached."""
        path = self.folder / f"{session_id}.flac"
        try:
            return path if NAME.fullmatch(session_id) and path.exists() else None
        except OSError as error:  # for example a network folder that is unreachable
            self._fails(error)
            return None

    def drop(self, session_id: str) -> None:
        """Delete the file of a session, if it exists."""
        if NAME.fullmatch(session_id):
            try:
                (self.folder / f"{session_id}.flac").unlink(missing_ok=True)
            except OSError as error:
                self._fails(error)

    def quiet(self, seconds: float) -> list[str]:
        """Return the ids of sessions whose files have not been written to for `seconds`."""
        now, found = self._clock(), []
        for path in self.folder.glob("*.flac"):
            try:
                if now - path.stat().st_mtime > seconds:
                    found.append(path.stem)
            except OSError as error:
                self._fails(error)
        return found

    def sweep(self) -> None:
        """Delete files that are too old. The owner calls it every `sweep_every_s` seconds."""
        now = self._clock()
        for path in self.folder.glob("*.flac"):
            try:
                if now - path.stat().st_mtime > self._keep_s:
                    path.unlink()
            except OSError as error:
                self._fails(error)

    def _fails(self, error: Exception) -> None:
        if not self.failed:
            log.warning("session audio cannot be stored: %s", error)
        self.failed[type(error).__name__] += 1


class AudioRecorder:
    """Writes one session's audio to its file; a `Tap` of the session."""

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
        """Close the file; may be called twice."""
        found, self._file = self._file, None
        if found is not None:
            found.close()
