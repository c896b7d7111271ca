"""The numbers of the segments that a worker is decoding, in memory shared with the server's process.

A worker holds many segments. When it dies or hangs, only those in progress are suspect. Shared memory survives the
worker, so that a segment that crashes workers does not use up the attempts of the other segments.
"""

import mmap
import os
import struct
import tempfile

MOST = 63
"""Segments that can be in progress at once."""

_NUMBER = struct.Struct("<q")
_SIZE = (MOST + 1) * _NUMBER.size


class InFlight:
    """A list of numbers in memory shared with the parent, ended by 0."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _SIZE)

    def set(self, *numbers: int) -> None:
        """Set the numbers of the segments in progress, at most `MOST`; without any, none is.

        The first number is written last: a worker that dies in between has no segment in progress.
        """
        _NUMBER.pack_into(self._memory, 0, 0)
        for place, number in reversed(list(enumerate((*numbers, 0)))):
            _NUMBER.pack_into(self._memory, place * _NUMBER.size, number)

    def get(self) -> tuple[int, ...]:
        """Return the numbers of the segments in progress."""
        numbers = [number for (number,) in _NUMBER.iter_unpack(self._memory[:_SIZE])]
        return tuple(numbers[: numbers.index(0)])

    def close(self) -> None:
        """Unmap the memory."""
        self._memory.close()


def inflight_descriptor() -> int:
    """Return a descriptor for an `InFlight`, for this process and a child that inherits it; the caller closes it.

    On Linux it is anonymous memory. Elsewhere it is a nameless file whose bytes are written: touching a hole of a
    sparse file ends the process with SIGBUS if the disk is full, while writing raises an error.

    Raises:
        OSError: no descriptor or no space is left.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("speechpipe-marker")
        try:
            os.truncate(descriptor, _SIZE)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(bytes(_SIZE))
        return os.dup(file.fileno())
