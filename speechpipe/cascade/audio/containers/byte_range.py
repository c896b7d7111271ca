"""A range of a file as a file of its own, with corrected bytes where the header lies."""

import os
from collections.abc import Iterator, Sequence

PIECE = 2**20


class ByteRange:
    """Reads bytes `start` to `end` of a descriptor by `pread`, so several may be open on it; seeks freely.

    Owns the descriptor it is given: `close` closes it. `window` returns ranges that own a duplicate.
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
        """Return a part of this range as a range of its own."""
        return ByteRange(os.dup(self.descriptor), self._start + start, self._start + end, patches)

    def at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset` on; fewer at the end."""
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
        """Return where `needle` stands first, at or after `start`; -1 if nowhere."""
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
        """Read on from where the last read ended."""
        data = self.at(self._at, len(self) - self._at if size < 0 else size)
        self._at += len(data)
        return data

    def readinto(self, buffer: bytearray) -> int:
        """Read into `buffer`; return how many bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; return the new place."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self)}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return the place where the next read begins."""
        return self._at

    def close(self) -> None:
        """Close the descriptor; may be called twice."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
