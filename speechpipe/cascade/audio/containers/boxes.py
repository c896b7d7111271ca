"""MP4 and related formats (boxes), Matroska and WebM (elements): where a file ends if another follows."""

from dataclasses import replace

from speechpipe.cascade.audio.containers import Recording
from speechpipe.cascade.audio.containers.beginnings import begins_at
from speechpipe.cascade.audio.containers.byte_range import ByteRange
from speechpipe.cascade.audio.containers.fragments import MAX_PLACES, Mending, next_fragment
from speechpipe.cascade.audio.containers.leftovers import unread_bytes
from speechpipe.cascade.audio.containers.signatures import next_recording
from speechpipe.cascade.audio.containers.streams import next_beginning, next_stream
from speechpipe.types import Notice

MAX_BOXES = 100_000
MAX_ELEMENTS = 2_000_000
_CONTENT = (b"moov", b"mdat", b"moof")
_OUTER = {*(b"ftyp styp moov moof mfra mdat free skip wide udta meta sidx ssix emsg prft pdin uuid pnot").split()}
WINDOW = 2**16
_BLOCKS = (b"\xa3", b"\xa0")
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
    2: {b"\x58\x54"},
    1: {b"\xe7", b"\xa7", b"\xab", b"\xa3", b"\xa0", b"\xaf", b"\xec", b"\xbf"},
}


def mp4_recording(file: ByteRange, start: int) -> Recording:
    """Return the recording at `start`, by walking its outer boxes up to another recording or the end.

    After a damaged place of a fragmented file the walk goes on at the next fragment.
    """
    at, size, box = start, len(file), start
    seen: set[bytes] = set()
    last = b""
    mending = Mending(start)
    for _ in range(MAX_BOXES):
        name, end = _box(file, at)
        begun = name not in _CONTENT and not seen.isdisjoint(_CONTENT) and begins_at(file, at)
        if at >= size or begun:
            return _mended(Recording("mp4", start, min(at, size), next_start=at if begun else None), mending)
        if end > size and name not in _OUTER:
            name = b""
        broken = (not name or end <= at or end > size) and mending.places < MAX_PLACES
        if broken and (b"moof" in seen or ({b"moov"} <= seen and b"mdat" not in seen)):
            if end > size and name:
                box, last, at = at, name, end
            other = next_beginning(file, box + 8)
            following = next_fragment(file, box + 8, size if other is None else other)
            if following is not None:
                mending.pass_over(file, (box, last, at), following)
                at = following
                continue
            if at > size or other is not None:
                stop = size if other is None else other
                mending.cut_off = max(0, at - stop) if last in (b"moof", b"mdat") else 0
                unread = unread_bytes(file, at, stop)
                return _mended(Recording("mp4", start, min(at, stop), next_start=other, unread=unread), mending)
        if not name or end <= at:
            break
        seen.add(name)
        box, last = at, name
        if end > size:  # cut off, or a wrong length; a second file may begin inside
            search = next_recording if begins_at(file, at + 8) else next_beginning  # samples can be such a stream
            following = search(file, at + 8) if b"moov" in seen else None
            return Recording("mp4", start, size if following is None else following, next_start=following)
        at = end
    else:
        return _mended(Recording("mp4", start, size), mending)
    inside = next_recording(file, box + 8, end=at) if last == b"mdat" else None  # its length reaches into another file
    following = next_beginning(file, at) if inside is None else inside
    end = size if following is None else following
    # If the box of the audio has a too small length, more audio follows: the decoder gets all, as the index is right.
    if (last == b"mdat" and b"moof" not in seen) or not {b"moov", b"mdat"} <= seen:
        return Recording("mp4", start, end, next_start=following)
    unread = unread_bytes(file, at, end)
    return _mended(Recording("mp4", start, min(at, end), next_start=following, unread=unread), mending)


def _mended(recording: Recording, mending: Mending) -> Recording:
    notices, patches, cuts = mending.notices, tuple(mending.patches), tuple(mending.cuts)
    return replace(recording, notices=notices, patches=patches, cuts=cuts)


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

    Segments and clusters are walked element by element, as their sizes can be unknown (a live recording). After a
    damaged place the walk continues at the next cluster, as decoders do, unless another recording begins before it.
    """
    at, size = start + 4 + _span(file.at(start + 4, 8)), len(file)
    last, ended = at, False
    cluster_end = skipped = places = 0
    piece, piece_at = b"", 0
    for _ in range(MAX_ELEMENTS):
        if at == size:
            return _with_damage(Recording("matroska", start, size), skipped, places)
        if not piece_at <= at <= piece_at + len(piece) - 12:
            piece_at, piece = at, file.at(at, WINDOW)
        head = piece[at - piece_at : at - piece_at + 12]
        width = next((width for width in (1, 4, 2) if head[:width] in _ELEMENTS[width]), 0)
        if width:
            last = at
            name = head[:width]
            length, used = _vint(head[width:])
            ended = length >= 0 and name not in (_SEGMENT, _CLUSTER)
            at += width + used
            if name == _CLUSTER:
                cluster_end = at + length if length >= 0 else 0
            elif name != _SEGMENT:  # its content is a better indication of its end than its size
                at += max(0, length)
            if not last < cluster_end < at or cluster_end > size:
                continue
            at = last  # longer than its cluster
        elif begins_at(file, at):
            return _with_damage(Recording("matroska", start, at, next_start=at), skipped, places)
        # An element that was cut off can reach into the next file, so search from its beginning.
        within = at < cluster_end <= size
        behind = cluster_end if within and file.at(cluster_end, 4) in _ELEMENTS[4] | {b""} else -1
        in_block = file.at(last, 1) in _BLOCKS
        found = file.find(_CLUSTER, last + 4 if in_block else at)
        cluster = min((place for place in (found, behind) if place >= 0), default=-1)
        following = _other_before(file, last, last + 8 if in_block else at, size if cluster < 0 else cluster)
        if cluster < 0 or following is not None:
            end = size if following is None else following
            if 0 < at < min(cluster_end, end):  # of a cluster that does not end here
                skipped, places, ended = skipped + end - at, places + 1, False
            unread = unread_bytes(file, at, end) if ended and at < end else 0
            found_end = at if unread else end
            return _with_damage(
                Recording("matroska", start, found_end, next_start=following, unread=unread), skipped, places
            )
        skipped, places = skipped + cluster - (at if at < cluster else last), places + 1
        at, cluster_end = cluster, 0
    return _with_damage(Recording("matroska", start, size), skipped, places)


def _other_before(file: ByteRange, last: int, at: int, end: int) -> int | None:
    """Return where another recording begins within the element at `last` or behind it, before `end`."""
    signed = next_recording(file, last, end=end)
    stream = next_stream(file, at, end if signed is None else signed) if end == len(file) else None
    return signed if stream is None else stream


def _with_damage(recording: Recording, skipped: int, places: int) -> Recording:
    if not skipped:
        return recording
    where = "1 place" if places == 1 else f"{places} places"
    message = f"{skipped} bytes in {where} are not elements of Matroska, and were passed over up to the next cluster"
    return replace(recording, notices=(Notice("audio_damaged", message),))


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
