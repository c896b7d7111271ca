"""DOOR: sound in, blocks of float32 out. `open_audio` picks the decoder; everything is read block by block.

`libsndfile.py` reads what libsndfile knows (wav, flac, ogg, mp3, aiff, au, caf ...), `ffmpeg.py` the rest
(m4a, mp4, webm, aac, wma, amr ...). Then `mixdown.py`, `resample.py` and `features.py` work on blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from speechpipe.errors import EmptyAudio, UndecodableAudio
from speechpipe.registry import Registry
from speechpipe.types import Notice, Samples

BLOCK_S = 16.0
"""Longest block a decoder yields; about one call of the block VAD (512 frames of 32 ms)."""

BLOCK_VALUES = 2**20
"""Most values (frames x channels) in one block: 4 MiB of float32, however many channels there are."""

MIN_RATE_HZ = 4_000
MAX_RATE_HZ = 384_000
MAX_CHANNELS = 64


DECODERS = Registry(
    "decoder",
    {
        "libsndfile": "speechpipe.audio.libsndfile:LibsndfileDecoder",
        "ffmpeg": "speechpipe.audio.ffmpeg:FfmpegDecoder",
        "ffmpeg-stream": "speechpipe.audio.ffmpeg:FfmpegStream",
    },
)
ASKED_IN_TURN = ("libsndfile", "ffmpeg")
"""FFmpeg is loaded only for what libsndfile does not know."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What the file says of itself. `claimed_s` is the header's word and may be a lie."""

    container: str
    codec: str
    rate_hz: int
    channels: int
    claimed_s: float | None


class AudioDecoder(Protocol):
    """An open file."""

    info: AudioInfo
    notices: list[Notice]

    def blocks(self) -> Iterator[Samples]:
        """Yield float32 blocks of shape (frames, channels); damage after good audio ends the stream with a notice."""
        ...

    def close(self) -> None:
        """Release the file; may be called twice."""
        ...


def block_frames(rate_hz: int, channels: int) -> int:
    """Return how many frames one block holds: bounded in seconds and in bytes."""
    return max(1, min(int(rate_hz * BLOCK_S), BLOCK_VALUES // channels))


def open_audio(file: BinaryIO) -> AudioDecoder:
    """Open a real file (one with a descriptor), whatever its name says: only the bytes decide.

    Raises:
        EmptyAudio: the file has no bytes.
        UndecodableAudio: no decoder knows it, or it says something no recording says of itself.
    """
    if file.seek(0, 2) == 0:
        raise EmptyAudio("the file is empty (0 bytes)", cause="empty_file")
    reasons = []
    for name in ASKED_IN_TURN:
        file.seek(0)
        try:
            return _checked(DECODERS.load(name)(file))
        except UndecodableAudio as error:
            if error.cause != UndecodableAudio.cause:
                raise  # readable, and refused for what it says
            reasons.append(error.message)
    raise UndecodableAudio(f"not audio that can be read here ({'; '.join(reasons)})")


def _checked(decoder: AudioDecoder) -> AudioDecoder:
    info = decoder.info
    if not MIN_RATE_HZ <= info.rate_hz <= MAX_RATE_HZ:
        decoder.close()
        message = f"sample rate {info.rate_hz} Hz is outside {MIN_RATE_HZ}..{MAX_RATE_HZ} Hz"
        raise UndecodableAudio(message, cause="unsupported_sample_rate")
    if not 1 <= info.channels <= MAX_CHANNELS:
        decoder.close()
        message = f"{info.channels} channels; 1 to {MAX_CHANNELS} can be read"
        raise UndecodableAudio(message, cause="unsupported_channels")
    return decoder
