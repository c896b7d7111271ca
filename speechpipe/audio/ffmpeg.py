"""What only FFmpeg reads: m4a, mp4, webm, mkv, aac, wma, amr and anything else with an audio track.

`FfmpegDecoder` reads a file, `FfmpegStream` a container that arrives while it is being spoken.
"""

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import av
import numpy as np

from speechpipe.audio import AudioInfo, block_frames
from speechpipe.errors import UndecodableAudio
from speechpipe.types import Notice, Samples

CONTAINERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,eac3,flac,flv,gsm,matroska,webm,mov,mp4,m4a,3gp,mp3,"
    "mpeg,mpegts,ogg,oma,rm,tak,tta,voc,w64,wav,wv"
)
"""Only containers of media. Playlists (hls, concat, dash, sdp) would let an upload name other files and hosts."""

INDEXED = ("mov", "matroska", "asf", "ogg", "wav", "avi", "flv")
"""Containers that know how long they are; for the others FFmpeg guesses from the bit rate."""

SLACK_S = 0.3
MAX_DAMAGED_PACKETS = 50
"""After so many packets in a row that do not decode, what follows is not this recording."""


MAX_WAITING_BYTES = 2**20
MAX_DECODED_S = 20.0
"""Live: how much may wait before the decoder and after it. A small packet may decode to hours."""

LIVE_OPTIONS = {"probesize": "2048", "analyzeduration": "0"}
LIVE_BUFFER = 4096


class FfmpegDecoder:
    """Decodes the first audio track; video and subtitles are not touched."""

    def __init__(self, file: BinaryIO) -> None:
        """Open `file` at its start.

        Raises:
            UndecodableAudio: no allowed container, no audio track, or a track without a decoder.
        """
        own = os.fdopen(os.dup(file.fileno()), "rb")
        own.seek(0)
        self._open(own)

    def _open(self, file: Any, container: str | None = None, **arguments: Any) -> None:
        self.notices: list[Notice] = []
        self._file = file
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"} | arguments.pop("options", {})
        try:
            self._container = av.open(file, mode="r", format=container, options=options, **arguments)
        except (av.FFmpegError, ValueError, OSError) as error:
            self._file.close()
            raise UndecodableAudio(f"ffmpeg: {_reason(error)}") from error
        tracks = self._container.streams.audio
        if not tracks or tracks[0].codec_context is None or not tracks[0].rate or not tracks[0].channels:
            self.close()
            raise UndecodableAudio("ffmpeg: no audio track that can be decoded")
        self._track = tracks[0]
        self._layout = tracks[0].layout.name  # as announced; the track's own follows the stream
        self._converter: av.AudioResampler | None = None
        self._shape: tuple[str, str, int] | None = None
        self._track.codec_context.thread_count = 1
        duration = self._container.duration
        indexed = self._container.format.name.startswith(INDEXED)
        self.info = AudioInfo(
            container=self._container.format.name,
            codec=self._track.codec_context.name,
            rate_hz=self._track.rate,
            channels=self._track.channels,
            claimed_s=duration / av.time_base if duration and duration > 0 and indexed else None,
        )

    def blocks(self) -> Iterator[Samples]:
        """Yield blocks of shape (frames, channels) until the end or damage that does not pass."""
        size = block_frames(self.info.rate_hz, self.info.channels)
        waiting: list[Samples] = []
        held = read = 0
        for frame in self._frames():
            waiting.append(frame)
            held += len(frame)
            if held >= size:
                read += held
                yield np.concatenate(waiting)
                waiting, held = [], 0
        if held:
            read += held
            yield np.concatenate(waiting)
        self._compare_with_header(read / self.info.rate_hz)

    def _frames(self) -> Iterator[Samples]:
        damaged = in_a_row = 0
        packets = self._container.demux(self._track)
        while in_a_row <= MAX_DAMAGED_PACKETS:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                converted = [samples for frame in packet.decode() for samples in self._convert(frame)]
            except av.EOFError:
                break
            except (av.FFmpegError, OSError, ValueError):
                damaged, in_a_row = damaged + 1, in_a_row + 1
                continue
            in_a_row = 0
            yield from converted
        try:
            yield from self._convert(None)
        except (av.FFmpegError, ValueError):
            damaged += 1
        if damaged:
            self.notices.append(Notice("audio_damaged", f"{damaged} packets could not be decoded"))

    def _convert(self, frame: av.AudioFrame | None) -> list[Samples]:
        """Bring a frame to the announced rate and layout; None gets what the converter still holds."""
        converted: list[Samples] = []
        shape = None if frame is None else (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:  # a stream may change its shape on the way; the converter may not
            if self._converter is not None:
                converted = [_interleaved(item, self.info.channels) for item in self._converter.resample(None)]
            self._converter = av.AudioResampler(format="flt", layout=self._layout, rate=self.info.rate_hz)
            self._shape = shape
        if frame is not None and self._converter is not None:
            frame.pts = None  # the samples are the clock; damaged time stamps would be filled up with silence
            converted += [_interleaved(item, self.info.channels) for item in self._converter.resample(frame)]
        return converted

    def _compare_with_header(self, got_s: float) -> None:
        claimed = self.info.claimed_s
        if claimed is not None and claimed - got_s > SLACK_S and not self.notices:
            message = f"the header says {claimed:.2f} s, the file holds {got_s:.2f} s"
            self.notices.append(Notice("audio_truncated", message))

    def close(self) -> None:
        """Release the file."""
        self._container.close()
        self._file.close()


class _Pipe:
    """Bytes from the thread that receives to the thread that decodes; `read` waits for some."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._changed = threading.Condition()
        self._ended = False

    def __len__(self) -> int:
        return len(self._waiting)

    def write(self, data: bytes) -> None:
        with self._changed:
            self._waiting += data
            self._changed.notify()

    def read(self, size: int) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) >= 64 or self._ended)
            data = bytes(self._waiting[:size])
            del self._waiting[:size]
            return data

    def close(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()


class FfmpegStream(FfmpegDecoder):
    """Decodes a container that arrives piece by piece, on a thread of its own: FFmpeg reads when it likes."""

    def __init__(self, container: str, on_samples: Callable[[], None]) -> None:
        """Wait for bytes of `container` (FFmpeg's name of it); `on_samples` is called whenever there are samples."""
        self._pipe = _Pipe()
        self._name = container
        self._on_samples = on_samples
        self._decoded: list[Samples] = []
        self._decoded_frames = 0
        self._room = threading.Condition()
        self._error: UndecodableAudio | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ffmpeg-stream", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._open(self._pipe, self._name, options=LIVE_OPTIONS, buffer_size=LIVE_BUFFER)
            limit = MAX_DECODED_S * self.info.rate_hz
            for frame in self._frames():
                with self._room:
                    self._room.wait_for(lambda: self._decoded_frames < limit or self._closed)
                    if self._closed:
                        break
                    self._decoded.append(frame)
                    self._decoded_frames += len(frame)
                self._on_samples()
            self._container.close()
        except UndecodableAudio as error:
            self._error = error
        self._on_samples()

    @property
    def full(self) -> bool:
        """Whether bytes should be held back for a while."""
        return len(self._pipe) > MAX_WAITING_BYTES and self._thread.is_alive()

    def feed(self, data: bytes) -> Samples | None:
        """Take bytes; return the (frames, channels) samples decoded so far, None before the header is read.

        Raises:
            UndecodableAudio: these bytes are not that container.
        """
        self._pipe.write(data)
        return self._taken()

    def finish(self, wait_s: float = 10.0) -> Samples | None:
        """End the bytes; return what was left.

        Raises:
            UndecodableAudio: the bytes were not that container.
        """
        self._pipe.close()
        taken = []
        while self._thread.is_alive() and wait_s > 0:
            self._thread.join(0.02)
            wait_s -= 0.02
            taken.append(self._taken())
        taken.append(self._taken())
        blocks = [block for block in taken if block is not None]
        return np.concatenate(blocks) if blocks else None

    def _taken(self) -> Samples | None:
        with self._room:
            decoded, self._decoded, self._decoded_frames = self._decoded, [], 0
            self._room.notify()
        if self._error is not None:
            raise self._error
        return np.concatenate(decoded) if decoded else None

    def abort(self) -> None:
        """Give up; the thread ends by itself."""
        with self._room:
            self._closed = True
            self._room.notify()
        self._pipe.close()


def _interleaved(frame: av.AudioFrame, channels: int) -> Samples:
    return frame.to_ndarray().astype(np.float32, copy=False).reshape(-1, channels)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")
