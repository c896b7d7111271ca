"""Audio: sound in, blocks of float32 out. `open_recording` picks the decoder; everything is read block by block.

`libsndfile.py` reads what libsndfile knows (wav, flac, mp3, aiff, au, caf ...), `ffmpeg.py` the rest (m4a, mp4, webm,
ogg, aac, wma, amr, mxf, dts ...). `parts.py` goes from recording to recording where files were put end to end. Then
`scale.py`, `mixdown.py`, `resample.py`, `levels.py` and `features.py` work on blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from speechpipe.cascade.audio.containers import Recording
from speechpipe.cascade.audio.containers.byte_range import ByteRange
from speechpipe.cascade.audio.containers.reasons import why_not
from speechpipe.errors import UndecodableAudio
from speechpipe.foundation.registry import Registry
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
        "libsndfile": "speechpipe.cascade.audio.libsndfile:LibsndfileDecoder",
        "ffmpeg": "speechpipe.cascade.audio.ffmpeg:FfmpegDecoder",
        "ffmpeg-stream": "speechpipe.cascade.audio.ffmpeg_stream:FfmpegStream",
    },
)
ASKED_IN_TURN = ("libsndfile", "ffmpeg")
"""FFmpeg is loaded only for what libsndfile does not know."""

FFMPEG_FIRST = frozenset({"ogg"})
"""Ogg carries time stamps, which libsndfile does not show."""

UNSPECIFIC = frozenset({"Format not recognised", "Invalid data found when processing input", "unknown container"})
"""What decoders say of bytes that mean nothing to them."""

FFMPEG_FOR_SURROUND = frozenset({"caf", "aiff"})
"""Where libsndfile does not show which channel stands where."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted of a file: which audio track (0-based; None: the default one), and how many seconds at most."""

    track: int | None = None
    max_s: float | None = None


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What the file says of itself. `claimed_s` is the header's word and may be a lie.

    `layout` names each channel's place (FL, FR, FC, LFE, BL ...), as FFmpeg does; None if the file says nothing.
    """

    container: str
    codec: str
    rate_hz: int
    channels: int
    claimed_s: float | None
    layout: tuple[str, ...] | None = None
    tracks: int = 1
    track: int = 0


class AudioDecoder(Protocol):
    """An open recording."""

    info: AudioInfo
    notices: list[Notice]
    gave_up_after: int | None
    """Frames that were given before damage that another decoder may pass; None: read to the end."""

    def blocks(self) -> Iterator[Samples]:
        """Yield float32 blocks of shape (frames, channels); damage after good audio ends the stream with a notice."""
        ...

    def close(self) -> None:
        """Release the file; may be called twice."""
        ...


def block_frames(rate_hz: int, channels: int) -> int:
    """Return how many frames one block holds: bounded in seconds and in bytes."""
    return max(1, min(int(rate_hz * BLOCK_S), BLOCK_VALUES // channels))


def open_recording(file: ByteRange, recording: Recording, wish: Wish) -> AudioDecoder:
    """Open one recording of a file, whatever its name says: only the bytes decide.

    Raises:
        UndecodableAudio: no decoder knows it, or it says something no recording says of itself.
        InvalidParameter: the track that is wished for does not exist.
    """
    turn = ASKED_IN_TURN[::-1] if recording.kind in FFMPEG_FIRST else ASKED_IN_TURN
    reasons = set()
    for number, name in enumerate(turn):
        try:
            decoder: AudioDecoder = _checked(DECODERS.load(name)(file, recording, wish))
        except UndecodableAudio as error:
            if error.cause != UndecodableAudio.cause:
                raise  # readable, and refused for what it says
            reasons.add(error.message.partition(": ")[2] or error.message)
            continue
        if number == 0 and recording.kind in FFMPEG_FOR_SURROUND and decoder.info.channels > 2:
            decoder = _with_layout(decoder, file, recording, wish)
        return decoder
    plain = why_not(file, recording.start)
    said = (
        plain or "; ".join(sorted(reasons - UNSPECIFIC)) or "no kind of file that is known here begins with such bytes"
    )
    raise UndecodableAudio(f"not audio that can be read here: {said}")


def open_beyond(file: ByteRange, recording: Recording, given: int) -> AudioDecoder:
    """Open a recording with FFmpeg behind the `given` frames that another decoder has already given out.

    Raises:
        UndecodableAudio: FFmpeg cannot read it.
    """
    decoder: AudioDecoder = DECODERS.load("ffmpeg")(file, recording, Wish(), given)
    return decoder


def _with_layout(decoder: AudioDecoder, file: ByteRange, recording: Recording, wish: Wish) -> AudioDecoder:
    try:
        better: AudioDecoder = _checked(DECODERS.load("ffmpeg")(file, recording, wish))
    except UndecodableAudio:
        return decoder
    decoder.close()
    return better


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
