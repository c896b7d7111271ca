"""Frame headers of mp3 (layers 1 to 3) and ADTS (aac), and a test whether a stream of frames begins at an offset.

References: ISO 11172-3 2.4.1.3 (header), ISO 13818-7 6.2 (ADTS).
"""

from functools import lru_cache
from typing import NamedTuple

from speechpipe.cascade.audio.containers.byte_range import ByteRange

_LAYER3 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_LAYER2 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
_LAYER1 = (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448)
_LOW1 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
_LOW23 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = (44_100, 48_000, 32_000)
ID3_HEAD_BYTES = 10
XING_BYTES = 64
UNKNOWN_FRAMES = 2**32 - 1
"""The number in a Xing tag that was written to a pipe."""

_ADTS_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)


class Header(NamedTuple):
    """One frame's header."""

    bytes: int
    samples: int
    rate_hz: int
    family: tuple[int, ...]  # properties that are constant within a stream


def frame_header(data: bytes, at: int = 0) -> Header | None:
    """Return the header of the mp3 or ADTS frame at `at`; None if there is none."""
    if len(data) < at + 7 or data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    second, third = data[at + 1], data[at + 2]
    return _adts(data, at) if second & 0xF6 == 0xF0 else _mpeg(second, third)


@lru_cache(maxsize=1024)
def _mpeg(second: int, third: int) -> Header | None:
    version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
    bits, rate_index = third >> 4, third >> 2 & 3
    if version == 1 or layer == 4 or bits in (0, 15) or rate_index == 3:
        return None
    rate = _RATES[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    table = (_LAYER1, _LAYER2, _LAYER3)[layer - 1] if version == 3 else _LOW1 if layer == 1 else _LOW23
    padding = third >> 1 & 1
    samples = {1: 384, 2: 1152}.get(layer, 1152 if version == 3 else 576)
    size = samples // 8 * table[bits] * 1000 // rate + padding
    if layer == 1:
        size = (12 * table[bits] * 1000 // rate + padding) * 4
    return Header(size, samples, rate, (version, layer, rate))


def _adts(data: bytes, at: int) -> Header | None:
    size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    rate_index = data[at + 2] >> 2 & 15
    if size < 8 or rate_index >= len(_ADTS_RATES):
        return None
    samples = 1024 * ((data[at + 6] & 3) + 1)
    return Header(size, samples, _ADTS_RATES[rate_index], (9, rate_index))


def xing_tag(frame: bytes) -> tuple[int, int] | None:
    """Return (offset of the number of frames, the number) of a Xing or Info tag in this frame; None without one."""
    body = frame[:XING_BYTES]
    for tag in (b"Xing", b"Info"):
        where = body.find(tag)
        if 4 <= where <= 40 and len(body) >= where + 12 and body[where + 7] & 1:
            return where + 8, int.from_bytes(body[where + 8 : where + 12], "big")
    return None


def frames_at(file: ByteRange, start: int) -> bool:
    """Whether a stream of frames begins at `start`: two consecutive frames of one family, perhaps after an ID3 tag."""
    head = file.at(start, 10)
    if head.startswith(b"ID3") and len(head) == 10 and head[3] in (2, 3, 4):
        return frames_at(file, start + id3_bytes(head))
    first = frame_header(head)
    if first is None:
        return False
    second = frame_header(file.at(start + first.bytes, 10))
    return second is not None and second.family == first.family


def is_id3(head: bytes | bytearray) -> bool:
    """Whether these first `ID3_HEAD_BYTES` are the header of an ID3v2 tag."""
    return (
        len(head) >= ID3_HEAD_BYTES
        and head.startswith(b"ID3")
        and head[3] < 0xFF
        and head[4] < 0xFF
        and all(byte < 0x80 for byte in head[6:ID3_HEAD_BYTES])
    )


def id3_bytes(head: bytes | bytearray) -> int:
    """Return the length in bytes of the ID3v2 tag with this header (10 bytes)."""
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size + (10 if head[5] & 0x10 else 0)
