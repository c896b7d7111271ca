"""Containers for which only the length is read: avi, asf, voc, flv, wv, tta, sox, and kinds without a length."""

import re
import struct
from collections.abc import Callable

from speechpipe.cascade.audio.containers import Recording
from speechpipe.cascade.audio.containers.beginnings import begins_at
from speechpipe.cascade.audio.containers.byte_range import ByteRange
from speechpipe.cascade.audio.containers.leftovers import behind_tags, unread_bytes
from speechpipe.cascade.audio.containers.signatures import next_recording
from speechpipe.cascade.audio.containers.streams import next_stream

MAX_BLOCKS = 1_000_000
ASF_PACKET = b"\x82\x00\x00"
_AVI_CHUNK = re.compile(rb"\d\d[a-z]{2}|ix\d\d|idx1|LIST|JUNK|RIFF")
SURE = ("asf", "avi", "tta", "wv")
"""Kinds whose stated end is known to be the end if nothing of the recording follows it."""

ASF_PROPERTIES = b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65"


def counted_recording(file: ByteRange, start: int, kind: str) -> Recording:
    """Return the recording up to the next one of any kind; `open_end` if the file ends before its stated length."""
    stated = ENDS[kind](file, start) if kind in ENDS else -1
    if start < stated < len(file) and begins_at(file, stated):
        return Recording(kind, start, stated, next_start=stated)
    following = next_recording(file, start + 1)
    end = len(file) if following is None else following
    if kind in SURE and start < stated < end and not _goes_on(file, kind, stated, end):
        stream = next_stream(file, behind_tags(file, stated, end), end)
        following, end = (following, end) if stream is None else (stream, stream)
        unread = unread_bytes(file, stated, end)
        # FFmpeg computes durations of ASF and AVI from the size of the file, and takes what follows WavPack for damage.
        last = end if kind == "tta" else stated
        return Recording(kind, start, last, next_start=following, unread=unread)
    return Recording(kind, start, end, next_start=following, open_end=kind in REPORT_CUT and stated > end)


def _goes_on(file: ByteRange, kind: str, at: int, end: int) -> bool:
    """Whether more of the recording follows its stated end."""
    head = file.at(at, 4)
    if kind == "wv":
        return file.find(b"wvpk", at, end) >= 0
    return head.startswith(ASF_PACKET) if kind == "asf" else kind == "avi" and _AVI_CHUNK.match(head) is not None


def _avi(file: ByteRange, start: int) -> int:
    at = start
    for _ in range(MAX_BLOCKS):
        head = file.at(at, 12)
        if head[:4] != b"RIFF" or (at > start and head[8:] != b"AVIX"):
            break
        size = int.from_bytes(head[4:8], "little")
        at += 8 + size + size % 2
    return at


def _asf(file: ByteRange, start: int) -> int:
    at = file.find(ASF_PROPERTIES, start, start + 4096)
    return -1 if at < 0 else start + int.from_bytes(file.at(at + 40, 8), "little")


def _voc(file: ByteRange, start: int) -> int:
    at = start + int.from_bytes(file.at(start + 20, 2), "little")
    for _ in range(MAX_BLOCKS):
        head = file.at(at, 4)
        if not head or not head[0]:
            return at + len(head[:1])
        at += 4 + int.from_bytes(head[1:], "little")
    return -1


def _flv(file: ByteRange, start: int) -> int:
    at = start + 13
    for _ in range(MAX_BLOCKS):
        head = file.at(at, 4)
        if len(head) < 4 or head[0] not in (8, 9, 18):
            return at
        at += 15 + int.from_bytes(head[1:], "big")
    return -1


def _wv(file: ByteRange, start: int) -> int:
    at = start
    for _ in range(MAX_BLOCKS):
        head = file.at(at, 8)
        if len(head) < 8 or head[:4] != b"wvpk":
            return _behind_tag(file, at)
        at += 8 + int.from_bytes(head[4:], "little")
    return -1


def _tta(file: ByteRange, start: int) -> int:
    head = file.at(start, 22)
    if len(head) < 22:
        return -1
    rate, samples = int.from_bytes(head[10:14], "little"), int.from_bytes(head[14:18], "little")
    frames = -(-samples // max(1, rate * 256 // 245))
    if not 0 < frames <= MAX_BLOCKS:
        return -1
    table = file.at(start + 22, 4 * frames)
    sizes = struct.unpack(f"<{len(table) // 4}I", table[: len(table) // 4 * 4])
    return _behind_tag(file, start + 22 + 4 * frames + 4 + sum(sizes))


def _sox(file: ByteRange, start: int) -> int:
    head = file.at(start, 16)
    return start + 4 + int.from_bytes(head[4:8], "little") + 4 * int.from_bytes(head[8:], "little")


def _behind_tag(file: ByteRange, at: int) -> int:
    """Return the end of an APE tag at `at`; `at` if there is none."""
    head = file.at(at, 16)
    return at + 32 + int.from_bytes(head[12:], "little") if head.startswith(b"APETAGEX") else at


ENDS: dict[str, Callable[[ByteRange, int], int]] = {
    "avi": _avi,
    "asf": _asf,
    "voc": _voc,
    "flv": _flv,
    "wv": _wv,
    "tta": _tta,
    "sox": _sox,
}
REPORT_CUT = ("avi", "voc", "wv")
"""Kinds for which no decoder reports that the file was cut off."""
