"""Containers that arrive while they are being spoken: FFmpeg reads from a pipe, on a thread of its own for each stream.

FFmpeg reads when it likes, so a thread is needed; it ends with the stream, whatever it meets is reported to the stream.
Everything is bounded: bytes before the decoder, samples after it, and what FFmpeg may take without giving any sound
(a packet or a picture that never ends).
"""

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from speechpipe.cascade.audio.containers.packets import of_the_track
from speechpipe.cascade.audio.ffmpeg import FfmpegDecoder
from speechpipe.errors import SpeechpipeError, StageFailed, UndecodableAudio
from speechpipe.types import Notice, Samples

MAX_RATE_HZ = 48_000
MAX_CHANNELS = 8
"""Of a container that is decoded live. Speech needs less, and hours of silence in a few bytes need not be decoded."""

WAITING_BYTES = 64 * 1024
"""Before the decoder."""

DECODED_BYTES = 512 * 1024
"""After it, as 32-bit floats: 2.7 s of mono at 48 kHz."""

UNHEARD_BYTES = 8 * 2**20
"""Taken without any sound: then it is given up. Pictures in tags and a few seconds of video are smaller."""

LEFT_BYTES = 2048
"""More than this after the last sound is said to be lost: indexes and tags at the end are smaller."""

LEAST_BYTES = 64
MOST_STOPS = 3
"""So often in a row FFmpeg may stop without having given a sound, before the rest is given up."""

LONGEST_GAP_S = 60.0
"""Longest hole in the time stamps that is filled with silence."""

OPTIONS = {"probesize": "2048", "analyzeduration": "0"}
READ_BYTES = 4096


STARTS = re.compile(
    rb"(?P<matroska>\x1a\x45\xdf\xa3)|(?P<ogg>OggS\x00\x02)|(?P<flac>fLaC[\x00\x80]\x00\x00\x22)"
    rb"|(?P<mp3>ID3[\x02-\x04][\x00-\x0f][\x00-\xff][\x00-\x7f]{4})"
    rb"|(?P<mp4>\x00\x00[\x00\x01][\x08-\xff]ftyp)|(?P<wav>RIFF.{4}WAVE)",
    re.DOTALL,
)
START_BYTES = 12
GO_ON_ITSELF = {"mp3": ("mp3",), "ogg": ("ogg", "flac"), "matroska": ("matroska", "flac"), "flac": ("flac",), "wav": ()}
"""What FFmpeg reads on by itself where one recording follows another, or holds as a part (FLAC in Ogg and Matroska)."""


class _Pipe:
    """Bytes from the thread that receives to the thread that decodes, cut where another recording begins.

    `read` waits for bytes, and returns none at the end of a recording; `following` goes on with the next one.
    """

    def __init__(self, name: str) -> None:
        self._changed = threading.Condition()
        self._recordings: deque[tuple[str, bytearray]] = deque([(name, bytearray())])  # the first one is being read
        self._fresh = bytearray()  # came last: the beginning of a recording may be cut in two
        self._at_start = True  # `_fresh` begins with a recording's first byte
        self._ended = False
        self._discarding = False
        self.taken = 0  # bytes that the decoder has had
        self.unheard = 0  # of them, since the last sound

    def __len__(self) -> int:
        return sum(len(waiting) for _, waiting in list(self._recordings)) + len(self._fresh)

    def write(self, data: bytes) -> None:
        with self._changed:
            if not self._discarding:
                self._fresh += data
                self._cut(keep=START_BYTES - 1)
                self._changed.notify()

    def _cut(self, keep: int) -> None:
        position = 1 if self._at_start else 0
        while (match := STARTS.search(self._fresh, position)) is not None:
            name, current = str(match.lastgroup), self._recordings[-1][0]
            position = match.start() + 1
            if name not in GO_ON_ITSELF.get(current, ()):
                self._recordings[-1][1].extend(self._fresh[: match.start()])
                del self._fresh[: match.start()]
                self._recordings.append((name, bytearray()))
                self._at_start, position = True, 1
        if (size := len(self._fresh) - keep) > 0:
            self._recordings[-1][1].extend(self._fresh[:size])
            del self._fresh[:size]
            self._at_start = False

    def read(self, size: int) -> bytes:
        """Return what is there, at most `size` bytes; none at the end of this recording."""
        with self._changed:
            waiting = self._recordings[0][1]
            self._changed.wait_for(lambda: len(waiting) >= LEAST_BYTES or self._ended or len(self._recordings) > 1)
            if self.unheard > UNHEARD_BYTES:
                return b""
            data = bytes(waiting[:size])
            del waiting[:size]
            self.taken += len(data)
            self.unheard += len(data)
            return data

    def close(self) -> None:
        """Nothing: FFmpeg may close one recording, others may follow."""

    def heard(self) -> None:
        """Note that there was a sound."""
        self.unheard = 0

    def following(self) -> tuple[str | None, int]:
        """Go on after a recording that FFmpeg has read as far as it can.

        Returns the container of what follows, None at the end; and how many bytes gave no sound. Where FFmpeg stopped
        in the middle, what follows is the rest of the same recording.
        """
        with self._changed:
            lost, self.unheard = self.unheard, 0
            name, waiting = self._recordings[0]
            self._changed.wait_for(lambda: len(waiting) >= LEAST_BYTES or self._ended or len(self._recordings) > 1)
            if len(waiting) >= LEAST_BYTES and lost <= UNHEARD_BYTES:
                return name, lost
            lost += len(waiting)
            if len(self._recordings) == 1:
                waiting.clear()
                return None, lost
            self._recordings.popleft()
            return self._recordings[0][0], lost

    def end(self) -> None:
        with self._changed:
            self._cut(keep=0)
            self._ended = True
            self._changed.notify()

    def discard(self) -> int:
        """Take nothing more; return how many bytes waited."""
        with self._changed:
            waited = len(self)
            self._recordings = deque([("", bytearray())])
            self._fresh = bytearray()
            self._discarding = self._ended = True
            self._changed.notify()
            return waited


class FfmpegStream(FfmpegDecoder):
    """Decodes one container, and others that follow it on the same connection."""

    def __init__(self, name: str, on_samples: Callable[[], None]) -> None:
        """Wait for bytes of container `name` (FFmpeg's); `on_samples` is called from the decoding thread.

        It is called whenever `has_samples` or `exhausted` may have changed.
        """
        self._pipe = _Pipe(name)
        self._name = name
        self._on_samples = on_samples
        self._decoded: deque[tuple[float, Samples]] = deque()
        self._decoded_bytes = 0
        self._room = threading.Condition()
        self._error: SpeechpipeError | None = None
        self._given_up = False
        self._ended = False  # the thread has nothing more to give
        self._heard_s = 0.0
        self.notices: list[Notice] = []
        threading.Thread(target=self._run, name="ffmpeg-stream", daemon=True).start()

    # ---- the decoding thread ----

    def _run(self) -> None:
        try:
            self._decode_all()
        except SpeechpipeError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - a worker of this one stream: it is told, nobody else is concerned
            self._error = StageFailed("decoder", f"{type(error).__name__}: {error}")
        finally:
            self._pipe.discard()
            self._ended = True
            self._on_samples()

    def _decode_all(self) -> None:
        name: str | None = self._name
        notices: list[Notice] = []
        failure: UndecodableAudio | None = None
        stops = 0
        while name is not None and not self._given_up:
            heard_s = self._heard_s
            try:
                self._decode(name)
            except UndecodableAudio as error:
                failure = error
            notices += self.notices
            stops = stops + 1 if self._heard_s == heard_s else 0
            name, lost = self._pipe.following() if stops < MOST_STOPS else (None, self._pipe.unheard + len(self._pipe))
            if lost > LEFT_BYTES:
                notices.append(Notice("audio_damaged", f"{lost} bytes gave no sound{_because(failure)}"))
        self.notices = notices
        if not self._heard_s and not self._given_up:
            hint = HINT if self._name == "mp4" else ""
            raise failure or UndecodableAudio(f"{self._pipe.taken} bytes of {self._name} gave no sound{hint}")

    def _decode(self, name: str) -> None:
        first = (self.info, self._layout) if self._heard_s else None
        try:
            self._open(self._pipe, name, options=dict(OPTIONS), buffer_size=READ_BYTES)
        except UndecodableAudio as error:
            message = f"{name} that ends before any sound" if error.message.endswith(ENDS) else error.message
            raise UndecodableAudio(f"{message}{HINT if name == 'mp4' else ''}") from error
        try:
            self._check()
            if first is not None:  # a second recording is brought to the rate and layout of the first
                self.info, self._layout = first
                self._timeline = self._new_timeline(None)
            self._timeline.longest_gap_s = LONGEST_GAP_S
            for frame in self._frames():
                self._put(frame)
                if self._given_up:
                    return
        finally:
            self._container.close()

    def _packets(self) -> Iterator[Any]:
        """Yield the packets of the track as they come: a page of Ogg is not held until the next one is there."""
        return of_the_track(self._container.demux(self._track), self._track.index, self._ends_s)

    def _check(self) -> None:
        if self.info.rate_hz > MAX_RATE_HZ:
            message = f"{self.info.rate_hz} Hz; a container may have {MAX_RATE_HZ} Hz live"
            raise UndecodableAudio(message, cause="unsupported_sample_rate")
        if self.info.channels > MAX_CHANNELS:
            message = f"{self.info.channels} channels; a container may have {MAX_CHANNELS} live"
            raise UndecodableAudio(message, cause="unsupported_channels")

    def _put(self, frame: Samples) -> None:
        if not len(frame):
            return
        with self._room:
            self._room.wait_for(lambda: self._decoded_bytes < DECODED_BYTES or self._given_up)
            if self._given_up:
                return
            self._heard_s += len(frame) / self.info.rate_hz
            self._decoded.append((time.monotonic(), frame))
            self._decoded_bytes += frame.nbytes
        self._pipe.heard()
        self._on_samples()

    # ---- the stream's side: one thread at a time ----

    @property
    def full(self) -> bool:
        """Whether bytes should be held back for a while."""
        return len(self._pipe) > WAITING_BYTES

    @property
    def held_bytes(self) -> int:
        """Memory that waits for somebody: bytes, samples, and what FFmpeg has taken without giving any."""
        return len(self._pipe) + self._decoded_bytes + self._pipe.unheard

    @property
    def has_samples(self) -> bool:
        """Whether `take` has something to return or to raise."""
        return bool(self._decoded) or (self._ended and self._error is not None)

    @property
    def exhausted(self) -> bool:
        """Whether nothing more comes: the bytes were ended, or what follows cannot be decoded."""
        return self._ended and not self.has_samples

    def waiting_s(self, now: float) -> float:
        """Return for how long decoded samples have waited; `now` is time.monotonic()."""
        with self._room:
            return max(0.0, now - self._decoded[0][0]) if self._decoded else 0.0

    def feed(self, data: bytes) -> None:
        """Take bytes; look at `full` before the next."""
        self._pipe.write(data)

    def finish(self) -> None:
        """End the bytes; `take` until `exhausted`."""
        self._pipe.end()

    def take(self, most_s: float) -> Samples | None:
        """Return (frames, channels) samples that are decoded, about `most_s` seconds of them at most.

        Raises:
            SpeechpipeError: the bytes are not that container; raised once, after what could be decoded.
        """
        with self._room:
            taken: list[Any] = []
            left = max(1, int(most_s * self.info.rate_hz)) if self._decoded else 0
            while self._decoded and left > 0:
                arrived, frame = self._decoded.popleft()
                if len(frame) > left:
                    self._decoded.appendleft((arrived, frame[left:]))
                    frame = frame[:left]
                left -= len(frame)
                self._decoded_bytes -= frame.nbytes
                taken.append(frame)
            self._room.notify()
        if taken:
            return np.concatenate(taken)
        if self._ended and self._error is not None:
            error, self._error = self._error, None
            raise error
        return None

    def abort(self) -> int:
        """Give up; the thread ends by itself. Returns how many bytes were not decoded."""
        with self._room:
            self._given_up = True
            self._decoded.clear()
            self._decoded_bytes = 0
            self._room.notify()
        return self._pipe.discard()


ENDS = ("End of file", "Input/output error")
"""What FFmpeg says of bytes that end in the header."""

HINT = " (an mp4 whose index is at its end cannot be decoded as it arrives: send it as an upload, or fragmented)"


def _because(failure: SpeechpipeError | None) -> str:
    return f": {failure.message}" if failure is not None else ""
