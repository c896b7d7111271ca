"""Decoder for the formats of libsndfile: wav, flac, aiff, au, caf, w64, rf64 and others."""

import os
import re
from collections.abc import Iterator
from typing import Any

import soundfile

from speechpipe.cascade.audio import AudioInfo, Wish, block_frames
from speechpipe.cascade.audio.containers import Recording
from speechpipe.cascade.audio.containers.byte_range import ByteRange
from speechpipe.cascade.audio.containers.layouts import layout_of_mask
from speechpipe.errors import InvalidParameter, UndecodableAudio
from speechpipe.types import Notice, Samples

UNKNOWN_FRAMES = 2**62
"""libsndfile reports about 2**63 frames if the header has no length (FLAC written to a pipe)."""

STREAMED_BYTES = 2**31 - 4096
"""A wav written to a pipe has a size of about 2 or 4 GiB, because its length was not known."""

SLACK_S = 0.2
"""Allowed difference to the header's duration; lossy formats have encoder delay and padding."""

SALVAGE_FRAMES = 1024
FAILURES = (soundfile.SoundFileError, RuntimeError, TypeError, ValueError)

# libsndfile uses the file's size instead of the header's, and reports the difference in its log only.
_CLAIM = re.compile(r"^\s*(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)


class LibsndfileDecoder:
    """Reads a complete file by its descriptor (in C, without Python's lock), or a part of one through `ByteRange`."""

    def __init__(self, file: ByteRange, recording: Recording, wish: Wish) -> None:
        """Open `recording` at its start.

        Raises:
            UndecodableAudio: libsndfile cannot read the bytes, or finds no samples.
            InvalidParameter: a track other than 0 is requested.
        """
        self.notices: list[Notice] = []
        self.gave_up_after: int | None = None
        self._recording = recording
        self._bytes = file.window(recording.start, recording.end, recording.patches, recording.cuts)
        self._whole = len(self._bytes) == len(file) and not recording.patches  # then it has no cuts either
        try:
            self._file = self._open()
        except FAILURES as error:
            self._bytes.close()
            raise UndecodableAudio(f"libsndfile: {_reason(error)}") from error
        if wish.track:
            self.close()
            raise InvalidParameter(f"track {wish.track} does not exist; the file has 1 (0-based)", param="track")
        frames = self._file.frames
        if frames == 0:
            # A wav written to a pipe can have a data size of 0; FFmpeg then reads to the end of the file.
            self.close()
            raise UndecodableAudio("libsndfile: no samples")
        self.info = AudioInfo(
            container=self._file.format,
            codec=self._file.subtype,
            rate_hz=self._file.samplerate,
            channels=self._file.channels,
            claimed_s=self._claimed_s(frames) if recording.claimed_s is None else recording.claimed_s,
            layout=layout_of_mask(recording.mask, self._file.channels, recording.kind),
        )

    def _open(self) -> Any:
        if self._whole:
            os.lseek(self._bytes.descriptor, 0, os.SEEK_SET)
            return soundfile.SoundFile(self._bytes.descriptor, closefd=False)
        self._bytes.seek(0)
        return soundfile.SoundFile(self._bytes)

    def _claimed_s(self, frames: int) -> float | None:
        seconds = frames / self._file.samplerate
        if self._recording.unknown_length:
            return None
        if match := _CLAIM.search(self._file.extra_info):
            claimed, real = int(match[1]), int(match[2])
            return seconds * claimed / real if real and 0 < claimed < STREAMED_BYTES else None
        return seconds if 0 < frames < UNKNOWN_FRAMES else None

    def blocks(self) -> Iterator[Samples]:
        """Yield blocks of shape (frames, channels) until the end or the first damage."""
        size = block_frames(self.info.rate_hz, self.info.channels)
        read = 0
        while True:
            try:
                block = self._file.read(size, dtype="float32", always_2d=True)
            except FAILURES as error:
                self.notices.append(Notice("audio_damaged", f"damaged audio: {_reason(error)}"))
                for block in self._salvage(read):
                    read += len(block)
                    yield block
                self.gave_up_after = read
                break
            if len(block) == 0:
                break
            read += len(block)
            yield block
        self._compare_with_header(read)

    def _salvage(self, skip: int) -> Iterator[Samples]:
        """Read again from the start in small blocks, so that less is lost at the damage; skip `skip` frames."""
        self._file.close()
        try:
            self._file = self._open()
            while len(block := self._file.read(SALVAGE_FRAMES, dtype="float32", always_2d=True)):
                if skip < len(block):
                    yield block[skip:]
                skip = max(0, skip - len(block))
        except FAILURES:
            return

    def _compare_with_header(self, read: int) -> None:
        got = read / self.info.rate_hz
        claimed = self.info.claimed_s
        if claimed is not None and claimed - got > SLACK_S:
            message = f"the header says {claimed:.2f} s, but the file contains {got:.2f} s"
            self.notices.append(Notice("audio_truncated", message))
        elif self._recording.open_end:
            self.notices.append(Notice("audio_truncated", "the stream has no end mark: the file was cut off"))

    def close(self) -> None:
        """Release the file."""
        self._file.close()
        self._bytes.close()


def _reason(error: Exception) -> str:
    # soundfile's message begins with the representation of a Python object, which is left out.
    text = str(getattr(error, "error_string", error))
    return text.rsplit(": ", 1)[-1].rstrip(".")
