"""Files made to cost time before anything is decoded: the walk of their structure reads a bounded number of bytes."""

import os
import tempfile

import numpy as np
import pytest

from speechpipe.cascade.audio.containers.byte_range import ByteRange
from speechpipe.cascade.audio.containers.reasons import why_not
from speechpipe.cascade.audio.containers.walk import recording_at
from speechpipe.cascade.audio.parts import MAX_PARTS
from tests.sounds import Made

SIZE = 2**22
WAV = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\0\0\0\0"
AU = b".snd\0\0\0\x18\xff\xff\xff\xff\0\0\0\3\0\0\x3e\x80\0\0\0\1abcd"
FLAC = b"fLaC\0\0\0\x22" + bytes(34)
MP3 = b"\xff\xfb\x90\x00" + bytes(413)
HOSTILE = Made(
    {
        "sync bytes of transport streams": lambda: (b"\x47" + bytes(187)) * 4 + b"\x47" * SIZE,
        "false starts of headers": lambda: FLAC + b"FORM" * (SIZE // 4),
        "false pages": lambda: b"OggS\0\2" + bytes(21) + b"OggS" * (SIZE // 4),
        "empty pages": lambda: b"OggS\0\2" + bytes(21) + (b"OggS\0\0" + bytes(21)) * (SIZE // 27),
        "false frames": lambda: MP3 * 2 + b"\xff\xfb\x90\x00\x01" * (SIZE // 5),
        "shortest frames": lambda: b"\xff\xf1\x50\x40\x01\x00\xfc\x00" * (SIZE // 8),
        "empty boxes": lambda: b"\0\0\0\x08free" * (SIZE // 8),
        "headers of mp4": lambda: b"\0\0\0\x10ftypisom\0\0\0\0" * (SIZE // 16),
        "wav headers": lambda: WAV * (SIZE // len(WAV)),
        "au headers": lambda: AU * (SIZE // len(AU)),
        "noise": lambda: FLAC + np.random.default_rng(0).bytes(SIZE),
        "zeros": lambda: bytes(SIZE),
    }
)


class Counting(ByteRange):
    """Counts what is read."""

    reads = 0
    volume = 0

    def at(self, offset: int, size: int) -> bytes:
        """Read, and count it."""
        data = super().at(offset, size)
        Counting.reads += 1
        Counting.volume += len(data)
        return data


LONG = {"empty pages": pytest.mark.long}
"""Takes seven seconds; `shortest frames` has as many parts."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=LONG.get(name, ())) for name in sorted(HOSTILE)])
def test_the_walk_is_bounded(name: str) -> None:
    data = HOSTILE[name]
    Counting.reads = Counting.volume = 0
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        counting = Counting(os.dup(file.fileno()), 0, len(data))
        start: int | None = 0
        parts = 0
        while start is not None and parts < MAX_PARTS:
            recording = recording_at(counting, start)
            assert start < recording.end <= len(data)
            assert recording.next_start is None or recording.next_start > start, "it goes forward"
            start, parts = recording.next_start, parts + 1
        why_not(counting, 0)
        counting.close()
    assert Counting.volume < 200 * len(data)
    assert Counting.reads < 1_500_000
