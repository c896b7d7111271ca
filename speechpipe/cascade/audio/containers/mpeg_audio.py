"""MPEG audio: streams of mp3 frames (layers 1 to 3) and of ADTS frames (aac).

Finds what decoders skip without a report: bytes that are not frames, a Xing header with a wrong number of frames, and
the beginning of a second file. Reference: Xing's and LAME's tag.
"""

import re
import struct
from dataclasses import dataclass, field

from speechpipe.cascade.audio.containers import GOES_ON, TRIVIAL_S, Recording
from speechpipe.cascade.audio.containers.beginnings import begins_at
from speechpipe.cascade.audio.containers.byte_range import PIECE, ByteRange
from speechpipe.cascade.audio.containers.frames import (
    UNKNOWN_FRAMES,
    XING_BYTES,
    Header,
    frame_header,
    id3_bytes,
    xing_tag,
)
from speechpipe.cascade.audio.containers.leftovers import tag_bytes, unread_bytes
from speechpipe.cascade.audio.containers.streams import are_frames, next_beginning
from speechpipe.types import Notice

MAX_RESYNCS = 2_000
"""Damaged places that are examined; the rest of the file is then not examined, but still decoded."""

MAX_TRIES = 50_000
MAX_FRAMES = 600_000
FRAMES_SLACK = 3
_SYNC = re.compile(rb"\xff[\xe2-\xff]", re.DOTALL)


@dataclass(slots=True)
class _Walk:
    file: ByteRange
    at: int
    start: int = 0  # of the first frame
    frames: int = 0
    seconds: float = 0.0
    skipped: list[tuple[int, int]] = field(default_factory=list)
    next_start: int | None = None
    tags: tuple[int, int] = (-1, -1)  # begin and end of the latest tags
    tried: int = 0
    last_at: int = -1  # of the latest frame; -1: something else was walked since
    cut_at: int = -1  # where a frame that was cut off ends in another one
    _piece: bytes = b""
    _piece_at: int = 0

    def bytes_at(self, at: int, size: int) -> bytes:
        """Return a few bytes, if possible from the piece that was read last."""
        if not self._piece_at <= at <= self._piece_at + len(self._piece) - size:
            self._piece_at, self._piece = at, self.file.at(at, PIECE)
        return self._piece[at - self._piece_at : at - self._piece_at + size]


def mpeg_recording(file: ByteRange, start: int) -> Recording:
    """Return the stream of frames that begins at `start`, up to its end or the beginning of the next file."""
    walk = _Walk(file, start)
    if (head := file.at(start, 10)).startswith(b"ID3") and len(head) == 10:
        walk.at += id3_bytes(head)
    first_at = walk.start = walk.at
    first = frame_header(file.at(first_at, 10))
    kind = "aac" if first is not None and first.family[0] == 9 else "mp3"
    xing = None if first is None or kind == "aac" else _xing(file, first_at, first)
    complete = first is None or _walk(walk, first, after_xing=xing is not None)
    end = walk.next_start if walk.next_start is not None else len(file)
    if complete and walk.skipped and sum(walk.skipped[-1]) == end and walk.tried < MAX_TRIES:
        end = walk.skipped[-1][0]  # no frame follows: the decoder would take the bytes for damage
    if complete and walk.tags[1] == end:
        end = walk.tags[0]
    notices = [] if first is None else _damage(walk, first)
    patches: tuple[tuple[int, bytes], ...] = ()
    claimed = None
    if first is not None and xing is not None:
        count_at, count = xing
        real = walk.frames - 1  # the frame with the tag has no audio
        claimed = count * first.samples / first.rate_hz if count < UNKNOWN_FRAMES else None
        if complete and real > count + FRAMES_SLACK:
            patches = ((count_at - start, struct.pack(">I", real)),)
            notices.append(Notice("header_too_short", GOES_ON.format(claimed)))
    return Recording(
        kind,
        start,
        end,
        patches,
        claimed,
        holds_s=walk.seconds if complete else None,
        next_start=walk.next_start,
        notices=tuple(notices),
    )


def _xing(file: ByteRange, at: int, header: Header) -> tuple[int, int] | None:
    """Return (offset of the number of frames, the number) of a Xing or Info tag in this frame; None without one."""
    tag = xing_tag(file.at(at, min(header.bytes, XING_BYTES)))
    return None if tag is None else (at + tag[0], tag[1])


def _walk(walk: _Walk, first: Header, after_xing: bool) -> bool:
    """Step from frame to frame; return whether the stream was examined completely."""
    size = len(walk.file)
    while walk.at < size:
        if walk.frames >= MAX_FRAMES:
            return False
        data = walk.bytes_at(walk.at, 10)
        header = frame_header(data)
        if header is not None and header.family == first.family:
            if walk.frames and after_xing and _xing(walk.file, walk.at, header) is not None:
                walk.next_start = walk.at
                if walk.at == walk.cut_at:
                    walk.skipped.pop()  # the last frame of a file that was cut off
                return True
            walk.frames += 1
            walk.last_at = walk.at
            walk.seconds += header.samples / header.rate_hz
            walk.at += header.bytes
        elif not _pass(walk, first):
            return walk.next_start is not None or walk.at >= size
    return True


def _pass(walk: _Walk, first: Header) -> bool:
    """Skip bytes that are not a frame of this stream; return False at the next file, or at the limit of resyncs."""
    file, begin = walk.file, walk.at
    last_at, walk.last_at = walk.last_at, -1
    if size := tag_bytes(file, begin, len(file)):
        if walk.bytes_at(begin, 3) == b"ID3" and begins_at(file, begin + size):
            walk.next_start = begin
            return False
        walk.tags = (walk.tags[0] if walk.tags[1] == begin else begin, begin + size)
        walk.at += size
        return True
    if begins_at(file, begin):
        walk.next_start = begin
        return False
    low = begin if last_at < 0 else last_at + 4  # a frame that was cut off reaches into what follows
    walk.at = _resync(walk, first, low)
    following = next_beginning(file, low, end=walk.at)
    if following is not None:
        walk.at = walk.next_start = following
        if begin < following:
            walk.skipped.append((begin, following - begin))
        return False
    if walk.at < begin:
        begin, walk.cut_at = last_at, walk.at
    walk.skipped.append((begin, walk.at - begin))
    return len(walk.skipped) <= MAX_RESYNCS


def _resync(walk: _Walk, first: Header, at: int) -> int:
    """Return where the next frame of this stream begins after a damaged place, else the end of the file.

    Two frames in a row are enough, or one at the end of the file; before `walk.at`, within a frame, `are_frames`.
    """
    size = len(walk.file)
    while at < size and walk.tried < MAX_TRIES:
        data = walk.file.at(at, PIECE)
        for match in _SYNC.finditer(data):
            header = frame_header(data[match.start() : match.start() + 10])
            if header is None or header.family != first.family:
                continue
            walk.tried += 1
            place = at + match.start()
            second = frame_header(walk.file.at(place + header.bytes, 10))
            ends = place + header.bytes >= size
            if (ends or (second is not None and second.family == first.family)) and (
                place > walk.at or are_frames(walk.file, place)
            ):
                return place
            if walk.tried >= MAX_TRIES:
                break
        at += max(1, len(data) - 1)
    return size


def _damage(walk: _Walk, first: Header) -> list[Notice]:
    """Return a notice about skipped bytes; an incomplete last frame and padding are not damage.

    Equal bytes are padding between frames if they are shorter than a frame, and behind the last frame at any length.
    """
    count = places = 0
    for begin, size in walk.skipped:
        data = walk.file.at(begin, 4096)
        equal = len(set(data[:size])) <= 1
        unread = size if equal else unread_bytes(walk.file, begin, begin + size)
        if not unread or (equal and (size < first.bytes or begin + size in (len(walk.file), walk.next_start))):
            continue
        count, places = count + unread, places + 1
    if not count:
        return []
    where = "1 place" if places == 1 else f"{places} places"
    heard = walk.at - walk.start - sum(size for _, size in walk.skipped)
    seconds = count * walk.seconds / heard if heard > 0 else 0.0
    about = f" ({seconds:.1f} s at the stream's bit rate)" if seconds >= TRIVIAL_S else ""
    return [Notice("audio_damaged", f"{count} bytes in {where}{about} are not audio frames and were skipped")]
