"""The number of the segment that a worker is decoding, in memory shared with the server's process.

A worker holds many segments. When it dies or hangs, only the segment in progress is suspect. Shared memory survives the
worker, so that a segment that crashes workers does not use up the attempts of the other segments.
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
        """Set the number of the segment in progress; 0 for none."""
        _NUMBER.pack_into(self._memory, 0, number)

    def get(self) -> int:
        """Return the number of the segment in progress; 0 for none."""
        return int(_NUMBER.unpack_from(self._memory)[0])

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
            os.truncate(descriptor, _NUMBER.size)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(bytes(_NUMBER.size))
        return os.dup(file.fileno())
