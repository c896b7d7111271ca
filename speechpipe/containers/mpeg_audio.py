"""MPEG audio: the frames of mp3 (layers 1 to 3) and of ADTS (aac), one after the other.

Finds what decoders pass over in silence: bytes that are no frame, a Xing header with a wrong number of frames, and
where a second file begins. References: ISO 11172-3 2.4.1.3 (header), ISO 13818-7 6.2 (ADTS), Xing's and LAME's tag.
"""

import re
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from speechpipe.containers import GOES_ON, Recording
from speechpipe.containers.byte_range import PIECE, ByteRange
from speechpipe.containers.leftovers import TAGS
from speechpipe.containers.signatures import kind_at
from speechpipe.types import Notice

MAX_RESYNCS = 2_000
"""Broken places that are looked at; beyond, the rest counts as not looked at (and is still decoded)."""

MAX_TRIES = 50_000
MAX_FRAMES = 600_000
FRAMES_SLACK = 3
_LAYER3 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_LAYER2 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
_LAYER1 = (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448)
_LOW1 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
_LOW23 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = (44_100, 48_000, 32_000)
_ADTS_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
_SYNC = re.compile(rb"\xff[\xe2-\xff]", re.DOTALL)


class Header(NamedTuple):
    """One frame's header."""

    bytes: int
    samples: int
    rate_hz: int
    family: tuple[int, ...]  # what does not change within a stream


def frame_header(data: bytes, at: int = 0) -> Header | None:
    """Return the header of an mp3 or ADTS frame that begins at `at`; None if none does."""
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


@dataclass(slots=True)
class _Walk:
    file: ByteRange
    at: int
    frames: int = 0
    seconds: float = 0.0
    skipped: list[tuple[int, int]] = field(default_factory=list)
    next_start: int | None = None
    tried: int = 0
    _piece: bytes = b""
    _piece_at: int = 0

    def bytes_at(self, at: int, size: int) -> bytes:
        """Return a few bytes, from the piece that was read last where they are in it."""
        if not self._piece_at <= at <= self._piece_at + len(self._piece) - size:
            self._piece_at, self._piece = at, self.file.at(at, PIECE)
        return self._piece[at - self._piece_at : at - self._piece_at + size]


def frames_at(file: ByteRange, start: int) -> bool:
    """Whether a stream begins at `start`: ID3, or two frames of one kind, one after the other."""
    head = file.at(start, 10)
    if head.startswith(b"ID3") and len(head) == 10 and head[3] in (2, 3, 4):
        return frames_at(file, start + _id3_bytes(head))
    first = frame_header(head)
    if first is None:
        return False
    second = frame_header(file.at(start + first.bytes, 10))
    return second is not None and second.family == first.family


def mpeg_recording(file: ByteRange, start: int) -> Recording:
    """Walk the frames of the stream that begins at `start`, to its end or to where the next file begins."""
    walk = _Walk(file, start)
    if (head := file.at(start, 10)).startswith(b"ID3") and len(head) == 10:
        walk.at += _id3_bytes(head)
    first_at = walk.at
    first = frame_header(file.at(first_at, 10))
    kind = "aac" if first is not None and first.family[0] == 9 else "mp3"
    xing = None if first is None or kind == "aac" else _xing(file, first_at, first)
    complete = first is None or _walk(walk, first, after_xing=xing is not None)
    end = walk.next_start if walk.next_start is not None else len(file)
    notices = [] if first is None else _damage(walk)
    patches: tuple[tuple[int, bytes], ...] = ()
    claimed = None
    if first is not None and xing is not None and complete:
        count_at, count = xing
        real = walk.frames - 1  # the frame with the tag holds no sound
        if real > count + FRAMES_SLACK:
            patches = ((count_at - start, struct.pack(">I", real)),)
            claimed = count * first.samples / first.rate_hz
            notices.append(Notice("header_too_short", GOES_ON.format(claimed)))
    return Recording(kind, start, end, patches, claimed, next_start=walk.next_start, notices=tuple(notices))


def _id3_bytes(head: bytes) -> int:
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size + (10 if head[5] & 0x10 else 0)


def _xing(file: ByteRange, at: int, header: Header) -> tuple[int, int] | None:
    """Return (where the number of frames stands, the number) of a Xing or Info tag in this frame."""
    body = file.at(at, min(header.bytes, 64))
    for tag in (b"Xing", b"Info"):
        where = body.find(tag)
        if 4 <= where <= 40 and len(body) >= where + 12 and body[where + 7] & 1:
            return at + where + 8, int.from_bytes(body[where + 8 : where + 12], "big")
    return None


def _walk(walk: _Walk, first: Header, after_xing: bool) -> bool:
    """Step from frame to frame; return whether all of the file was looked at."""
    size = len(walk.file)
    while walk.at < size:
        if walk.frames >= MAX_FRAMES:
            return False
        data = walk.bytes_at(walk.at, 10)
        header = frame_header(data)
        if header is not None and header.family == first.family:
            if walk.frames and after_xing and _xing(walk.file, walk.at, header) is not None:
                walk.next_start = walk.at
                return True
            walk.frames += 1
            walk.seconds += header.samples / header.rate_hz
            walk.at += header.bytes
        elif not _pass(walk, first):
            return walk.next_start is not None or walk.at >= size
    return True


def _pass(walk: _Walk, first: Header) -> bool:
    """Pass what is no frame of this stream; return False at the next file, or where looking on is too much."""
    data = walk.bytes_at(walk.at, 16)
    if data.startswith(b"ID3") and len(data) >= 10 and frames_at(walk.file, walk.at):
        walk.next_start = walk.at
        return False
    if data.startswith(b"TAG"):
        walk.at += 128
        return True
    if data.startswith(b"APETAGEX") and len(data) == 16:
        walk.at += 32 + int.from_bytes(data[12:16], "little")
        return True
    if kind_at(walk.file, walk.at):
        walk.next_start = walk.at
        return False
    other = frame_header(data)
    if other is not None and frames_at(walk.file, walk.at):
        walk.next_start = walk.at
        return False
    begin = walk.at
    walk.at = _resync(walk, first)
    walk.skipped.append((begin, walk.at - begin))
    return len(walk.skipped) <= MAX_RESYNCS


def _resync(walk: _Walk, first: Header) -> int:
    """Return where the next frame of this stream begins after a broken place; the end of the file if none does."""
    at, size = walk.at + 1, len(walk.file)
    while at < size and walk.tried < MAX_TRIES:
        data = walk.file.at(at, PIECE)
        for match in _SYNC.finditer(data):
            header = frame_header(data[match.start() : match.start() + 10])
            if header is None or header.family != first.family:
                continue
            walk.tried += 1
            place = at + match.start()
            second = frame_header(walk.file.at(place + header.bytes, 10))
            if place + header.bytes >= size or (second is not None and second.family == first.family):
                return place
            if walk.tried >= MAX_TRIES:
                break
        at += max(1, len(data) - 1)
    return size


def _damage(walk: _Walk) -> list[Notice]:
    """Say how much was passed over; a cut last frame and padding are no damage."""
    count = places = 0
    for begin, size in walk.skipped:
        data = walk.file.at(begin, 4096)
        if data.startswith(TAGS) or len(set(data[:size])) <= 1:
            continue
        count, places = count + size, places + 1
    if not count:
        return []
    where = "1 place" if places == 1 else f"{places} places"
    return [Notice("audio_damaged", f"{count} bytes in {where} are no frames of sound and were passed over")]
