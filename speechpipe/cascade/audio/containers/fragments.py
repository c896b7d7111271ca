"""Fragmented MP4 with damaged places: the walk over its boxes goes on at the next fragment.

The box before the damage is made to reach to that fragment, so that the decoder steps over it. If fragments state their
place in the file, bytes are left out or repeated before them until it is right. Reference: ISO/IEC 14496-12, 8.8.
"""

import re
import struct
from dataclasses import dataclass, field

from speechpipe.cascade.audio.containers.byte_range import PIECE, ByteRange
from speechpipe.types import Notice

MAX_PLACES = 2_000
MOST_BYTES = 2**32 - 1
MOST_MOVED = 2**26
BOX_HEAD = 8
HEAD_BYTES = 56
BASE_IS_GIVEN = 1
"""Flag of `tfhd`: it has the offset in the file from which the samples' places are counted."""

_FRAGMENT = re.compile(rb"\x00[\x00-\x0f]..moof\x00\x00\x00\x10mfhd", re.DOTALL)
_OVERLAP = 24


@dataclass(slots=True)
class Mending:
    """What was found in one file: corrections for the decoder, and what is told to the client."""

    start: int  # of the recording
    patches: list[tuple[int, bytes]] = field(default_factory=list)
    cuts: list[tuple[int, int]] = field(default_factory=list)
    skipped: int = 0  # bytes that are not boxes
    missing: int = 0  # bytes that the boxes say but that are not there
    cut_off: int = 0  # the same at the end of the file
    places: int = 0
    shift: int = 0  # by which the decoder sees the bytes later than they are

    def pass_over(self, file: ByteRange, box: tuple[int, bytes, int], following: int) -> None:
        """Go on at the fragment at `following`, after `box`: (begin, name, end by its size)."""
        begin, name, at = box
        self.places += 1
        if name == b"moof":  # the index of a fragment without its samples
            self.skipped += following - begin
        else:
            self.skipped += max(0, following - at)
            self.missing += max(0, at - following)
        if name not in (b"moof", b"mdat"):
            self.cuts.append((min(at, following) - self.start, following - self.start))
            return
        moved = self._moved(file, following)
        if following - begin + moved < BOX_HEAD:  # a stated place that lies before the damaged box is wrong itself
            moved = 0
        if moved > 0:
            self.cuts.append((following - self.start, following - self.start - moved))  # some bytes are read twice
        elif moved < 0:
            self.cuts.append((following - self.start + moved, following - self.start))
        self.shift += moved
        size = min(following - begin + moved, MOST_BYTES)
        self.patches.append((begin - self.start, struct.pack(">I4s", size, b"free" if name == b"moof" else name)))

    def _moved(self, file: ByteRange, following: int) -> int:
        """Return by how many bytes the fragment has to move so that the place it states itself is right."""
        head = file.at(following, HEAD_BYTES)
        if head[36:40] != b"tfhd" or not head[43] & BASE_IS_GIVEN:
            return 0
        stated = int.from_bytes(head[48:56], "big")
        moved = stated - (following - self.start + self.shift)
        return moved if -MOST_MOVED < moved < min(MOST_MOVED, following - self.start) else 0

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Return what the client is told."""
        told = []
        where = "1 place" if self.places == 1 else f"{self.places} places"
        parts = [f"{self.skipped} bytes are not boxes of MP4"] if self.skipped else []
        parts += [f"{self.missing} bytes are missing"] if self.missing else []
        if parts:
            told.append(Notice("audio_damaged", f"{' and '.join(parts)} in {where}"))
        if self.cut_off:
            message = f"{self.cut_off} bytes of the last fragment are missing: the file was cut off"
            told.append(Notice("audio_truncated", message))
        return tuple(told)


def next_fragment(file: ByteRange, start: int, end: int) -> int | None:
    """Return where the next fragment (`moof`) begins between `start` and `end`; None if there is none."""
    while start < end:
        match = _FRAGMENT.search(file.at(start, min(PIECE, end - start) + _OVERLAP))
        if match is not None:
            return start + match.start() if start + match.start() < end else None
        start += PIECE
    return None
