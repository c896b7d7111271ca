"""Recordings of different kinds end to end, headers that exaggerate, and samples in several chunks."""

import struct
from functools import cache

import numpy as np
import pytest

from tests.cascade.audio.reading import read_whole
from tests.cascade.audio.test_end_to_end_files import LIES
from tests.containers import Track, end_to_end, written
from tests.sounds import encoded, sample

FIRST, SECOND = sample("sentence_slt"), sample("sentence_awb")
BOTH_S = (len(FIRST) + len(SECOND)) / 16_000

SNDFILE = ("WAV", "FLAC", "AIFF", "AU", "CAF", "OGG", "MP3")
FFMPEG = {
    "webm": "libopus", "matroska": "flac", "ipod": "aac", "mp4": "aac", "ogg": "libopus", "adts": "aac",
    "mpegts": "aac", "asf": "wmav2", "flv": "aac", "avi": "pcm_s16le", "wv": "wavpack", "tta": "tta",
}  # fmt: skip
FOLLOWERS = ("WAV", "FLAC", "MP3", "adts", "mpegts", "webm", "ipod", "ogg")


@cache
def recorded(form: str, name: str) -> bytes:
    """Return a sample as a file of this kind."""
    audio = sample(name)
    if form in SNDFILE:
        return encoded(audio, form=form)
    return written(form, FFMPEG[form], Track(audio), rate=44_100 if form == "flv" else 48_000)


@pytest.mark.grid
@pytest.mark.parametrize("second", FOLLOWERS)
@pytest.mark.parametrize("first", [*SNDFILE, *FFMPEG])
def test_a_recording_of_another_kind_behind_it_is_heard(first: str, second: str) -> None:
    read = read_whole(end_to_end([recorded(first, "sentence_slt"), recorded(second, "sentence_awb")]))
    assert read.seconds == pytest.approx(BOTH_S, abs=0.4)
    assert "audio_truncated" not in read.warnings
    if first != second:  # a stream of frames or packets goes on in a second one of its kind
        assert read.warnings["several_recordings"].startswith("2 recordings")
    tail = read.audio[-int(len(SECOND) * 0.9) :]
    assert 0.02 < float(np.sqrt(np.mean(tail**2))) < 0.3, "neither silence nor noise"


def test_a_browsers_recording_without_sizes_ends_where_the_next_one_begins() -> None:
    data = written("webm", "libopus", Track(FIRST))
    at = data.index(b"\x18\x53\x80\x67") + 4
    unknown = data[:at] + b"\x01" + b"\xff" * 7 + data[at + 8 :]
    read = read_whole(unknown + encoded(SECOND, form="FLAC"))
    assert read.seconds == pytest.approx(BOTH_S, abs=0.3)


def test_a_cut_webm_does_not_hide_what_stands_behind_it() -> None:
    data = written("webm", "libopus", Track(FIRST))
    read = read_whole(data[: len(data) * 6 // 10] + encoded(SECOND))
    assert read.warnings["several_recordings"].startswith("2 recordings")
    assert "audio_truncated" in read.warnings or "audio_damaged" in read.warnings


@pytest.mark.parametrize("form", sorted(set(LIES) - {"wav", "mp3"}))
def test_a_header_that_exaggerates_is_no_reason_to_refuse(form: str) -> None:
    size = {"au": 0x7FFFFFFF, "aiff": 0xFFFFFFF0, "flac": 2**36}.get(form, 2**61)
    read = read_whole(LIES[form](size), max_s=7200.0)
    assert read.seconds == pytest.approx(len(FIRST) / 16_000, abs=0.1)
    assert "audio_truncated" in read.warnings


CHUNKS = {"WAV": (b"data", "<I", b""), "AIFF": (b"SSND", ">I", bytes(8)), "CAF": (b"data", ">q", bytes(4))}


def halves(form: str, between: bytes) -> tuple[bytes, bytes, bytes]:
    """Return (header with the first half's size, first half, second half with its own header) of a file of chunks."""
    name, size, head = CHUNKS[form]
    whole = encoded(FIRST, form=form)
    at = whole.index(name)
    begin = at + 4 + struct.calcsize(size) + len(head)
    samples = whole[begin : begin + 2 * len(FIRST)]
    half = len(samples) // 4 * 2
    first = whole[:at] + name + struct.pack(size, half + len(head)) + head
    second = between + name + struct.pack(size, len(samples) - half + len(head)) + head + samples[half:]
    return first, samples[:half], second


@pytest.mark.parametrize("form", ["WAV", "AIFF", "CAF"])
@pytest.mark.parametrize("listed", [False, True])
def test_samples_in_two_chunks_are_read_as_one(form: str, listed: bool) -> None:
    text = {"WAV": struct.pack("<4sI4s", b"LIST", 4, b"INFO"), "AIFF": struct.pack(">4sI4s", b"NAME", 4, b"some")}
    between = text.get(form, struct.pack(">4sq4s", b"info", 4, bytes(4))) if listed else b""
    first, one, two = halves(form, between)
    read = read_whole(first + one + two)
    assert read.seconds == pytest.approx(len(FIRST) / 16_000, abs=0.01)
    assert "header_too_short" in read.warnings
    middle = read.audio[len(one) // 2 : len(one) // 2 + 16]
    around = np.abs(read.audio[len(one) // 2 - 200 : len(one) // 2 + 200])
    assert np.abs(middle).max() <= around.max(), "no header is heard as sound"


def test_a_second_chunk_that_does_not_fit_is_told() -> None:
    first, one, two = halves("WAV", struct.pack("<4sI", b"LIST", 5) + b"INFO\0\0")
    stereo = first.replace(b"\x01\0\x01\0", b"\x01\0\x02\0", 1)
    odd = stereo.replace(struct.pack("<HH", 2, 16), struct.pack("<HH", 4, 16))
    read = read_whole(odd + one + two)
    assert "audio_truncated" in read.warnings


@pytest.mark.parametrize("video_s", [0.0, 6.0])
def test_a_late_track_of_a_wmv_is_no_loss(video_s: float) -> None:
    read = read_whole(written("asf", "wmav2", Track(FIRST, starts_s=2.0), video_s=video_s))
    assert "audio_truncated" not in read.warnings


def test_a_cut_voc_is_told() -> None:
    data = encoded(FIRST, form="VOC")
    read = read_whole(data[: len(data) * 6 // 10])
    assert "audio_truncated" in read.warnings
