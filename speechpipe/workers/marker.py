"""Which segment a worker has in hand, written where its death cannot take it along.

A worker holds many segments. When it dies or hangs, the one it was working on is suspect and the others are not:
without knowing which, one poisonous segment would use up the attempts of everybody beside it.
"""

import mmap
import struct
import tempfile
from typing import IO

_NUMBER = struct.Struct("<q")


class Marker:
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


def marker_file() -> IO[bytes]:
    """Return a nameless file that holds a marker; its descriptor goes to the child."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.truncate(_NUMBER.size)
    return file
