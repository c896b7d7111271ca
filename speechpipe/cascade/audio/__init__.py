"""Decoding of audio files into blocks of float32 samples. `open_recording` selects the decoder by the bytes.

`libsndfile.py` reads what libsndfile supports (wav, flac, aiff, au, caf ...), `ffmpeg.py` the rest (mp3, m4a, mp4,
webm, ogg, aac, wma, amr, mxf, dts ...). `parts.py` reads several recordings in one file. `scale.py`, `mixdown.py`,
`resample.py`, `levels.py` and `features.py` process blocks.
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
"""Longest block that a decoder yields, in seconds; about one call of the VAD (512 frames of 32 ms)."""

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
"""Decoders in the order in which they are tried; FFmpeg is loaded only for what libsndfile cannot read."""

FFMPEG_FIRST = frozenset({"ogg", "mp3"})
"""Kinds for which FFmpeg is tried first.

Ogg has time stamps, which libsndfile does not report. At a damaged place in MPEG audio (layers 1 to 3) libsndfile's
decoder stops after 1,024 bytes and prints to stderr; FFmpeg continues at the next frame.
"""

UNSPECIFIC = frozenset({"Format not recognised", "Invalid data found when processing input", "unknown container"})
"""Messages of decoders that are useless to a client and are left out."""

FFMPEG_FOR_SURROUND = frozenset({"caf", "aiff"})
"""Kinds for which libsndfile does not report the channel layout."""

MPEG_AUDIO = "MP3"
"""libsndfile's name of MPEG audio, which it can also find where the bytes have no known kind."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The audio track to read (0-based; None: the default one), and the most seconds to read (None: no limit)."""

    track: int | None = None
    max_s: float | None = None


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """Format of a recording, from its header. `claimed_s` is the header's duration, which can be wrong.

    `layout` names the position of each channel (FL, FR, FC, LFE, BL ...), as FFmpeg does; None if not in the file.
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
    """Frames yielded before damage beyond which another decoder may be able to read; None: read to the end."""

    def blocks(self) -> Iterator[Samples]:
        """Yield float32 blocks of shape (frames, channels). Damage ends the iteration and adds a notice."""
        ...

    def close(self) -> None:
        """Release the file; may be called twice."""
        ...


def block_frames(rate_hz: int, channels: int) -> int:
    """Return the number of frames in a block, limited by `BLOCK_S` and `BLOCK_VALUES`."""
    return max(1, min(int(rate_hz * BLOCK_S), BLOCK_VALUES // channels))


def open_recording(file: ByteRange, recording: Recording, wish: Wish) -> AudioDecoder:
    """Open one recording of a file. The decoder is chosen by the bytes, not by a file name.

    Raises:
        UndecodableAudio: no decoder can read it, or its sample rate or number of channels is not supported.
        InvalidParameter: the requested track does not exist.
    """
    ffmpeg_first = recording.kind in FFMPEG_FIRST or (not recording.kind and _may_be_mpeg(file, recording.start))
    turn = ASKED_IN_TURN[::-1] if ffmpeg_first else ASKED_IN_TURN
    reasons = set()
    for number, name in enumerate(turn):
        try:
            decoder: AudioDecoder = _checked(DECODERS.load(name)(file, recording, wish))
        except UndecodableAudio as error:
            if error.cause != UndecodableAudio.cause:
                raise  # readable, but with an unsupported property
            reasons.add(error.message.partition(": ")[2] or error.message)
            continue
        surround = recording.kind in FFMPEG_FOR_SURROUND and decoder.info.channels > 2
        if name == "libsndfile" and number == 0 and (surround or decoder.info.container == MPEG_AUDIO):
            decoder = _by_ffmpeg(decoder, file, recording, wish)
        return decoder
    plain = why_not(file, recording.start)
    reason = plain or "; ".join(sorted(reasons - UNSPECIFIC)) or "no known file format begins with these bytes"
    raise UndecodableAudio(f"not audio that can be read here: {reason}")


def open_beyond(file: ByteRange, recording: Recording, given: int) -> AudioDecoder:
    """Open a recording with FFmpeg, to continue after the `given` frames that another decoder has yielded.

    What is missing is measured by `recording.claimed_s`.

    Raises:
        UndecodableAudio: FFmpeg cannot read it.
    """
    decoder: AudioDecoder = DECODERS.load("ffmpeg")(file, recording, Wish(), given)
    return decoder


def _may_be_mpeg(file: ByteRange, start: int) -> bool:
    """Whether libsndfile may take the bytes for MPEG audio, whose decoder prints to stderr."""
    head = file.at(start, 3)
    return head == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0")


def _by_ffmpeg(decoder: AudioDecoder, file: ByteRange, recording: Recording, wish: Wish) -> AudioDecoder:
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
        message = f"{info.channels} channels are not supported, only 1 to {MAX_CHANNELS}"
        raise UndecodableAudio(message, cause="unsupported_channels")
    return decoder
