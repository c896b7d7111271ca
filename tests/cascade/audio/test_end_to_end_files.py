"""Files put end to end, and headers that say less or more than the file holds."""

import io
import struct

import numpy as np
import pytest
import soundfile

from speechpipe.cascade.audio.containers.frames import frame_header
from speechpipe.cascade.audio.containers.ogg import checksum
from speechpipe.types import Samples
from tests.cascade.audio.reading import read_whole
from tests.containers import Track, end_to_end, written
from tests.sounds import encoded, sample, tone

FIRST, SECOND = sample("sentence_slt"), sample("sentence_awb")
BOTH_S = (len(FIRST) + len(SECOND)) / 16_000

SNDFILE = [
    ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("WAVEX", "PCM_16"), ("W64", "PCM_16"), ("RF64", "PCM_16"),
    ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("VOC", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"),
    ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip
FFMPEG = [
    ("ipod", "aac"), ("mp4", "aac"), ("mov", "pcm_s16le"), ("webm", "libopus"), ("matroska", "flac"),
    ("ogg", "libopus"), ("adts", "aac"), ("mp3", "libmp3lame"), ("asf", "wmav2"), ("flv", "aac"), ("avi", "pcm_s16le"),
    ("tta", "tta"), ("wv", "wavpack"), ("ac3", "ac3"), ("mpegts", "aac"), ("flac", "flac"),
]  # fmt: skip


def by_sndfile(audio: Samples, form: str, subtype: str) -> bytes:
    rate = 16_000
    if form == "VOC":
        audio, rate = np.repeat(audio, 1), 16_000
    return encoded(audio, rate, form, subtype)


def heard_apart(data: bytes, seconds: float = BOTH_S) -> None:
    read = read_whole(data)
    assert read.seconds == pytest.approx(seconds, abs=0.35)
    second = read.audio[-int(len(SECOND) * 0.9) :]
    assert float(np.sqrt(np.mean(second**2))) > 0.02, "the second recording is silent"


@pytest.mark.parametrize(("form", "subtype"), SNDFILE)
def test_both_recordings_of_two_files_end_to_end(form: str, subtype: str) -> None:
    heard_apart(end_to_end([by_sndfile(FIRST, form, subtype), by_sndfile(SECOND, form, subtype)]))


@pytest.mark.parametrize(("form", "codec"), FFMPEG)
def test_both_recordings_of_two_files_that_ffmpeg_wrote(form: str, codec: str) -> None:
    rate = 44_100 if form == "flv" else 48_000
    parts = [written(form, codec, Track(audio), rate=rate) for audio in (FIRST, SECOND)]
    heard_apart(end_to_end(parts))


def test_recordings_of_different_kind_rate_and_channels_follow_each_other() -> None:
    stereo = np.stack([SECOND, SECOND], axis=1)
    parts = [
        encoded(FIRST),
        encoded(stereo, form="FLAC"),
        written("ipod", "aac", Track(FIRST), rate=44_100),
        encoded(SECOND, form="MP3"),
        encoded(FIRST, form="AIFF"),
    ]
    data = end_to_end(parts)
    read = read_whole(data)
    assert read.seconds == pytest.approx((3 * len(FIRST) + 2 * len(SECOND)) / 16_000, abs=0.3)
    assert read.warnings["several_recordings"].startswith("5 recordings")


def test_a_hundred_recordings_and_rubbish_behind_them() -> None:
    one = encoded(tone(0.5))
    read = read_whole(end_to_end([one] * 100 + [b"this is not sound " * 200]))
    assert read.seconds == pytest.approx(50.0, abs=0.01)
    assert "3600 bytes" in read.warnings["audio_truncated"]


def test_tags_padding_and_small_leftovers_are_no_loss() -> None:
    whole = encoded(FIRST)
    for behind in (b"ID3\x03\0\0\0\0\x10\0" + bytes(2048), bytes(60_000), b"\r\n", b"TAG" + bytes(125)):
        assert read_whole(whole + behind).warnings == {}
    mp3 = encoded(FIRST, form="MP3")
    assert read_whole(mp3 + b"TAG" + b"title".ljust(125)).warnings == {}


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def wav_that_says(size: int) -> bytes:
    data = encoded(FIRST)
    return patched(data, data.index(b"data") + 4, struct.pack("<I", size))


def aiff_that_says(size: int) -> bytes:
    data = encoded(FIRST, form="AIFF")
    data = patched(data, data.index(b"SSND") + 4, struct.pack(">I", size + 8))
    return patched(data, data.index(b"COMM") + 10, struct.pack(">I", size // 2))


def caf_that_says(size: int) -> bytes:
    data = encoded(FIRST, form="CAF")
    return patched(data, data.index(b"data") + 4, struct.pack(">q", size + 4))


def w64_that_says(size: int) -> bytes:
    data = encoded(FIRST, form="W64")
    return patched(data, data.index(b"data") + 16, struct.pack("<Q", size + 24))


def rf64_that_says(size: int) -> bytes:
    data = encoded(FIRST, form="RF64")
    return patched(data, data.index(b"ds64") + 16, struct.pack("<Q", size))


def au_that_says(size: int) -> bytes:
    return patched(encoded(FIRST, form="AU"), 8, struct.pack(">I", size))


def flac_that_says(size: int) -> bytes:
    data = encoded(FIRST, form="FLAC")
    bits = int.from_bytes(data[18:26], "big")
    return patched(data, 18, (bits >> 36 << 36 | size // 2).to_bytes(8, "big"))


def mp3_that_says(size: int) -> bytes:
    data = encoded(FIRST, form="MP3")
    at = max(data.find(b"Xing"), data.find(b"Info"))
    assert at > 0, "the writer no longer writes a frame count"
    header = frame_header(data)
    assert header is not None
    return patched(data, at + 8, struct.pack(">I", size // 2 // header.samples))


LIES = {
    "wav": wav_that_says,
    "aiff": aiff_that_says,
    "caf": caf_that_says,
    "w64": w64_that_says,
    "rf64": rf64_that_says,
    "au": au_that_says,
    "flac": flac_that_says,
    "mp3": mp3_that_says,
}


@pytest.mark.parametrize("form", sorted(LIES))
def test_a_header_that_says_less_does_not_hide_the_rest(form: str) -> None:
    read = read_whole(LIES[form](2 * 16_000))
    assert read.seconds == pytest.approx(len(FIRST) / 16_000, abs=0.15)
    assert read.warnings["header_too_short"].startswith("the header says ")
    assert read.info.claimed_s == pytest.approx(1.0, abs=0.05), "the header's word stays on record"


@pytest.mark.parametrize("form", sorted(LIES))
def test_a_header_that_says_more_is_told(form: str) -> None:
    read = read_whole(LIES[form](2 * len(FIRST) * 10))
    assert read.seconds == pytest.approx(len(FIRST) / 16_000, abs=0.15)
    assert set(read.warnings) == {"audio_truncated"}


def test_a_second_file_behind_a_header_that_says_less() -> None:
    heard_apart(wav_that_says(2 * 16_000) + encoded(SECOND))
    heard_apart(mp3_that_says(2 * 16_000) + encoded(SECOND, form="MP3"))


def test_streamed_headers_do_not_swallow_the_next_file() -> None:
    for size in (0xFFFFFFFF, 0x7FFFFFFF):
        heard_apart(wav_that_says(size) + wav_that_says(size), 2 * len(FIRST) / 16_000)


def test_flac_from_a_pipe_is_read_to_its_last_sample() -> None:
    read = read_whole(flac_that_says(0))
    assert len(read.audio) == len(FIRST)
    assert read.warnings == {}
    assert read.info.claimed_s is None


@pytest.mark.parametrize(
    ("form", "codec"),
    [
        ("mp3", "libmp3lame"),
        ("adts", "aac"),
        ("ogg", "libopus"),
        ("mpegts", "aac"),
        ("flac", "flac"),
    ],
)
def test_bytes_that_were_passed_over_are_told_and_the_rest_is_read(form: str, codec: str) -> None:
    whole = written(form, codec, Track(np.concatenate([FIRST, SECOND])))
    half = len(whole) // 2
    read = read_whole(whole[:half] + np.random.default_rng(1).bytes(400) + whole[half:])
    assert "audio_damaged" in read.warnings
    assert read.seconds == pytest.approx(BOTH_S, abs=0.5)


def pages_of(data: bytes) -> list[bytearray]:
    pages, at = [], 0
    while at < len(data):
        segments = data[at + 26]
        size = 27 + segments + sum(data[at + 27 : at + 27 + segments])
        pages.append(bytearray(data[at : at + size]))
        at += size
    return pages


def ogg_that_says(data: bytes, page: int, granule: int) -> bytes:
    pages = pages_of(data)
    pages[page][6:14] = granule.to_bytes(8, "little", signed=True)
    pages[page][22:26] = bytes(4)
    pages[page][22:26] = checksum(pages[page]).to_bytes(4, "little")
    return b"".join(pages)


@pytest.mark.parametrize("granule", [16_000, 1, 0, -1])
def test_an_ogg_that_says_less_is_read_to_its_end(granule: int) -> None:
    for data in (encoded(FIRST, form="OGG"), written("ogg", "libopus", Track(FIRST))):
        read = read_whole(ogg_that_says(data, -1, granule))
        assert read.seconds == pytest.approx(len(FIRST) / 16_000, abs=0.05)
        assert "header_too_short" in read.warnings


def test_an_ogg_that_says_more_is_told() -> None:
    for data in (encoded(FIRST, form="OGG"), written("ogg", "libopus", Track(FIRST))):
        read = read_whole(ogg_that_says(data, -1, 60 * 48_000))
        assert read.seconds == pytest.approx(len(FIRST) / 16_000, abs=0.05)
        assert set(read.warnings) == {"audio_truncated"}


def test_a_lost_page_is_told_and_its_time_kept() -> None:
    pages = pages_of(written("ogg", "libopus", Track(np.concatenate([FIRST, SECOND]))))
    read = read_whole(b"".join(pages[:4] + pages[5:]))
    assert read.seconds == pytest.approx(BOTH_S, abs=0.1)
    assert set(read.warnings) == {"audio_damaged", "gap_filled"}


def test_parts_are_counted_in_the_limit_of_seconds() -> None:
    from speechpipe.errors import TooLarge

    with pytest.raises(TooLarge):
        read_whole(end_to_end([encoded(tone(2.0))] * 3), max_s=5.0)


def test_memory_files_are_read_as_well() -> None:
    """Small uploads arrive in memory; soundfile's own reader is the judge of the first of them."""
    data = encoded(FIRST)
    assert len(soundfile.read(io.BytesIO(data))[0]) == len(read_whole(data).audio)
