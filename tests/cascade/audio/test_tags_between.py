"""A tag hides no more than itself: what follows it is read or counted."""

import random
import struct

import pytest

from tests.cascade.audio.reading import read_whole
from tests.cascade.audio.test_bytes_between import FIRST, FIRSTS, STREAMS, both_are_heard

RANDOM = random.Random(8).randbytes
ID3V1 = b"TAG" + b"x" * 125


def ape(size: int) -> bytes:
    head = b"APETAGEX" + struct.pack("<IIII", 2000, size + 32, 1, 0xA0000000) + bytes(8)
    return head + b"z" * size + b"APETAGEX" + struct.pack("<IIII", 2000, size + 32, 1, 0x80000000) + bytes(8)


TAGS = {
    "ID3v1": ID3V1,
    "ID3v1 and padding": ID3V1 + bytes(4000) + ID3V1,
    "enhanced": b"TAG+" + b"y" * 223 + ID3V1,
    "ID3v2": b"ID3\x04\0\0\0\0\x07\x68" + b"q" * 1000,
    "APE": ape(700),
    "APE and ID3v1": ape(700) + ID3V1,
    "Lyrics3 v2": b"LYRICSBEGIN" + b"q" * 60 + b"000071LYRICS200" + ID3V1,
    "Lyrics3 v1": b"LYRICSBEGIN" + b"words " * 50 + b"LYRICSEND" + ID3V1,
    "ID3v2 footer": b"3DI\x03\0\0\0\0\0\0",
}
KINDS = ("mp3", "aac", "wav", "flac", "ogg", "webm", "m4a", "wma")


@pytest.mark.grid
@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("first", KINDS)
def test_a_recording_behind_a_tag_is_heard(first: str, tag: str) -> None:
    read = both_are_heard(FIRSTS[first] + TAGS[tag] + STREAMS["mp2" if first == "mp3" else "mp3"])
    assert list(read.warnings) == ["several_recordings"]


@pytest.mark.parametrize("second", STREAMS)
def test_any_recording_behind_a_tag_is_heard(second: str) -> None:
    both_are_heard(FIRSTS["wav"] + ID3V1 + STREAMS[second])


@pytest.mark.grid
@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("first", KINDS)
def test_bytes_behind_a_tag_are_counted(first: str, tag: str) -> None:
    read = read_whole(FIRSTS[first] + TAGS[tag] + b"\x01" + RANDOM(29_999))
    assert read.seconds == pytest.approx(len(FIRST) / 16_000, abs=0.2)
    said = read.warnings.get("audio_truncated") or read.warnings["audio_damaged"]
    assert said.startswith("30000 bytes")


@pytest.mark.grid
@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("first", KINDS)
def test_tags_alone_are_no_loss(first: str, tag: str) -> None:
    for behind in (b"", bytes(5000)):
        assert read_whole(FIRSTS[first] + TAGS[tag] + behind).warnings == {}
