"""Damaged media files: real ones of every container, changed in a way that follows from a number."""

from collections.abc import Callable
from functools import cache, partial

import numpy as np

from tests.containers import Track, written
from tests.sounds import Made, encoded, sample

SHORT_S = 1.0
FORMS = [
    ("3gp", "aac"), ("ac3", "ac3"), ("adts", "aac"), ("asf", "wmav2"), ("avi", "libmp3lame"), ("caf", "alac"),
    ("eac3", "eac3"), ("flv", "aac"), ("ipod", "alac"), ("latm", "aac"), ("matroska", "libopus"), ("matroska", "flac"),
    ("mov", "pcm_s24le"), ("mp2", "mp2"), ("mp3", "libmp3lame"), ("mp4", "ac3"), ("mpeg", "mp2"), ("mpegts", "aac"),
    ("nut", "flac"), ("ogg", "flac"), ("opus", "libopus"), ("rm", "ac3"), ("sox", "pcm_s32le"), ("spdif", "ac3"),
    ("tta", "tta"), ("voc", "pcm_u8"), ("vob", "mp2"), ("w64", "pcm_s16le"), ("webm", "libopus"), ("wtv", "mp2"),
    ("wv", "wavpack"), ("swf", "libmp3lame"),
]  # fmt: skip
FILMS = [
    ("mp4", "aac"),
    ("matroska", "aac"),
    ("webm", "libopus"),
    ("mpegts", "aac"),
    ("mxf", "pcm_s16le"),
    ("avi", "mp2"),
]
SNDFILE = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"), ("WAVEX", "PCM_16"),
    ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("NIST", "PCM_16"), ("SVX", "PCM_16"), ("PAF", "PCM_16"),
    ("IRCAM", "PCM_16"), ("MAT4", "PCM_16"), ("XI", "DPCM_16"),
]  # fmt: skip
SIZES = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"\0\0\0\1", b"\1\0\0\0"]
BLOCK_SIGNS = [
    b"OggS",
    b"moof",
    b"mdat",
    b"moov",
    b"\x1f\x43\xb6\x75",
    b"data",
    b"LIST",
    b"fmt ",
    b"\x47\x41",
    b"\xff\xfb",
    b"\xff\xf1",
]


@cache
def seeds() -> Made[bytes]:
    """Return a sound file of each container by name, about one second long."""
    audio = sample("digits")[6000 : 6000 + round(SHORT_S * 16_000)]
    surround = np.stack([audio, -audio, audio, audio, audio, audio], axis=1)
    found: dict[str, Callable[[], bytes]] = {}
    for form, subtype in SNDFILE:
        found[f"sndfile-{form}-{subtype}"] = partial(encoded, audio, form=form, subtype=subtype)
    rates = {"flv": 44_100, "swf": 44_100}
    for form, codec in FORMS:
        found[f"{form}-{codec}"] = partial(written, form, codec, Track(audio), rate=rates.get(form, 48_000))
    for form, codec in FILMS:
        found[f"film-{form}-{codec}"] = partial(written, form, codec, Track(audio, starts_s=0.5), video_s=2.0)
    found["surround"] = partial(encoded, surround, 48_000, "WAVEX")
    found["fragments"] = partial(
        written, "mp4", "aac", Track(audio), options={"movflags": "frag_keyframe+empty_moov", "frag_duration": "200000"}
    )
    found["tracks"] = partial(written, "matroska", "libopus", Track(audio, default=False), Track(audio))
    found["hole"] = partial(written, "webm", "libopus", Track(audio, hole_at_s=0.5, hole_s=20.0))
    return Made(found)


Change = Callable[[bytearray, np.random.Generator], None]


def _flip_bits(data: bytearray, random: np.random.Generator) -> None:
    for at in random.integers(0, len(data), random.integers(1, 40)):
        data[at] ^= 1 << int(random.integers(0, 8))


def _damage_header(data: bytearray, random: np.random.Generator) -> None:
    for at in random.integers(0, min(len(data), 160), random.integers(1, 8)):
        data[at] = random.integers(0, 256)


def _lie_about_a_size(data: bytearray, random: np.random.Generator) -> None:
    sign = BLOCK_SIGNS[random.integers(0, len(BLOCK_SIGNS))]
    found = data.find(sign)
    at = max(0, found + int(random.integers(-4, 12))) if found >= 0 else int(random.integers(0, min(len(data), 200)))
    data[at : at + 4] = SIZES[random.integers(0, len(SIZES))]


def _cut_the_end(data: bytearray, random: np.random.Generator) -> None:
    del data[random.integers(1, len(data) + 1) :]


def _cut_the_beginning(data: bytearray, random: np.random.Generator) -> None:
    del data[: random.integers(1, max(2, len(data) // 2))]


def _cut_out(data: bytearray, random: np.random.Generator) -> None:
    at = random.integers(0, len(data))
    del data[at : at + random.integers(1, 2000)]


def _repeat(data: bytearray, random: np.random.Generator) -> None:
    at = random.integers(0, len(data))
    data[at:at] = data[at : at + random.integers(1, 2000)]


def _put_rubbish_in(data: bytearray, random: np.random.Generator) -> None:
    at = random.integers(0, len(data))
    data[at:at] = random.bytes(int(random.integers(1, 2000)))


def _swap_blocks(data: bytearray, random: np.random.Generator) -> None:
    places = sorted(int(at) for at in random.integers(0, len(data) + 1, 3))
    first, second, third = places
    data[first:third] = data[second:third] + data[first:second]


def _go_on_as_another(data: bytearray, random: np.random.Generator) -> None:
    names = sorted(seeds())
    other = seeds()[names[random.integers(0, len(names))]]
    data[random.integers(0, len(data)) :] = other[random.integers(0, len(other)) :]


def _put_another_behind(data: bytearray, random: np.random.Generator) -> None:
    names = sorted(seeds())
    data += seeds()[names[random.integers(0, len(names))]]


CHANGES: tuple[Change, ...] = (
    _flip_bits,
    _damage_header,
    _lie_about_a_size,
    _cut_the_end,
    _cut_the_beginning,
    _cut_out,
    _repeat,
    _put_rubbish_in,
    _swap_blocks,
    _go_on_as_another,
    _put_another_behind,
)


def mutant(number: int) -> bytes:
    """Return the `number`-th damaged file; the same number gives the same bytes."""
    random = np.random.default_rng(number)
    names = sorted(seeds())
    data = bytearray(seeds()[names[number % len(names)]])
    for _ in range(random.integers(1, 4)):
        CHANGES[random.integers(0, len(CHANGES))](data, random)
        if not data:
            data = bytearray(b"\0")
    return bytes(data)


def name_of(number: int) -> str:
    """Return the name of the file that this number changes."""
    names = sorted(seeds())
    return names[number % len(names)]
