"""Ogg is heard to its last page, whatever stands behind it or between its pages."""

import random
import tempfile
from typing import BinaryIO, cast

import pytest

from speechpipe.cascade.audio.containers.byte_range import ByteRange
from speechpipe.cascade.audio.parts import open_bytes
from tests.cascade.audio.reading import read_whole
from tests.containers import Track, written
from tests.sounds import Made, encoded, encoded_by_ffmpeg, sample

SENTENCE = sample("sentence_slt")
SECONDS = len(SENTENCE) / 16_000
RANDOM = random.Random(5).randbytes
OGG = Made(
    {
        "opus": lambda: encoded_by_ffmpeg(SENTENCE, "ogg", "libopus"),
        "vorbis": lambda: encoded(SENTENCE, form="OGG", subtype="VORBIS"),
        "flac": lambda: written("ogg", "flac", Track(SENTENCE), rate=16_000),
    }
)
BEHIND = {
    "zeros": bytes(100_000),
    "random bytes": RANDOM(300_000),
    "text": b"this is not sound " * 10_000,
    "false pages": (b"OggS\0" + RANDOM(22)) * 5_000,
}


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("codec", OGG)
def test_the_last_page_is_heard_whatever_follows(codec: str, behind: str) -> None:
    read = read_whole(OGG[codec] + BEHIND[behind])
    assert read.seconds == pytest.approx(SECONDS, abs=0.05)
    assert ("audio_damaged" in read.warnings) == (behind != "zeros"), read.warnings
    if behind != "zeros":
        assert read.warnings["audio_damaged"].startswith(f"{len(BEHIND[behind])} bytes")


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("codec", OGG)
def test_both_of_two_recordings_with_other_bytes_between_them(codec: str, behind: str) -> None:
    read = read_whole(OGG[codec] + BEHIND[behind] + OGG[codec])
    assert read.seconds == pytest.approx(2 * SECONDS, abs=0.1)


@pytest.mark.parametrize("codec", OGG)
def test_many_bytes_between_two_pages(codec: str) -> None:
    pages = OGG[codec].split(b"OggS")
    middle = len(pages) * 2 // 3
    head, tail = b"OggS".join(pages[:middle]), b"OggS" + b"OggS".join(pages[middle:])
    read = read_whole(head + RANDOM(200_000) + tail)
    assert read.seconds == pytest.approx(SECONDS, abs=0.05)
    assert read.warnings["audio_damaged"].startswith("200000 bytes")


def test_a_page_that_is_cut_hides_no_other_recording() -> None:
    cut = OGG["opus"][: len(OGG["opus"]) // 2]
    read = read_whole(cut + OGG["vorbis"] + RANDOM(100_000))
    assert "several_recordings" in read.warnings
    assert read.seconds > SECONDS + 0.2


def test_a_range_without_its_cuts_reads_like_a_file() -> None:
    data = RANDOM(10_000)
    cuts = ((0, 7), (100, 100), (200, 5000), (9990, 10_000))
    wanted = data[7:200] + data[5000:9990]
    with tempfile.TemporaryFile() as file:
        file.write(b"before" + data)
        whole: ByteRange = open_bytes(cast("BinaryIO", file))
        part = whole.window(6, 6 + len(data), [(5500, b"patch")], cuts)
        wanted = wanted[:693] + b"patch" + wanted[698:]
        assert len(part) == len(wanted)
        assert part.read() == wanted
        assert [part.at(at, 300) for at in range(0, 6000, 150)] == [wanted[at : at + 300] for at in range(0, 6000, 150)]
        part.close()
        whole.close()
