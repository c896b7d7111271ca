"""Files as FFmpeg's libraries write them: the same sound comes back out of each, whatever it is packed in."""

import tempfile
from typing import BinaryIO, cast

import numpy as np
import pytest

from speechpipe.cascade.audio.source import AudioSource, ChannelChoice
from speechpipe.types import Samples
from tests.sounds import encoded_by_ffmpeg, sample

FORMS = {
    "m4a": ("ipod", "aac"),
    "mp4": ("mp4", "aac"),
    "webm": ("webm", "libopus"),
    "opus": ("opus", "libopus"),
    "mp3": ("mp3", "libmp3lame"),
    "aac": ("adts", "aac"),
    "wma": ("asf", "wmav2"),
    "mka": ("matroska", "aac"),
    "flac": ("flac", "flac"),
    "wav": ("wav", "pcm_s16le"),
    "aiff": ("aiff", "pcm_s16be"),
    "ac3": ("ac3", "ac3"),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_ffmpeg_writes(form: str) -> None:
    expected = sample("digits")
    with tempfile.TemporaryFile() as file:
        file.write(encoded_by_ffmpeg(expected, *FORMS[form], layout="stereo"))
        source = AudioSource(cast("BinaryIO", file), ChannelChoice())
        (got,) = (np.concatenate(parts) for parts in zip(*source.blocks(), strict=True))
        source.close()
    assert len(got) == pytest.approx(len(expected), abs=0.12 * 16_000)
    assert source.notices == []
    # The same sound: the envelopes agree, but for the delay that a codec brings.
    ours, theirs = envelope(got), envelope(expected)
    length = min(len(ours), len(theirs)) - 15
    fits = [np.corrcoef(ours[lag : lag + length], theirs[:length])[0, 1] for lag in range(15)]
    fits += [np.corrcoef(ours[:length], theirs[lag : lag + length])[0, 1] for lag in range(15)]
    assert max(fits) > 0.95


def envelope(audio: Samples) -> Samples:
    """Level of every 10 ms."""
    levels: Samples = np.sqrt(np.mean(audio[: len(audio) // 160 * 160].reshape(-1, 160) ** 2, axis=1))
    return levels
