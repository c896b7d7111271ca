"""FLAC: the length by its header, and by the sample number in its last frame.

Reference: RFC 9639 (sections 8.2 STREAMINFO, 9.1 frame header).
"""

import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from speechpipe.cascade.audio.containers import GOES_ON, Recording
from speechpipe.cascade.audio.containers.beginnings import begins_at
from speechpipe.cascade.audio.containers.byte_range import PIECE, ByteRange
from speechpipe.cascade.audio.containers.leftovers import unread_bytes
from speechpipe.cascade.audio.containers.signatures import next_recording
from speechpipe.cascade.audio.containers.streams import next_stream
from speechpipe.types import Notice

TAIL = 2**18
MAX_FRAME = 2**18
HEADER_BYTES = 16
LEAST_FRAME = 8
_SYNC = re.compile(rb"\xff[\xf8\xf9]", re.DOTALL)
_SIZES = {1: 192} | {code: 576 << code - 2 for code in range(2, 6)} | {code: 256 << code - 8 for code in range(8, 16)}
INFO_BYTES = 42
MAX_BLOCKS = 1_000
UNKNOWN_SAMPLES = (1 << 36) - 1


def flac_recording(file: ByteRange, start: int) -> Recording:
    """Return the extent of the stream at `start`, with the header's number of samples corrected by the last frame."""
    following = next_recording(file, start + INFO_BYTES)
    end = len(file) if following is None else following
    info = file.at(start, INFO_BYTES)
    plain = Recording("flac", start, end, next_start=following)
    if len(info) < INFO_BYTES:
        return plain
    largest = int.from_bytes(info[10:12], "big")
    bits = int.from_bytes(info[18:26], "big")
    rate, total = bits >> 44, claimed_samples(bits)
    first = _first_frame(file, start, end)
    at, real = _last_frame(file, max(first, end - TAIL), end, largest)
    if first < end - TAIL and abs(real - total) > largest:  # other bytes may follow the stream
        at, real = _last_frame(file, first, end, largest)
    if not rate or not real:
        return plain
    behind, frame_end = _another_behind(file, at, end, int.from_bytes(info[12:15], "big"))
    if behind is not None:
        plain = replace(plain, end=behind, next_start=behind)
    elif (stream := next_stream(file, at + LEAST_FRAME, end)) is not None:
        plain = replace(plain, end=stream, next_start=stream, unread=unread_bytes(file, frame_end, stream))
    elif real >= total:
        plain = replace(plain, unread=unread_bytes(file, frame_end, end))
    if abs(real - total) <= largest:
        return plain
    patch = ((18, (bits >> 36 << 36 | real).to_bytes(8, "big")),)
    if not total:
        return replace(plain, patches=patch, unknown_length=True)
    notices = (Notice("header_too_short", GOES_ON.format(total / rate)),) if real > total else ()
    return replace(plain, patches=patch, claimed_s=total / rate, holds_s=real / rate, notices=notices)


def claimed_samples(bits: int) -> int:
    """Return the number of samples in bytes 10 to 17 of STREAMINFO; 0 if it is unknown (0, or all bits are set)."""
    total = bits & UNKNOWN_SAMPLES
    return 0 if total == UNKNOWN_SAMPLES else total


def _first_frame(file: ByteRange, start: int, end: int) -> int:
    at = start + 4
    for _ in range(MAX_BLOCKS):
        head = file.at(at, 4)
        if len(head) < 4 or at >= end:
            break
        at += 4 + int.from_bytes(head[1:], "big")
        if head[0] & 0x80:
            break
    return min(at, end)


def _last_frame(file: ByteRange, start: int, end: int, largest: int) -> tuple[int, int]:
    """Return (offset of the last frame, number of the sample after it); (start, 0) if there is none.

    A sync code with a right checksum can occur in audio data by chance, so a frame counts only if it begins at the
    sample at which another one ends, or at sample 0.
    """
    last, last_at, ends = 0, start, {0}
    while start < end:
        data = file.at(start, min(PIECE + HEADER_BYTES, end - start))
        for match in _SYNC.finditer(data, 0, PIECE + 1):
            begin, behind = frame_samples(data[match.start() : match.start() + HEADER_BYTES], largest)
            if behind and begin in ends:
                last, last_at = behind, start + match.start()
            ends.add(behind)
        start += PIECE
    return last_at, last


def _another_behind(file: ByteRange, frame_at: int, end: int, least: int) -> tuple[int | None, int]:
    """Return (where another recording begins after the frame at `frame_at`, the end of that frame).

    The end is found by the frame's checksum, which other bytes can have by chance; `least` is the header's smallest
    frame. It is `end` if nothing may follow.
    """
    data = file.at(frame_at, min(MAX_FRAME, end - frame_at))
    crc, first, count = 0, end, 0
    for count, byte in enumerate(data, 1):
        before, crc = crc, (crc << 8 & 0xFFFF) ^ _CRC16[crc >> 8 ^ byte]
        if crc or count <= LEAST_FRAME:
            continue
        if first == end and count >= least:
            first = frame_at + count
        if (before or byte) and begins_at(file, frame_at + count):
            return frame_at + count, frame_at + count
    return None, end if not crc and frame_at + count == end else first


def frame_samples(head: bytes, largest: int) -> tuple[int, int]:
    """Return (first sample, sample after the last) of the frame with this header; (0, 0) if it is not a header."""
    if len(head) < 7:
        return 0, 0
    size_code = head[2] >> 4
    number, used = _coded_number(head[4:11])
    if number < 0 or not size_code or head[3] & 1 or head[3] >> 4 > 10:
        return 0, 0
    at = 4 + used
    size = _SIZES.get(size_code, 0)
    if size_code in (6, 7):
        width = size_code - 5
        size = int.from_bytes(head[at : at + width], "big") + 1
        at += width
    at += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if len(head) <= at or _crc8(head[:at]) != head[at]:
        return 0, 0
    begin = number if head[1] & 1 else number * largest
    return begin, begin + size


def checksum(data: bytes | bytearray) -> int:
    """Return the CRC-16 of a frame including its last two bytes, which is 0 if the frame is complete.

    It is the sum of what each bit that is set adds, which has a period of `_CRC_PERIOD` bits.
    """
    crc = 0
    for at in range(0, len(data), _CRC_PIECE):
        piece = np.frombuffer(data, np.uint8, min(_CRC_PIECE, len(data) - at), at)
        behind = len(data) - at - len(piece)
        first = (16 + 8 * behind) % _CRC_PERIOD
        adds = _CRC_BITS[first : first + 8 * len(piece)][::-1]
        crc ^= int(np.bitwise_xor.reduce(adds[np.unpackbits(piece).view(np.bool_)], initial=0))
    return crc


def frame_bytes(data: bytes, least: int = 0) -> int:
    """Return the length of the frame at the beginning, by its checksum; 0 if it is incomplete.

    Other bytes can have the right checksum by chance; `least` is the header's smallest frame.
    """
    crc = 0
    for count, byte in enumerate(data[:MAX_FRAME], 1):
        crc = (crc << 8 & 0xFFFF) ^ _CRC16[crc >> 8 ^ byte]
        if not crc and count > LEAST_FRAME and count >= least:
            return count
    return 0


def _coded_number(data: bytes) -> tuple[int, int]:
    """Return (number, bytes used) of the UTF-8-like code; (-1, 0) if it is invalid."""
    first = data[0]
    if first < 0x80:
        return first, 1
    count = 0
    while first & 0x80 >> count and count < 8:
        count += 1
    if not 2 <= count <= 7 or len(data) < count:
        return -1, 0
    value = first & (0x7F >> count)
    for byte in data[1:count]:
        if byte & 0xC0 != 0x80:
            return -1, 0
        value = value << 6 | byte & 0x3F
    return value, count


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07 if crc & 0x80 else crc << 1) & 0xFF
    return crc


def _crc16_of(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = (crc << 1 ^ (0x8005 if crc & 0x8000 else 0)) & 0xFFFF
    return crc


_CRC16 = tuple(map(_crc16_of, range(256)))
_CRC_PIECE = 2**12
_CRC_PERIOD = 2**15 - 1


def _crc16_of_bits() -> NDArray[np.uint16]:
    """Return x to the power of n modulo the polynomial, for n from 0 to one period and a piece."""
    powers, power = [], 1
    for _ in range(_CRC_PERIOD):
        powers.append(power)
        power = (power << 1 ^ (0x18005 if power & 0x8000 else 0)) & 0xFFFF
    return np.resize(np.array(powers, np.uint16), _CRC_PERIOD + 8 * _CRC_PIECE)


_CRC_BITS = _crc16_of_bits()
