"""Files written by another program than the library that reads them: Debian's `ffmpeg`."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pytest

from speechpipe.audio.source import AudioSource, ChannelChoice
from speechpipe.types import Samples
from tests.sounds import SAMPLES, sample

FORMS = ["m4a", "mp4", "webm", "ogg", "opus", "mp3", "aac", "wma", "mka", "flac", "wav", "aiff", "ac3"]


@pytest.mark.parametrize("form", FORMS)
def test_what_ffmpeg_writes(tmp_path: Path, form: str) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    path = tmp_path / f"a.{form}"
    codec = ["-c:a", "libopus"] if form == "webm" else []
    source_file = str(SAMPLES / "digits.flac")
    command = ["ffmpeg", "-loglevel", "error", "-i", source_file, "-ar", "48000", "-ac", "2", *codec, str(path)]
    subprocess.run(command, check=True)
    expected = sample("digits")
    with tempfile.TemporaryFile() as file:
        file.write(path.read_bytes())
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
