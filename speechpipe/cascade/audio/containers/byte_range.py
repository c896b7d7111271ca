"""`ByteRange`: a range of a file as a file object, with corrections (patches) and without parts of it (cuts)."""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence

PIECE = 2**20


class ByteRange:
    """The bytes `start` to `end` of a descriptor, read by `pread`, so that several ranges can share a file.

    It owns the descriptor: `close` closes it. `window` returns ranges with a duplicate of it.
    """

    def __init__(
        self,
        descriptor: int,
        start: int,
        end: int,
        patches: Sequence[tuple[int, bytes]] = (),
        cuts: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Take over `descriptor`. Offsets of patches (offset, bytes) and cuts (begin, end) count from `start`."""
        self.descriptor = descriptor
        self._given = (start, end, tuple(patches), tuple(cuts))
        self._start = start
        self._end = end
        self._patches = [(start + offset, data) for offset, data in patches]
        self._at = 0
        self._length = end - start - sum(behind - begin for begin, behind in cuts)
        self._kept = list(_kept(end - start, cuts)) if cuts else []

    def __len__(self) -> int:
        return self._length

    def window(
        self,
        start: int,
        end: int,
        patches: Sequence[tuple[int, bytes]] = (),
        cuts: Sequence[tuple[int, int]] = (),
    ) -> "ByteRange":
        """Return a part of this range, which has no cuts, as a new range with its own descriptor."""
        return ByteRange(os.dup(self.descriptor), self._start + start, self._start + end, patches, cuts)

    def again(self) -> "ByteRange":
        """Return the same range with its own descriptor and position."""
        return ByteRange(os.dup(self.descriptor), *self._given)

    def at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes at `offset`; fewer at the end."""
        if offset < 0:
            return b""
        if not self._kept:
            return self._uncut(offset, size)
        parts = []
        number = max(0, bisect_right(self._kept, (offset, len(self) + 1, 0)) - 1)
        while size > 0 and number < len(self._kept):
            where, begin, length = self._kept[number]
            part = self._uncut(begin + offset - where, min(size, where + length - offset))
            parts.append(part)
            offset, size, number = offset + len(part), size - len(part), number + 1
        return b"".join(parts)

    def _uncut(self, offset: int, size: int) -> bytes:
        begin = self._start + offset
        size = min(size, self._end - begin)
        if size <= 0:
            return b""
        data = os.pread(self.descriptor, size, begin)
        for where, patch in self._patches:
            if where < begin + len(data) and where + len(patch) > begin:
                low, high = max(where, begin), min(where + len(patch), begin + len(data))
                data = data[: low - begin] + patch[low - where : high - where] + data[high - begin :]
        return data

    def find(self, needle: bytes, start: int = 0, end: int | None = None) -> int:
        """Return the first offset of `needle` at or after `start` and before `end`; -1 if there is none."""
        end = len(self) if end is None else min(end, len(self))
        while start + len(needle) <= end:
            piece = self.at(start, min(PIECE, end - start))
            if (found := piece.find(needle)) >= 0:
                return start + found
            start += max(1, len(piece) - len(needle) + 1)
        return -1

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to `end`, a mebibyte at a time."""
        while start < end and (piece := self.at(start, min(PIECE, end - start))):
            yield piece
            start += len(piece)

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes at the current position; all if negative."""
        data = self.at(self._at, len(self) - self._at if size < 0 else size)
        self._at += len(data)
        return data

    def readinto(self, buffer: bytearray) -> int:
        """Read into `buffer`; return the number of bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the current position and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self)}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return the current position."""
        return self._at

    def close(self) -> None:
        """Close the descriptor; may be called twice."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _kept(size: int, cuts: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Yield (offset without the cuts, offset with them, length) of each part between cuts that are in order."""
    where = at = 0
    for begin, end in [*cuts, (size, size)]:
        if begin > at:
            yield where, at, begin - at
            where += begin - at
        at = end
