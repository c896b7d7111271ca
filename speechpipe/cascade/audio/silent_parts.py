"""Parts of live containers without audio (indexes, tags, padding), which must not be counted as lost audio.

References: ISO/IEC 14496-12 (boxes), RFC 8794 and RFC 9559 (EBML and Matroska's elements), APEv2 and ID3.
"""

import re
from collections.abc import Callable

from speechpipe.cascade.audio.containers.frames import frame_header, id3_bytes

Part = tuple[int, bool]
"""(bytes including the header, whether it contains no audio)."""

TO_THE_END: Part = (2**63, False)
BOX_HEAD_BYTES = 16
BOXES = (b"ftyp styp moov moof mfra free skip wide udta meta sidx ssix emsg prft pdin uuid").split()
ELEMENT_HEAD_BYTES = 12
OPEN_ELEMENTS = {b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"}
"""Segment and Cluster: their content is examined element by element, so that an unknown length does not matter."""

ELEMENTS = {
    b"\x1a\x45\xdf\xa3",  # EBML
    b"\x11\x4d\x9b\x74",  # SeekHead
    b"\x15\x49\xa9\x66",  # Info
    b"\x16\x54\xae\x6b",  # Tracks
    b"\x1c\x53\xbb\x6b",  # Cues
    b"\x10\x43\xa7\x70",  # Chapters
    b"\x19\x41\xa4\x69",  # Attachments
    b"\x12\x54\xc3\x67",  # Tags
    b"\xec",  # Void
    b"\xbf",  # CRC-32
    b"\xe7",  # Timestamp
    b"\xa7",  # Position
    b"\xab",  # PrevSize
}
TAG_HEAD_BYTES = 32
ID3V1_BYTES = 128
_NOT_ZERO = re.compile(rb"[^\x00]")
_MPEG = re.compile(rb"\xff[\xe2-\xff]|ID3|TAG|APETAGEX|\x00\x00", re.DOTALL)


class SilentParts:
    """Counts the bytes without audio while a container is read piece by piece; 0 for containers not in `PARTS`."""

    def __init__(self, name: str) -> None:
        """Begin at the first byte of a recording in container `name` (FFmpeg's name)."""
        self._part = PARTS.get(name)
        self._rest = b""
        self._left = 0
        self._silent = False

    def feed(self, data: bytes) -> int:
        """Take the next bytes; return how many contain no audio. An incomplete header is counted in the next call."""
        if self._part is None:
            return 0
        data, at, silent = self._rest + data, 0, 0
        while at < len(data):
            if self._left:
                passed = min(self._left, len(data) - at)
                self._left -= passed
                at += passed
                silent += passed if self._silent else 0
            elif (part := self._part(data, at)) is not None:
                self._left, self._silent = part
            else:
                break
        self._rest = data[at:]
        return silent


def _box(data: bytes, at: int) -> Part | None:
    if len(data) - at < BOX_HEAD_BYTES:
        return None
    size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
    if size == 1:
        size = int.from_bytes(data[at + 8 : at + 16], "big")
    if (kind != b"mdat" and kind not in BOXES) or 0 < size < 8:
        return TO_THE_END
    return (size or TO_THE_END[0]), kind in BOXES


def _element(data: bytes, at: int) -> Part | None:
    if len(data) - at < ELEMENT_HEAD_BYTES:
        return None
    width = 9 - data[at].bit_length()
    if width > 4 or not (first := data[at + width]):
        return TO_THE_END
    identity, size_width = data[at : at + width], 9 - first.bit_length()
    head = width + size_width
    if identity in OPEN_ELEMENTS:
        return head, True
    unknown = (1 << 7 * size_width) - 1
    size = int.from_bytes(data[at + width : at + head], "big") & unknown
    return TO_THE_END if size == unknown else (head + size, identity in ELEMENTS)


def _frame_or_tag(data: bytes, at: int) -> Part | None:
    head = data[at : at + TAG_HEAD_BYTES]
    if len(head) < TAG_HEAD_BYTES:
        return None
    if (header := frame_header(head)) is not None:
        return header.bytes, False
    if head.startswith(b"ID3"):
        return id3_bytes(head), True
    if head.startswith(b"TAG"):
        return ID3V1_BYTES, True
    if head.startswith(b"APETAGEX"):
        return TAG_HEAD_BYTES + int.from_bytes(head[12:16], "little"), True
    found = (_MPEG if head[0] else _NOT_ZERO).search(data, at + 1)  # skip padding
    return (found.start() if found is not None else len(data)) - at, not head[0]


PARTS: dict[str, Callable[[bytes, int], Part | None]] = {"mp4": _box, "matroska": _element, "mp3": _frame_or_tag}
