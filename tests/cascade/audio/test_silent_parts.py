"""Parts of containers without sound are counted alike however they are cut, and sound and garbage are not counted."""

from functools import cache

import pytest

from speechpipe.cascade.audio.silent_parts import SilentParts
from tests.sounds import Made, encoded_by_ffmpeg, tone

MDAT = (5000).to_bytes(4, "big") + b"mdat" + bytes(4992)
LARGE_FREE = b"\0\0\0\1free" + (3000).to_bytes(8, "big") + bytes(2984)
CLUSTER = b"\x1f\x43\xb6\x75\x01" + b"\xff" * 7 + b"\xe7\x81\x00"
BLOCK = b"\xa3\x44\x00" + bytes(1024)
CUES = b"\x1c\x53\xbb\x6b\x44\x00" + bytes(1024)
ID3 = b"ID3\x04\0\0\0\0\x10\0" + b"\xff\xfb\x90\x00" * 512
GARBAGE = bytes(range(256)) * 20


@cache
def mp3() -> bytes:
    return encoded_by_ffmpeg(tone(1.0), "mp3", "libmp3lame")[45:]  # without the tag before it


CASES: Made[tuple[str, bytes, int]] = Made(
    {
        "boxes": lambda: ("mp4", LARGE_FREE + MDAT + LARGE_FREE, 6000),
        "a box without an end": lambda: ("mp4", LARGE_FREE + b"\0\0\0\0mdat" + LARGE_FREE * 2, 3000),
        "garbage behind boxes": lambda: ("mp4", LARGE_FREE + GARBAGE + LARGE_FREE, 3000),
        "a box that is too small": lambda: ("mp4", LARGE_FREE + b"\0\0\0\4free" + LARGE_FREE, 3000),
        "elements": lambda: ("matroska", CLUSTER + BLOCK + CUES + BLOCK, len(CLUSTER) + len(CUES)),
        "garbage behind elements": lambda: ("matroska", CUES + GARBAGE + CUES, len(CUES)),
        "a block without a length": lambda: ("matroska", CLUSTER + b"\xa3\xff" + CUES, len(CLUSTER)),
        "tags": lambda: ("mp3", ID3 + mp3() + ID3, 2 * len(ID3)),
        "padding": lambda: ("mp3", mp3() + bytes(1023) + mp3(), 1023),
        "another container": lambda: ("ogg", GARBAGE, 0),
    }
)


@pytest.mark.parametrize("step", [1, 7, 4096, 10**6])
@pytest.mark.parametrize("case", CASES)
def test_what_holds_no_sound_is_counted(case: str, step: int) -> None:
    name, data, expected = CASES[case]
    parts = SilentParts(name)
    silent = [parts.feed(data[at : at + step]) for at in range(0, len(data), step)]
    assert sum(silent) == expected
    assert all(0 <= count <= step + 32 for count in silent)
