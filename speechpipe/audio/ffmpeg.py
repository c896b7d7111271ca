"""What only FFmpeg reads: m4a, mp4, webm, mkv, aac, wma, amr and anything else with an audio track."""

import os
from collections.abc import Iterator
from typing import BinaryIO

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


class FfmpegDecoder:
    """Decodes the first audio track; video and subtitles are not touched."""

    def __init__(self, file: BinaryIO) -> None:
        """Open `file` at its start.

        Raises:
            UndecodableAudio: no allowed container, no audio track, or a track without a decoder.
        """
        self.notices: list[Notice] = []
        self._file = os.fdopen(os.dup(file.fileno()), "rb")
        self._file.seek(0)
        try:
            self._container = av.open(
                self._file, mode="r", options={"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
            )
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


def _interleaved(frame: av.AudioFrame, channels: int) -> Samples:
    return frame.to_ndarray().astype(np.float32, copy=False).reshape(-1, channels)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")
