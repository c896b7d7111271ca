"""Two recordings with other bytes between them, or the first one cut short: both are heard, whatever their kinds."""

import random
from functools import partial

import numpy as np
import pytest

from tests.cascade.audio.reading import Read, read_whole
from tests.cascade.audio.test_damaged_places import MPEG
from tests.containers import Track, written
from tests.sounds import Made, encoded, sample

FIRST, SECOND = sample("sentence_slt"), sample("sentence_awb")
BOTH_S = (len(FIRST) + len(SECOND)) / 16_000
RANDOM = random.Random(7).randbytes
OTHER_MPEG = Made({name: partial(written, *kind, Track(SECOND), rate=32_000) for name, kind in MPEG.items()})
STREAMS = OTHER_MPEG | Made(
    {
        "mpegts": lambda: written("mpegts", "aac", Track(SECOND)),
        "ac3": lambda: written("ac3", "ac3", Track(SECOND)),
        "loas": lambda: written("latm", "aac", Track(SECOND)),
        "flac": lambda: encoded(SECOND, form="FLAC"),
        "wav": lambda: encoded(SECOND),
    }
)
BETWEEN = {
    "nul": b"\0",
    "line end": b"\n",
    "ten bytes": RANDOM(10),
    "random": RANDOM(5000),
    "zeros": bytes(300),
    "text": b"--boundary\r\nContent-Type: audio/mpeg\r\n\r\n" * 20,
}
FIRST_MPEG = Made({name: partial(written, *kind, Track(FIRST), rate=48_000) for name, kind in MPEG.items()})
FIRSTS = FIRST_MPEG | Made(
    {
        "flac": lambda: encoded(FIRST, form="FLAC"),
        "ogg": lambda: written("ogg", "libopus", Track(FIRST)),
        "webm": lambda: written("webm", "libopus", Track(FIRST)),
        "m4a": lambda: written("ipod", "aac", Track(FIRST)),
        "wav": lambda: encoded(FIRST),
        "wma": lambda: written("asf", "wmav2", Track(FIRST)),
        "mpegts": lambda: written("mpegts", "aac", Track(FIRST)),
    }
)


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
