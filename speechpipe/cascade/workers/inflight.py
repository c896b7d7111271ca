"""Which segment a worker has in hand, written where its death cannot take it along.

A worker holds many segments. When it dies or hangs, the one it was working on is suspect and the others are not:
without knowing which, one poisonous segment would use up the attempts of everybody beside it.
"""

import mmap
import os
import struct
import tempfile

_NUMBER = struct.Struct("<q")


class InFlight:
    """Eight bytes of memory shared with the parent."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _NUMBER.size)

    def set(self, number: int) -> None:
        """Say which segment is in hand; 0 for none."""
        _NUMBER.pack_into(self._memory, 0, number)

    def get(self) -> int:
        """Return the segment that was last in hand."""
        return int(_NUMBER.unpack_from(self._memory)[0])

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()


def marker_descriptor() -> int:
    """Return a descriptor for a `InFlight`, here and in the child that inherits it; the caller closes it.

    It is memory without a file where the system has that (Linux). Elsewhere it is a nameless file whose bytes are
    written, not only claimed: touching a hole for which a full file system has no block ends the process with SIGBUS,
    while writing fails with an error that can be told.

    Raises:
        OSError: no descriptor or no space is left.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("speechpipe-marker")
        try:
            os.truncate(descriptor, _NUMBER.size)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(bytes(_NUMBER.size))
        return os.dup(file.fileno())
