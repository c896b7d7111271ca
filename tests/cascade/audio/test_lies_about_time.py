"""Containers whose times cannot be true: all of the audio is read, and it is said what was not believed."""

import os
import struct

import numpy as np
import pytest

from speechpipe.cascade.audio.containers.byte_range import ByteRange
from speechpipe.cascade.audio.containers.ogg import checksum
from speechpipe.cascade.audio.containers.stamps import MOST_PIECES, speed
from tests.cascade.audio.reading import read_whole
from tests.containers import Track, written
from tests.sounds import Made, encoded_by_ffmpeg, sample

SENTENCE = sample("sentence_slt")
SECONDS = len(SENTENCE) / 16_000
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
MP4 = Made(
    {
        "aac": lambda: written("ipod", "aac", Track(SENTENCE)),
        "alac": lambda: written("ipod", "alac", Track(SENTENCE)),
        "opus": lambda: written("mp4", "libopus", Track(SENTENCE)),
        "pcm": lambda: written("mov", "pcm_s16le", Track(SENTENCE)),
        "fragments": lambda: written("mp4", "aac", Track(SENTENCE), options=FRAGMENTED),
        "no edit list": lambda: written("mp4", "aac", Track(SENTENCE), options={"use_editlist": "0"}),
    }
)
TIME_BASES = (0, 1, 4_800, 24_000, 480_000, 2**32 - 1)


def put(data: bytes, name: bytes, behind: int, form: str, value: int) -> bytes:
    """Return the file with a value overwritten, `behind` bytes behind the last box of this name."""
    at = data.rindex(name) + behind
    return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]


def all_is_heard(data: bytes, code: str = "timestamps_ignored") -> None:
    read = read_whole(data)
    assert read.seconds == pytest.approx(SECONDS, abs=0.15)
    assert float(np.sqrt(np.mean(read.audio**2))) > 0.05
    assert code in read.warnings
    assert "gap_filled" not in read.warnings


@pytest.mark.parametrize("value", TIME_BASES)
@pytest.mark.parametrize("name", MP4)
def test_a_time_base_of_mp4_that_cannot_be_true(name: str, value: int) -> None:
    all_is_heard(put(MP4[name], b"mdhd", 16, ">I", value))


EDITS = {"ends at once": (12, ">I", 1), "begins before": (16, ">i", -1), "begins behind the end": (16, ">i", 10**9)}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("name", ["aac", "alac", "opus", "pcm"])
def test_an_edit_list_that_leaves_nothing(name: str, edit: str) -> None:
    all_is_heard(put(MP4[name], b"elst", *EDITS[edit]))


def test_an_edit_list_that_leaves_out_a_half_is_obeyed_and_said() -> None:
    read = read_whole(put(MP4["aac"], b"elst", 16, ">i", 96_000))
    assert read.seconds == pytest.approx(SECONDS - 2.0, abs=0.2)
    assert "audio_truncated" in read.warnings


def test_a_time_step_of_mp4_that_cannot_be_true() -> None:
    all_is_heard(put(MP4["aac"], b"stts", 16, ">I", 2**31))


@pytest.mark.parametrize("scale", [1, 10**5, 2 * 10**6, 10**7, 2**24 - 1])
@pytest.mark.parametrize("codec", ["libopus", "flac"])
def test_a_time_base_of_matroska_that_cannot_be_true(codec: str, scale: int) -> None:
    data = written("matroska", codec, Track(SENTENCE))
    at = data.index(b"\x2a\xd7\xb1\x83") + 4
    all_is_heard(data[:at] + scale.to_bytes(3, "big") + data[at + 3 :])


def with_right_checksums(data: bytes) -> bytes:
    pages = bytearray(data)
    at = 0
    while at < len(pages):
        size = 27 + pages[at + 26] + sum(pages[at + 27 : at + 27 + pages[at + 26]])
        pages[at + 22 : at + 26] = bytes(4)
        pages[at + 22 : at + 26] = checksum(pages[at : at + size]).to_bytes(4, "little")
        at += size
    return bytes(pages)


@pytest.mark.parametrize("samples", [48_000, 65_535])
def test_a_beginning_of_opus_that_cannot_be_silent(samples: int) -> None:
    data = bytearray(encoded_by_ffmpeg(SENTENCE, "ogg", "libopus"))
    at = data.index(b"OpusHead") + 10
    data[at : at + 2] = struct.pack("<H", samples)
    all_is_heard(with_right_checksums(bytes(data)))


def test_positions_of_ogg_that_would_end_it_early() -> None:
    data = bytearray(encoded_by_ffmpeg(SENTENCE, "ogg", "libopus"))
    at = 0
    while (at := data.find(b"OggS", at)) >= 0:
        (position,) = struct.unpack_from("<q", data, at + 6)
        struct.pack_into("<q", data, at + 6, position // 10)
        at += 4
    all_is_heard(with_right_checksums(bytes(data)))


@pytest.mark.parametrize("frames", [1, 10**6, 2**32 - 1])
def test_a_number_of_frames_of_mp3_that_is_wrong(frames: int) -> None:
    data = written("mp3", "libmp3lame", Track(SENTENCE))
    at = max(data.find(b"Xing"), data.find(b"Info")) + 8
    read = read_whole(data[:at] + struct.pack(">I", frames) + data[at + 4 :], max_s=60.0)
    assert read.seconds == pytest.approx(SECONDS, abs=0.15)
    assert ("audio_truncated" in read.warnings) == (frames == 10**6)


def test_speech_with_silence_that_is_not_sent_is_believed() -> None:
    frame = np.zeros((960, 1), np.float32)
    at_s, pieces = 0.0, []
    for number in range(MOST_PIECES):
        pieces.append((at_s, frame))
        at_s += 0.4 if number % 100 > 70 else 0.02
    assert speed(pieces, 48_000) is None
    assert speed([(2 * number * 0.02, frame) for number in range(100)], 48_000) == pytest.approx(2.0)


def test_a_range_opened_again_has_its_own_position() -> None:
    descriptor = os.memfd_create("bytes")
    os.write(descriptor, bytes(range(100)))
    one = ByteRange(descriptor, 10, 50, [(0, b"\xff")], [(5, 10)])
    one.read(3)
    other = one.again()
    assert other.read() == b"\xff" + bytes([11, 12, 13, 14]) + bytes(range(20, 50))
    assert one.tell() == 3
    one.close()
    other.close()
