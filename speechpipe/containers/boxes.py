"""MP4 and its kin (boxes), and Matroska and WebM (elements): how far one file goes when another follows."""

from speechpipe.containers import Recording
from speechpipe.containers.byte_range import ByteRange
from speechpipe.containers.leftovers import is_ignored
from speechpipe.containers.signatures import kind_at, next_recording

MAX_BOXES = 100_000
_SEGMENT = b"\x18\x53\x80\x67"


def mp4_recording(file: ByteRange, start: int) -> Recording:
    """Walk the outer boxes from `start` to the next `ftyp` behind an index or sound."""
    at, size = start, len(file)
    seen: set[bytes] = set()
    last = b""
    for _ in range(MAX_BOXES):
        if at >= size:
            return Recording("mp4", start, size)
        name, end = _box(file, at)
        if (not name or name == b"ftyp") and seen & {b"moov", b"mdat", b"moof"} and kind_at(file, at):
            return Recording("mp4", start, at, next_start=at)
        if not name or end <= at:
            break
        seen.add(name)
        last = name
        if end > size:  # cut off, or a length that lies; a second file may stand inside
            following = next_recording(file, at + 8, ["mp4"]) if b"moov" in seen else None
            return Recording("mp4", start, size if following is None else following, next_start=following)
        at = end
    else:
        return Recording("mp4", start, size)
    following = next_recording(file, at)
    end = size if following is None else following
    # Behind the sound may be more of it, if its box says too little: the index knows, so the decoder is given all.
    if last == b"mdat" or not {b"moov", b"mdat"} <= seen:
        return Recording("mp4", start, end, next_start=following)
    unread = 0 if is_ignored(file, at, end) else end - at
    return Recording("mp4", start, at, next_start=following, unread=unread)


def _box(file: ByteRange, at: int) -> tuple[bytes, int]:
    head = file.at(at, 16)
    if len(head) < 8 or not all(32 <= byte < 127 or byte == 0xA9 for byte in head[4:8]):
        return b"", 0
    size = int.from_bytes(head[:4], "big")
    if size == 1 and len(head) == 16:
        size = int.from_bytes(head[8:16], "big")
    elif size == 0:
        return head[4:8], len(file)
    return (head[4:8], at + size) if size >= 8 else (b"", 0)


def matroska_recording(file: ByteRange, start: int) -> Recording:
    """Return the range from `start` to the next EBML header that stands behind this file's segment."""
    behind = start + 4
    found = file.find(_SEGMENT, start, start + 4096)
    if found >= 0:
        size, width = _vint(file.at(found + 4, 8))
        end = found + 4 + width + size
        if size >= 0 and end <= len(file):
            behind = end
    following = next_recording(file, behind, ["matroska"])
    return Recording("matroska", start, len(file) if following is None else following, next_start=following)


def _vint(data: bytes) -> tuple[int, int]:
    """Return (value, bytes) of an EBML number; -1 if the size is not known."""
    if not data or not data[0]:
        return -1, 1
    width = 9 - data[0].bit_length()
    if len(data) < width:
        return -1, width
    value = int.from_bytes(data[:width], "big") & (1 << 7 * width) - 1
    return (-1 if value == (1 << 7 * width) - 1 else value), width
