"""Two recordings with other bytes between them, or the first one cut short: both are heard, whatever their kinds."""

import random

import numpy as np
import pytest

from tests.cascade.audio.reading import Read, read_whole
from tests.cascade.audio.test_damaged_places import MPEG
from tests.containers import Track, written
from tests.sounds import encoded, sample

FIRST, SECOND = sample("sentence_slt"), sample("sentence_awb")
BOTH_S = (len(FIRST) + len(SECOND)) / 16_000
RANDOM = random.Random(7).randbytes
OTHER_MPEG = {name: written(form, codec, Track(SECOND), rate=32_000) for name, (form, codec) in MPEG.items()}
STREAMS = OTHER_MPEG | {
    "mpegts": written("mpegts", "aac", Track(SECOND)),
    "ac3": written("ac3", "ac3", Track(SECOND)),
    "loas": written("latm", "aac", Track(SECOND)),
    "flac": encoded(SECOND, form="FLAC"),
    "wav": encoded(SECOND),
}
BETWEEN = {
    "nul": b"\0",
    "line end": b"\n",
    "ten bytes": RANDOM(10),
    "random": RANDOM(5000),
    "zeros": bytes(300),
    "text": b"--boundary\r\nContent-Type: audio/mpeg\r\n\r\n" * 20,
}
FIRSTS = {name: written(form, codec, Track(FIRST), rate=48_000) for name, (form, codec) in MPEG.items()} | {
    "flac": encoded(FIRST, form="FLAC"),
    "ogg": written("ogg", "libopus", Track(FIRST)),
    "webm": written("webm", "libopus", Track(FIRST)),
    "m4a": written("ipod", "aac", Track(FIRST)),
    "wav": encoded(FIRST),
    "wma": written("asf", "wmav2", Track(FIRST)),
    "mpegts": written("mpegts", "aac", Track(FIRST)),
}


def both_are_heard(data: bytes, least_s: float = BOTH_S - 0.4) -> Read:
    read = read_whole(data)
    assert least_s < read.seconds < BOTH_S + 0.4, read.warnings
    tail = read.audio[-int(len(SECOND) * 0.9) :]
    assert 0.02 < float(np.sqrt(np.mean(tail**2))) < 0.3, "neither silence nor noise"
    assert read.warnings["several_recordings"].startswith("2 recordings")
    return read


@pytest.mark.grid
@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("name", MPEG)
def test_mpeg_audio_at_another_rate_behind_other_bytes(name: str, between: str) -> None:
    read = both_are_heard(FIRSTS[name] + BETWEEN[between] + OTHER_MPEG[name])
    said = read.warnings.get("audio_damaged", "")
    assert said.startswith(f"{len(BETWEEN[between])} bytes") == (between in ("ten bytes", "random", "text")), said


@pytest.mark.grid
@pytest.mark.parametrize("second", STREAMS)
@pytest.mark.parametrize("first", MPEG)
def test_a_last_frame_that_is_cut_does_not_reach_into_the_next_recording(first: str, second: str) -> None:
    read = both_are_heard(FIRSTS[first][:-37] + STREAMS[second])
    assert "bytes" not in read.warnings.get("audio_damaged", "")


@pytest.mark.grid
@pytest.mark.parametrize("second", STREAMS)
@pytest.mark.parametrize("first", FIRSTS)
def test_a_line_end_between_two_recordings(first: str, second: str) -> None:
    if first != second or first in ("flac", "wav"):
        read = both_are_heard(FIRSTS[first] + b"\n" + STREAMS[second])
        assert list(read.warnings) == ["several_recordings"]


@pytest.mark.parametrize("second", ["mp3", "aac", "flac"])
def test_an_ogg_that_is_cut_is_called_that(second: str) -> None:
    read = both_are_heard(FIRSTS["ogg"][:-100] + STREAMS[second], BOTH_S - 1.3)
    assert "audio_damaged" not in read.warnings
    assert "audio_truncated" in read.warnings
