"""Bytes of live containers on their way from the thread that receives them to the thread that decodes them."""

import re
import threading
from collections import deque
from collections.abc import Callable

from speechpipe.cascade.audio.frame_ends import FRAME_ENDS, FrameEnds
from speechpipe.cascade.audio.silent_parts import SilentParts

UNHEARD_BYTES = 8 * 2**20
"""Taken without any sound: then it is given up. Pictures in tags and a few seconds of video are smaller."""

LEAST_BYTES = 64

STARTS = re.compile(
    rb"(?P<matroska>\x1a\x45\xdf\xa3)|(?P<ogg>OggS\x00\x02)|(?P<flac>fLaC[\x00\x80]\x00\x00\x22)"
    rb"|(?P<mp3>ID3[\x02-\x04][\x00-\x0f][\x00-\xff][\x00-\x7f]{4})"
    rb"|(?P<mp4>\x00\x00[\x00\x01][\x08-\xff]ftyp)|(?P<wav>RIFF.{4}WAVE)",
    re.DOTALL,
)
START_BYTES = 12
GO_ON_ITSELF = {"mp3": ("mp3",), "ogg": ("ogg", "flac"), "matroska": ("matroska", "flac"), "wav": ()}
"""What FFmpeg reads on by itself where one recording follows another, or holds as a part (FLAC in Ogg and Matroska)."""

BEGINNINGS = (b"\x1a\x45\xdf\xa3", b"OggS\x00\x02", b"fLaC", b"ID3", b"RIFF")
LEAST_BEGINNING = 2
"""So many bytes at the end may be a recording's first ones, whose others have not come: a single byte is chance."""


class BytePipe:
    """Bytes from the thread that receives to the thread that decodes, cut where another recording begins.

    `read` waits for bytes, and returns none at the end of a recording; `following` goes on with the next one. After
    `drain` the last bytes are not held back, and `drained` says when the decoder has asked for more than there is.
    """

    def __init__(self, name: str, on_drained: Callable[[], None] = lambda: None) -> None:
        """Begin with a recording in container `name`; `on_drained` is called on the decoder's thread."""
        self._on_drained = on_drained
        self._draining = False
        self.drained = False  # nothing is left of what came before `drain`, and the decoder waits for more
        self._changed = threading.Condition()
        self._recordings: deque[tuple[str, bytearray]] = deque([(name, bytearray())])  # the first one is being read
        self._frames = _frames(name)  # of the last one
        self._fresh = bytearray()  # came last: the beginning of a recording may be cut in two
        self._at_start = True  # `_fresh` begins with a recording's first byte
        self._ended = False
        self._discarding = False
        self.taken = 0  # bytes that the decoder has had
        self.unheard = 0  # of them, since the last sound
        self._silent = 0  # of these, in parts that hold no sound
        self._parts = SilentParts(name)  # of the one that is being read

    def __len__(self) -> int:
        return sum(len(waiting) for _, waiting in list(self._recordings)) + len(self._fresh)

    @property
    def kept(self) -> int:
        """Bytes of a frame that is not whole: the decoder cannot have them yet."""
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
        """Let the decoder have every byte that is here: for now nothing follows."""
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
        """Wait, under the lock, for `LEAST_BYTES`, another recording or the end; while draining for `least` bytes."""
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
                self._frames = _frames(name)
                self._at_start, position = True, 1
        if (size := len(self._fresh) - keep) > 0:
            self._give(bytes(self._fresh[:size]))
            del self._fresh[:size]
            self._at_start = False

    def _give(self, data: bytes, *, last: bool = False) -> None:
        """Let the decoder have what is whole of the newest recording; all of it, where these are its `last` bytes."""
        waiting = self._recordings[-1][1]
        if self._frames is None:
            waiting += data
            return
        waiting += self._frames.feed(data)
        if last:
            waiting += self._frames.finish()

    def read(self, size: int) -> bytes:
        """Return what is there, at most `size` bytes; none at the end of this recording."""
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
        """Nothing: FFmpeg may close one recording, others may follow."""

    def heard(self) -> None:
        """Note that there was a sound."""
        self.unheard = self._silent = 0

    def following(self) -> tuple[str | None, int]:
        """Go on after a recording that FFmpeg has read as far as it can.

        Returns the container of what follows, None at the end; and how many bytes gave no sound. Where FFmpeg stopped
        in the middle, what follows is the rest of the same recording.
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
        """Return how many bytes that hold sound gave none, and begin to count again."""
        lost, self.unheard, self._silent = max(0, self.unheard - self._silent), 0, 0
        return lost

    def rest(self) -> int:
        """Return how many bytes gave no sound and will give none: the decoder gives up."""
        with self._changed:
            waiting = b"".join(bytes(waiting) for _, waiting in self._recordings) + self._fresh
            return self._lost() + len(waiting) - self._parts.feed(waiting)

    def end(self) -> None:
        """Note that nothing follows."""
        with self._changed:
            self._cut(keep=0)
            self._give(b"", last=True)
            self._ended = True
            self._changed.notify()

    def discard(self) -> int:
        """Take nothing more; return how many bytes waited."""
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
    """Return how many of the last bytes may be the beginning of another recording, cut off here."""
    sizes = range(len(tail), LEAST_BEGINNING - 1, -1)
    return next((size for size in sizes if any(one.startswith(tail[-size:]) for one in BEGINNINGS)), 0)
