"""Bytes behind the end of a recording are counted in every container, and are not taken for missing audio."""

import random

import pytest

from tests.cascade.audio.reading import read_whole
from tests.containers import Track, written
from tests.sounds import Made, encoded, sample

SENTENCE = sample("sentence_slt")
SECONDS = len(SENTENCE) / 16_000
FORMS = Made(
    {
        "flac": lambda: encoded(SENTENCE, form="FLAC"),
        "flac of ffmpeg": lambda: written("flac", "flac", Track(SENTENCE), rate=16_000),
        "wma": lambda: written("asf", "wmav2", Track(SENTENCE)),
        "wavpack": lambda: written("wv", "wavpack", Track(SENTENCE)),
        "tta": lambda: written("tta", "tta", Track(SENTENCE)),
        "avi": lambda: written("avi", "pcm_s16le", Track(SENTENCE)),
        "m4a": lambda: written("ipod", "aac", Track(SENTENCE)),
        "webm": lambda: written("webm", "libopus", Track(SENTENCE)),
    }
)


@pytest.mark.parametrize("size", [5000, 300_000])
@pytest.mark.parametrize("form", FORMS)
def test_bytes_behind_the_end_are_counted(form: str, size: int) -> None:
    read = read_whole(FORMS[form] + random.Random(size).randbytes(size))
    assert read.seconds == pytest.approx(SECONDS, abs=0.15)
    assert list(read.warnings) == ["audio_truncated"]
    assert read.warnings["audio_truncated"].startswith(f"{size} bytes")


@pytest.mark.parametrize("form", FORMS)
def test_padding_and_tags_behind_the_end_are_not(form: str) -> None:
    for behind in (bytes(70_000), b"TAG" + bytes(125), b"APETAGEX" + bytes(500)):
        assert read_whole(FORMS[form] + behind).warnings == {}


def test_a_flac_that_is_cut_has_nothing_behind_it() -> None:
    read = read_whole(FORMS["flac"][: len(FORMS["flac"]) * 2 // 3])
    assert "left out" not in read.warnings["audio_truncated"]
