"""AVI: the time units of audio chunks, as FFmpeg does not count empty chunks.

An AVI has no time stamps: the n-th chunk of a stream of frames (mp3, aac, ac3) is the n-th unit of time, and an empty
chunk is a gap. Reference: Microsoft's "AVI RIFF File Reference" (strh, idx1).
"""

import struct

from speechpipe.cascade.audio.containers.byte_range import ByteRange

MAX_ENTRIES = 2_000_000
HEADER = 64 * 1024


def units_of_chunks(file: ByteRange, stream: int) -> list[int]:
    """Return the time unit of each non-empty chunk of a stream; an empty list if no chunk is empty."""
    if not file.at(0, 12).startswith(b"RIFF") or not _framed(file.at(0, HEADER), stream):
        return []
    index = _index(file)
    if index is None:
        return []
    begin, size = index
    name = b"%02dwb" % stream
    units, number = [], 0
    for piece in file.pieces(begin, begin + min(size, 16 * MAX_ENTRIES)):
        for chunk, _, _, length in struct.iter_unpack("<4sIII", piece[: len(piece) // 16 * 16]):
            if chunk == name:
                if length:
                    units.append(number)
                number += 1
    return units if number > len(units) else []


def _framed(head: bytes, stream: int) -> bool:
    """Whether the stream's chunks are audio frames (`dwSampleSize` is 0) and not samples."""
    at = -1
    for _ in range(stream + 1):
        at = head.find(b"strh", at + 1)
        if at < 0:
            return False
    return head[at + 8 : at + 12] == b"auds" and head[at + 52 : at + 56] == bytes(4)


def _index(file: ByteRange) -> tuple[int, int] | None:
    """Return (offset, size in bytes) of the entries of the old index (idx1); None without one."""
    at = 12
    for _ in range(1000):
        head = file.at(at, 8)
        if len(head) < 8:
            return None
        size = int.from_bytes(head[4:], "little")
        if head.startswith(b"idx1"):
            return at + 8, size
        at += 8 + size + size % 2
    return None
