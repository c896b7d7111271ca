"""Tests whether a recording begins at an offset: with a header, or as a stream of frames or packets."""

from speechpipe.cascade.audio.containers.byte_range import ByteRange
from speechpipe.cascade.audio.containers.frames import frames_at
from speechpipe.cascade.audio.containers.signatures import kind_at

PACKET = 188
SYNC = 0x47
SURE_PACKETS = 4
"""Packets in a row that count as a transport stream."""

AC3 = b"\x0b\x77"
AC3_BYTES = 4096
DTS = b"\x7f\xfe\x80\x01"
PACK = b"\x00\x00\x01\xba"


def begins_at(file: ByteRange, at: int) -> bool:
    """Whether a known kind of recording begins exactly at `at`."""
    if kind_at(file, at) or in_step(file, at) or frames_at(file, at):
        return True
    head = file.at(at, 2 * AC3_BYTES)
    return head.startswith((DTS, PACK)) or _ac3(head) or _loas(file, at)


def _loas(file: ByteRange, at: int) -> bool:
    """Whether three frames of LOAS (AAC with a sync word of 11 bits and a length of 13 bits) follow each other."""
    for _ in range(3):
        head = file.at(at, 3)
        if len(head) < 3 or head[0] != 0x56 or head[1] & 0xE0 != 0xE0:
            return False
        at += 3 + ((head[1] & 0x1F) << 8 | head[2])
    return at <= len(file)


def _ac3(head: bytes) -> bool:
    """Whether three frames of AC-3 or E-AC-3 follow each other; their lengths may differ by one word."""
    if not head.startswith(AC3):
        return False
    length = head.find(AC3, 64)
    return length > 0 and any(head[2 * length + more :].startswith(AC3) for more in (-2, 0, 2))


def in_step(file: ByteRange, at: int) -> bool:
    """Whether `SURE_PACKETS` packets of a transport stream begin at `at`, or all that are left."""
    data = file.at(at, SURE_PACKETS * PACKET)
    return len(data) > PACKET and all(data[place] == SYNC for place in range(0, len(data), PACKET))
