"""Damage inside a container is called damage, and not only a gap of its time stamps."""

import random

import pytest

from speechpipe.cascade.audio.containers.flac import checksum
from tests.cascade.audio.reading import read_whole
from tests.cascade.audio.test_live_damage import told
from tests.containers import Track, written
from tests.sounds import Made, encoded, sample

SENTENCE = sample("digits")
SECONDS = len(SENTENCE) / 16_000
RANDOM = random.Random(11).randbytes
FILES = Made(
    {
        "webm": lambda: written("webm", "libopus", Track(SENTENCE)),
        "mka": lambda: written("matroska", "aac", Track(SENTENCE)),
        "mka of one cluster a second": lambda: written(
            "matroska", "aac", Track(SENTENCE), options={"cluster_time_limit": "1000"}
        ),
        "live webm": lambda: written("webm", "libopus", Track(SENTENCE), options={"live": "1"}),
        "opus": lambda: written("ogg", "libopus", Track(SENTENCE)),
        "vorbis": lambda: encoded(SENTENCE, form="OGG", subtype="VORBIS"),
        "ogg flac": lambda: written("ogg", "flac", Track(SENTENCE), rate=16_000),
    }
)
DAMAGE = {
    "random": lambda data, at: data[:at] + RANDOM(2000) + data[at + 2000 :],
    "zeros": lambda data, at: data[:at] + bytes(2000) + data[at + 2000 :],
    "removed": lambda data, at: data[:at] + data[at + 2000 :],
    "inserted": lambda data, at: data[:at] + b"<html>Bad Gateway</html>" * 50 + data[at:],
}


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_bad_bytes_in_a_container_are_damage(name: str, how: str, share: float) -> None:
    data = FILES[name]
    read = read_whole(DAMAGE[how](data, int(len(data) * share)))
    assert "audio_damaged" in read.warnings


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_is_not_damaged(name: str) -> None:
    read = read_whole(FILES[name])
    assert read.warnings == {}
    assert read.seconds == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("name", ["opus", "vorbis"])
def test_one_wrong_byte_in_a_page_of_ogg_is_damage(name: str) -> None:
    data = FILES[name]
    at = data.index(b"OggS", len(data) // 2) + 300
    read = read_whole(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert read.warnings["audio_damaged"].endswith("bytes in 1 place are not intact Ogg pages")


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("size", [1, 100, 1500, 5000])
@pytest.mark.parametrize("how", ["removed", "overwritten"])
def test_a_hole_in_live_flac_is_damage(how: str, size: int, share: float) -> None:
    data = encoded(SENTENCE, form="FLAC")
    at = int(len(data) * share)
    instead = bytes(255 - byte for byte in data[at : at + size]) if how == "overwritten" else b""
    assert "audio_damaged" in told("flac", data[:at] + instead + data[at + size :])


def test_the_checksum_of_a_frame_is_that_of_its_bits() -> None:
    for size in (0, 1, 2, 4095, 4096, 4097, 9000):
        data, crc = RANDOM(size), 0
        for byte in data:
            for bit in range(8):
                crc = (crc << 1 ^ (0x8005 if (crc >> 15 ^ byte >> 7 - bit) & 1 else 0)) & 0xFFFF
        assert checksum(data) == crc
