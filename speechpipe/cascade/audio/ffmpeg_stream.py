"""Decoder for live containers: FFmpeg reads from a pipe, on its own thread for each stream.

FFmpeg's reads block, so a thread is needed. It ends with the stream, and reports its errors to the stream. Everything
is bounded: the bytes before the decoder, the samples after it, and the bytes that FFmpeg may read without producing
audio (a packet or a picture that never ends).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from speechpipe.cascade.audio.byte_pipe import BytePipe
from speechpipe.cascade.audio.containers.packets import of_the_track
from speechpipe.cascade.audio.ffmpeg import SLACK_S, FfmpegDecoder
from speechpipe.errors import SpeechpipeError, StageFailed, UndecodableAudio
from speechpipe.types import Notice, Samples

MAX_RATE_HZ = 48_000
MAX_CHANNELS = 8
"""Limits of live containers. Speech needs less, and a few bytes must not expand to hours of silence."""

WAITING_BYTES = 64 * 1024
"""Bytes that may wait for the decoder before `full` is True."""

DECODED_BYTES = 512 * 1024
"""Decoded 32-bit samples that may wait to be taken: 2.7 s of mono at 48 kHz."""

LEFT_BYTES = 2048
"""More bytes than this without audio, not counting indexes and tags, are reported as lost."""

MOST_STOPS = 3
"""If FFmpeg stops so often in a row without producing audio, the rest is given up."""

LONGEST_GAP_S = 60.0
"""Longest gap of the time stamps that is filled with silence."""

MICROSECONDS = 1_000_000
"""Unit of the duration of a container."""

OPTIONS = {"probesize": "2048", "analyzeduration": "0"}
READ_BYTES = 4096


class FfmpegStream(FfmpegDecoder):
    """Decodes one container, and others that follow it on the same connection. Starts its own thread."""

    def __init__(self, name: str, on_samples: Callable[[], None]) -> None:
        """Wait for bytes of container `name` (FFmpeg's); `on_samples` is called from the decoding thread.

        It is called whenever `has_samples`, `drained` or `exhausted` may have changed.
        """
        self._pipe = BytePipe(name, on_samples)
        self._name = name
        self._on_samples = on_samples
        self._decoded: deque[tuple[float, Samples]] = deque()
        self._decoded_bytes = 0
        self._room = threading.Condition()
        self._error: SpeechpipeError | None = None
        self._given_up = False
        self._ended = False  # the thread will produce no more samples
        self._heard_s = 0.0
        self.notices: list[Notice] = []
        threading.Thread(target=self._run, name="ffmpeg-stream", daemon=True).start()

    # ---- the decoding thread ----

    def _run(self) -> None:
        try:
            self._decode_all()
        except SpeechpipeError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - reported to this stream, the only one concerned
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
            name, lost = self._pipe.following() if stops < MOST_STOPS else (None, self._pipe.rest())
            if lost > LEFT_BYTES:
                notices.append(Notice("audio_damaged", f"{lost} bytes contained no audio{_because(failure)}"))
        self.notices = notices + self._pipe.notices
        if not self._heard_s and not self._given_up:
            hint = HINT if self._name == "mp4" else ""
            raise failure or UndecodableAudio(f"{self._pipe.taken} bytes of {self._name} contained no audio{hint}")

    def _decode(self, name: str) -> None:
        first = (self.info, self._layout) if self._heard_s else None
        try:
            self._open(self._pipe, name, options=dict(OPTIONS), buffer_size=READ_BYTES)
        except UndecodableAudio as error:
            message = f"{name} that ends before any audio" if error.message.endswith(ENDS) else error.message
            raise UndecodableAudio(f"{message}{HINT if name == 'mp4' else ''}") from error
        try:
            self._check()
            if first is not None:  # convert a second recording to the rate and layout of the first
                self.info, self._layout = first
                self._timeline = self._new_timeline(None)
            self._timeline.limit_gaps(LONGEST_GAP_S)
            heard_s = self._heard_s
            for frame in self._frames():
                self._put(frame)
                if self._given_up:
                    return
            self._compare(self._heard_s - heard_s)
        finally:
            self._container.close()

    def _packets(self) -> Iterator[Any]:
        """Yield the packets of the track as they come, without waiting for the next page of Ogg."""
        return of_the_track(self._container.demux(self._track), self._track.index, self._ends_s)

    def _compare(self, heard_s: float) -> None:
        """Add a notice if the recording is shorter than its header says; mp3, FLAC and Ogg are compared by frames."""
        streams = self._container.streams
        claimed_s = 0.0
        if self._container.format.name.startswith("mov") and self._track.duration:
            claimed_s = float(self._track.duration * self._track.time_base)
        elif self._container.format.name.startswith("matroska") and len(streams) == 1 and self._container.duration:
            claimed_s = self._container.duration / MICROSECONDS - max(0.0, self._timeline.base_s or 0.0)
        if claimed_s - heard_s > SLACK_S:
            message = f"the header says {claimed_s:.2f} s, but {heard_s:.2f} s came"
            self.notices.append(Notice("audio_truncated", message))

    def _check(self) -> None:
        if self.info.rate_hz > MAX_RATE_HZ:
            message = f"{self.info.rate_hz} Hz; a live container may have {MAX_RATE_HZ} Hz at most"
            raise UndecodableAudio(message, cause="unsupported_sample_rate")
        if self.info.channels > MAX_CHANNELS:
            message = f"{self.info.channels} channels; a live container may have {MAX_CHANNELS} at most"
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
        """Whether the caller should wait before it feeds more bytes."""
        return len(self._pipe) > WAITING_BYTES

    @property
    def held_bytes(self) -> int:
        """Bytes of memory in use: waiting bytes, waiting samples, and bytes read by FFmpeg without output."""
        return len(self._pipe) + self._pipe.kept + self._decoded_bytes + self._pipe.unheard

    @property
    def has_samples(self) -> bool:
        """Whether `take` would return samples or raise."""
        return bool(self._decoded) or (self._ended and self._error is not None)

    @property
    def exhausted(self) -> bool:
        """Whether no more samples will come: the bytes have ended, or cannot be decoded."""
        return self._ended and not self.has_samples

    def waiting_s(self, now: float) -> float:
        """Return for how many seconds the oldest sample has waited; `now` is time.monotonic()."""
        with self._room:
            return max(0.0, now - self._decoded[0][0]) if self._decoded else 0.0

    def feed(self, data: bytes) -> None:
        """Take bytes; check `full` before the next call."""
        self._pipe.write(data)

    def finish(self) -> None:
        """End the bytes; then call `take` until `exhausted`."""
        self._pipe.end()

    def drain(self) -> None:
        """Have all complete frames decoded, as nothing follows for now; see `drained`."""
        self._pipe.drain()

    @property
    def drained(self) -> bool:
        """After `drain`: whether all that was fed before was decoded and taken."""
        return (self._pipe.drained or self._ended) and not self.has_samples

    def take(self, most_s: float) -> Samples | None:
        """Return (frames, channels) decoded samples, about `most_s` seconds at most; None if there are none.

        Raises:
            SpeechpipeError: the bytes cannot be decoded; raised once, after all decoded samples were taken.
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
        """Stop decoding; return how many bytes were not decoded. The thread ends by itself."""
        with self._room:
            self._given_up = True
            self._decoded.clear()
            self._decoded_bytes = 0
            self._room.notify()
        return self._pipe.discard()


ENDS = ("End of file", "Input/output error")
"""FFmpeg's messages for bytes that end within the header."""

HINT = " (an mp4 with its index at the end cannot be decoded live: send it as an upload, or fragmented)"


def _because(failure: SpeechpipeError | None) -> str:
    return f": {failure.message}" if failure is not None else ""
