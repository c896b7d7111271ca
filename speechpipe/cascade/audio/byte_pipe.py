"""`BytePipe`: passes the bytes of a live container from the receiving thread to the decoding thread."""

import re
import threading
from collections import deque
from collections.abc import Callable

from speechpipe.cascade.audio.frame_ends import FRAME_ENDS, FrameEnds
from speechpipe.cascade.audio.silent_parts import SilentParts
from speechpipe.types import Notice

UNHEARD_BYTES = 8 * 2**20
"""After so many bytes without any audio the stream is given up. Cover pictures and short video are smaller."""

LEAST_BYTES = 64

STARTS = re.compile(
    rb"(?P<matroska>\x1a\x45\xdf\xa3)|(?P<ogg>OggS\x00\x02)|(?P<flac>fLaC[\x00\x80]\x00\x00\x22)"
    rb"|(?P<mp3>ID3[\x02-\x04][\x00-\x0f][\x00-\xff][\x00-\x7f]{4})"
    rb"|(?P<mp4>\x00\x00[\x00\x01][\x08-\xff]ftyp)|(?P<wav>RIFF.{4}WAVE)",
    re.DOTALL,
)
START_BYTES = 12
GO_ON_ITSELF = {"mp3": ("mp3",), "ogg": ("ogg", "flac"), "matroska": ("matroska", "flac"), "wav": ()}
"""By container: beginnings inside it at which it is not cut, because FFmpeg reads on or they are embedded (FLAC)."""

BEGINNINGS = (b"\x1a\x45\xdf\xa3", b"OggS\x00\x02", b"fLaC", b"ID3", b"RIFF")
LEAST_BEGINNING = 2
"""Least bytes at the end that are held back as a possible beginning of a recording; one byte can be chance."""


class BytePipe:
    """A pipe between two threads that is split where another recording begins. Thread-safe.

    The decoding thread calls `read`, which waits for bytes and returns none at the end of a recording, and `following`
    to continue with the next one. After `drain` the last bytes are not held back, and `drained` becomes True when the
    decoder has asked for more bytes than there are.
    """

    def __init__(self, name: str, on_drained: Callable[[], None] = lambda: None) -> None:
        """Begin with a recording in container `name`; `on_drained` is called on the decoding thread."""
        self._on_drained = on_drained
        self._draining = False
        self.drained = False  # nothing is left of what came before `drain`, and the decoder waits for more
        self._changed = threading.Condition()
        self._recordings: deque[tuple[str, bytearray]] = deque([(name, bytearray())])  # the first one is being read
        self._frames = _frames(name)  # of the last one
        self._fresh = bytearray()  # the latest bytes, which can contain a part of a beginning
        self._at_start = True  # `_fresh` begins with a recording's first byte
        self._ended = False
        self._discarding = False
        self.taken = 0  # bytes that the decoder has read
        self.unheard = 0  # bytes read since the last audio
        self._silent = 0  # of these, bytes in parts without audio
        self._parts = SilentParts(name)  # of the recording that is being read
        self.notices: list[Notice] = []  # what is missing in the recordings that have ended

    def __len__(self) -> int:
        return sum(len(waiting) for _, waiting in list(self._recordings)) + len(self._fresh)

    @property
    def kept(self) -> int:
        """Bytes of an incomplete frame, which are held back from the decoder."""
        return self._frames.kept_bytes if self._frames is not None else 0

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        with self._changed:
            if not self._discarding:
                self._draining = self.drained = False
                self._fresh += data
                self._cut(keep=START_BYTES - 1)
                self._changed.notify()

    def drain(self) -> None:
        """Give the decoder all bytes, as nothing follows for now."""
        with self._changed:
            self._cut(keep=_begun(bytes(self._fresh[1 - START_BYTES :])))
            if self._frames is not None:
                drained = self._frames.drain()
                self._recordings[-1][1].extend(drained.data)
                if drained.again:
                    self._recordings.append((self._recordings[-1][0], bytearray(drained.again)))
            self._draining, self.drained = True, False
            self._changed.notify()

    def _wait(self, least: int) -> None:
        """Wait for `LEAST_BYTES` (`least` while draining), another recording or the end. Call with the lock held."""
        while True:
            waiting = len(self._recordings[0][1])
            if waiting >= LEAST_BYTES or self._ended or len(self._recordings) > 1:
                return
            if self._draining:
                if waiting >= least:
                    return
                self.drained = True
                self._on_drained()
            self._changed.wait()

    def _cut(self, keep: int) -> None:
        position = 1 if self._at_start else 0
        while (match := STARTS.search(self._fresh, position)) is not None:
            name, current = str(match.lastgroup), self._recordings[-1][0]
            position = match.start() + 1
            if name not in GO_ON_ITSELF.get(current, ()):
                self._give(bytes(self._fresh[: match.start()]), last=True)
                del self._fresh[: match.start()]
                self._recordings.append((name, bytearray()))
                self._note()
                self._frames = _frames(name)
                self._at_start, position = True, 1
        if (size := len(self._fresh) - keep) > 0:
            self._give(bytes(self._fresh[:size]))
            del self._fresh[:size]
            self._at_start = False

    def _give(self, data: bytes, *, last: bool = False) -> None:
        """Give the decoder the complete frames of the newest recording; all bytes if these are its `last`."""
        waiting = self._recordings[-1][1]
        if self._frames is None:
            waiting += data
            return
        waiting += self._frames.feed(data)
        if last:
            waiting += self._frames.finish()

    def _note(self) -> None:
        if self._frames is not None:
            self.notices += self._frames.notices

    def read(self, size: int) -> bytes:
        """Wait for bytes and return up to `size`; an empty result at the end of this recording."""
        with self._changed:
            self._wait(least=1)
            waiting = self._recordings[0][1]
            if self.unheard > UNHEARD_BYTES:
                return b""
            data = bytes(waiting[:size])
            del waiting[:size]
            self.taken += len(data)
            self.unheard += len(data)
            self._silent += self._parts.feed(data)
            return data

    def close(self) -> None:
        """Do nothing: FFmpeg closes its file at the end of one recording, and others may follow."""

    def heard(self) -> None:
        """Note that the decoder has produced audio."""
        self.unheard = self._silent = 0

    def following(self) -> tuple[str | None, int]:
        """Continue after FFmpeg has stopped reading a recording.

        Returns (container of what follows, None at the end; bytes that produced no audio). If FFmpeg stopped within a
        recording, its rest follows.
        """
        with self._changed:
            lost = self._lost()
            self._wait(least=LEAST_BYTES)
            name, waiting = self._recordings[0]
            if len(waiting) >= LEAST_BYTES and lost <= UNHEARD_BYTES:
                return name, lost
            lost += len(waiting) - self._parts.feed(bytes(waiting))
            if len(self._recordings) == 1:
                waiting.clear()
                return None, max(0, lost)
            self._recordings.popleft()
            name = self._recordings[0][0]
            self._parts = SilentParts(name)
            return name, max(0, lost)

    def _lost(self) -> int:
        """Return how many bytes that should contain audio produced none, and reset the count."""
        lost, self.unheard, self._silent = max(0, self.unheard - self._silent), 0, 0
        return lost

    def rest(self) -> int:
        """Return how many bytes are lost when the decoder gives up now."""
        with self._changed:
            waiting = b"".join(bytes(waiting) for _, waiting in self._recordings) + self._fresh
            return self._lost() + len(waiting) - self._parts.feed(waiting)

    def end(self) -> None:
        """End the bytes: nothing follows."""
        with self._changed:
            self._cut(keep=0)
            self._give(b"", last=True)
            self._note()
            self._ended = True
            self._changed.notify()

    def discard(self) -> int:
        """Drop all waiting and all further bytes; return how many were waiting."""
        with self._changed:
            waited = len(self) + self.kept
            self._recordings, self._frames = deque([("", bytearray())]), None
            self._fresh = bytearray()
            self._discarding = self._ended = True
            self._changed.notify()
            return waited


def _frames(name: str) -> FrameEnds | None:
    kind = FRAME_ENDS.get(name)
    return kind() if kind is not None else None


def _begun(tail: bytes) -> int:
    """Return how many of the last bytes may be the first bytes of another recording."""
    sizes = range(len(tail), LEAST_BEGINNING - 1, -1)
    return next((size for size in sizes if any(one.startswith(tail[-size:]) for one in BEGINNINGS)), 0)
