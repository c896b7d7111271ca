"""`ByteRange`: a range of a file as a file object, with corrections (patches) of its bytes."""

import os
from collections.abc import Iterator, Sequence

PIECE = 2**20


class ByteRange:
    """The bytes `start` to `end` of a descriptor, read by `pread`, so that several ranges can share a file.

    It owns the descriptor: `close` closes it. `window` returns ranges with a duplicate of it.
    """

    def __init__(self, descriptor: int, start: int, end: int, patches: Sequence[tuple[int, bytes]] = ()) -> None:
        self.descriptor = descriptor
        self._start = start
        self._end = end
        self._patches = [(start + offset, data) for offset, data in patches]
        self._at = 0

    def __len__(self) -> int:
        return self._end - self._start

    def window(self, start: int, end: int, patches: Sequence[tuple[int, bytes]] = ()) -> "ByteRange":
        """Return a part of this range as a new range with its own descriptor."""
        return ByteRange(os.dup(self.descriptor), self._start + start, self._start + end, patches)

    def at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes at `offset`; fewer at the end."""
        begin = self._start + offset
        size = min(size, self._end - begin)
        if size <= 0 or offset < 0:
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
