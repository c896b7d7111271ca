"""What libsndfile reads: wav, flac, ogg, mp3, aiff, au, caf, w64, rf64 and their kin."""

import os
from collections.abc import Iterator
from typing import BinaryIO

import soundfile

from speechpipe.audio import AudioInfo, block_frames
from speechpipe.errors import UndecodableAudio
from speechpipe.types import Notice, Samples

UNKNOWN_FRAMES = 2**62
"""libsndfile says about 2**63 frames where a header does not know (FLAC from a pipe)."""

SLACK_S = 0.2
"""How far lossy formats may miss their header's length (encoder delay, padding) and still be whole."""


class LibsndfileDecoder:
    """Reads through the file's descriptor, so the work happens in C without Python's lock."""

    def __init__(self, file: BinaryIO) -> None:
        """Open `file` at its start.

        Raises:
            UndecodableAudio: libsndfile does not know the bytes, or finds no samples in them.
        """
        self.notices: list[Notice] = []
        self._fd = os.dup(file.fileno())
        os.lseek(self._fd, 0, os.SEEK_SET)
        try:
            self._file = soundfile.SoundFile(self._fd, closefd=False)
        except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
            os.close(self._fd)
            raise UndecodableAudio(f"libsndfile: {_reason(error)}") from error
        frames = self._file.frames
        if frames == 0:
            # A wav written to a pipe may say 0 bytes of data; ffmpeg then reads to the end of the file.
            self.close()
            raise UndecodableAudio("libsndfile: no samples")
        self.info = AudioInfo(
            container=self._file.format,
            codec=self._file.subtype,
            rate_hz=self._file.samplerate,
            channels=self._file.channels,
            claimed_s=frames / self._file.samplerate if 0 < frames < UNKNOWN_FRAMES else None,
        )

    def blocks(self) -> Iterator[Samples]:
        """Yield blocks of shape (frames, channels) until the end or the first damage."""
        size = block_frames(self.info.rate_hz, self.info.channels)
        read = 0
        while True:
            try:
                block = self._file.read(size, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, RuntimeError) as error:
                self.notices.append(Notice("audio_damaged", f"reading stopped: {_reason(error)}"))
                break
            if len(block) == 0:
                break
            read += len(block)
            yield block
        claimed = self.info.claimed_s
        if claimed is not None and claimed - read / self.info.rate_hz > SLACK_S and not self.notices:
            got = read / self.info.rate_hz
            self.notices.append(
                Notice("audio_truncated", f"the header says {claimed:.2f} s, the file holds {got:.2f} s")
            )

    def close(self) -> None:
        """Release the file."""
        self._file.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _reason(error: Exception) -> str:
    # soundfile repeats the Python object it was given, which says nothing to the caller.
    text = str(getattr(error, "error_string", error))
    return text.rsplit(": ", 1)[-1].rstrip(".")
