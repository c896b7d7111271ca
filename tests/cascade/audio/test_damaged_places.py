"""A damaged place costs what is damaged, not what follows it, and the client is told how much is missing."""

import random
from collections.abc import Callable

import pytest
import soundfile

from tests.cascade.audio.reading import read_whole
from tests.containers import Track, written
from tests.sounds import sample

SENTENCE = sample("digits")
SECONDS = len(SENTENCE) / 16_000
RANDOM = random.Random(5).randbytes
MPEG = {"mp3": ("mp3", "libmp3lame"), "mp2": ("mp2", "mp2"), "aac": ("adts", "aac")}


@pytest.fixture(scope="module", params=MPEG)
def stream(request: pytest.FixtureRequest) -> bytes:
    form, codec = MPEG[request.param]
    return written(form, codec, Track(SENTENCE), rate=48_000)


DAMAGE: dict[str, tuple[Callable[[bytes, int], bytes], float]] = {
    "zeros": (lambda data, at: data[:at] + bytes(5000) + data[at + 5000 :], 5000),
    "random bytes": (lambda data, at: data[:at] + RANDOM(2048) + data[at + 2048 :], 2048),
    "bytes removed": (lambda data, at: data[:at] + data[at + 300 :], 300),
    "random bytes inserted": (lambda data, at: data[:at] + RANDOM(400_000) + data[at:], 0),
    "zeros inserted": (lambda data, at: data[:at] + bytes(400_000) + data[at:], 0),
    "a quarter removed": (lambda data, at: data[:at] + data[at + len(data) // 4 + 100 :], -1),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_what_follows_a_damaged_place_in_mpeg_audio_is_read(stream: bytes, how: str) -> None:
    damage, lost = DAMAGE[how]
    read = read_whole(damage(stream, len(stream) // 3))
    lost_s = (len(stream) // 4 if lost < 0 else lost) / len(stream) * SECONDS
    assert read.seconds == pytest.approx(SECONDS - lost_s, abs=0.4)
    assert "audio_damaged" in read.warnings


def test_the_warning_says_how_much_of_an_mp3_is_missing() -> None:
    whole = written("mp3", "libmp3lame", Track(SENTENCE), rate=48_000)
    cut = len(whole) // 4
    read = read_whole(whole[:cut] + whole[2 * cut + 100 :])
    assert f"{SECONDS - read.seconds:.1f}" in read.warnings["audio_truncated"]


def test_bytes_of_an_mp2_that_are_no_frames_are_given_in_seconds() -> None:
    whole = written("mp2", "mp2", Track(SENTENCE), rate=48_000)
    tenth = len(whole) // 10
    read = read_whole(whole[: 3 * tenth] + bytes(tenth) + whole[4 * tenth :])
    said = float(read.warnings["audio_damaged"].partition("(")[2].split()[0])
    assert said == pytest.approx(SECONDS / 10, abs=0.2)


def test_a_hole_in_flac_is_said_with_its_length() -> None:
    whole = written("flac", "flac", Track(SENTENCE), rate=16_000)
    quarter = len(whole) // 4
    read = read_whole(whole[:quarter] + whole[2 * quarter :])
    assert f"{SECONDS - read.seconds:.1f}" in read.warnings["audio_truncated"]


@pytest.mark.parametrize("name", ["mp3", "mp2"])
def test_mpeg_audio_is_read_by_ffmpeg(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr(soundfile, "SoundFile", opened.append)
    form, codec = MPEG[name]
    assert read_whole(written(form, codec, Track(SENTENCE))).seconds == pytest.approx(SECONDS, abs=0.1)
    assert not opened, "libsndfile stops at the first damaged place and prints to stderr"
