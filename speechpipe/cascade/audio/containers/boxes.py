"""MP4 and related formats (boxes), Matroska and WebM (elements): where a file ends if another follows."""

from speechpipe.cascade.audio.containers import Recording
from speechpipe.cascade.audio.containers.beginnings import begins_at
from speechpipe.cascade.audio.containers.byte_range import ByteRange
from speechpipe.cascade.audio.containers.leftovers import is_ignored
from speechpipe.cascade.audio.containers.signatures import next_recording

MAX_BOXES = 100_000
MAX_ELEMENTS = 2_000_000
_SEGMENT = b"\x18\x53\x80\x67"
_CLUSTER = b"\x1f\x43\xb6\x75"
# By their width: the elements of a segment (seek head, info, tracks, cues, tags, chapters, attachments) and of a
# cluster (time, position, blocks). RFC 9559, section 5.
_ELEMENTS = {
    4: {
        _SEGMENT,
        _CLUSTER,
        *map(bytes.fromhex, ["114d9b74", "1549a966", "1654ae6b", "1c53bb6b", "1254c367", "1043a770", "1941a469"]),
    },
    3: set[bytes](),
    2: {b"\x58\x54"},
    1: {b"\xe7", b"\xa7", b"\xab", b"\xa3", b"\xa0", b"\xaf", b"\xec", b"\xbf"},
}


def mp4_recording(file: ByteRange, start: int) -> Recording:
    """Return the recording at `start`, by walking its outer boxes up to another recording or the end."""
    at, size = start, len(file)
    seen: set[bytes] = set()
    last = b""
    for _ in range(MAX_BOXES):
        if at >= size:
            return Recording("mp4", start, size)
        name, end = _box(file, at)
        if name not in (b"moov", b"mdat", b"moof") and seen & {b"moov", b"mdat", b"moof"} and begins_at(file, at):
            return Recording("mp4", start, at, next_start=at)
        if not name or end <= at:
            break
        seen.add(name)
        last = name
        if end > size:  # cut off, or a wrong length; a second file may begin inside
            following = next_recording(file, at + 8) if b"moov" in seen else None
            return Recording("mp4", start, size if following is None else following, next_start=following)
        at = end
    else:
        return Recording("mp4", start, size)
    following = next_recording(file, at)
    end = size if following is None else following
    # If the box of the audio has a too small length, more audio follows: the decoder gets all, as the index is right.
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
    """Return the recording at `start`, by walking its elements up to one that cannot be part of a segment.

    A segment or cluster of unknown size (a live recording) is walked element by element. After a damaged place the walk
    continues at the next cluster, unless another recording begins before it.
    """
    at, size = start + 4 + _span(file.at(start + 4, 8)), len(file)
    last, ended = at, False
    for _ in range(MAX_ELEMENTS):
        if at == size:
            return Recording("matroska", start, size)
        head = file.at(at, 12)
        width = next((width for width in (4, 3, 2, 1) if head[:width] in _ELEMENTS[width]), 0)
        if width:
            last = at
            length, used = _vint(head[width:])
            ended = length >= 0 and head[:width] not in (_SEGMENT, _CLUSTER)
            # Enter a segment: its content is a better indication of its end than its size.
            at += width + used + (0 if head[:width] == _SEGMENT else max(0, length))
            continue
        if begins_at(file, at):
            return Recording("matroska", start, at, next_start=at)
        # An element that was cut off can reach into the next file, so search from its beginning.
        cluster = file.find(_CLUSTER, at)
        following = next_recording(file, last, end=size if cluster < 0 else cluster)
        if cluster < 0 or following is not None:
            end = size if following is None else following
            unread = end - at if ended and at < end and not is_ignored(file, at, end) else 0
            return Recording("matroska", start, at if unread else end, next_start=following, unread=unread)
        at = cluster
    return Recording("matroska", start, size)


def _span(data: bytes) -> int:
    """Return the number of bytes of an element's size field and body."""
    length, used = _vint(data)
    return used + max(0, length)


def _vint(data: bytes) -> tuple[int, int]:
    """Return (value, bytes used) of an EBML number; the value is -1 if the size is unknown."""
    if not data or not data[0]:
        return -1, 1
    width = 9 - data[0].bit_length()
    if len(data) < width:
        return -1, width
    value = int.from_bytes(data[:width], "big") & (1 << 7 * width) - 1
    return (-1 if value == (1 << 7 * width) - 1 else value), width
