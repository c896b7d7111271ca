"""Search for the next recording in bytes that belong to none, also for streams of frames, which have no signature."""

import re

from speechpipe.cascade.audio.containers.beginnings import begins_at, in_step
from speechpipe.cascade.audio.containers.byte_range import PIECE, ByteRange
from speechpipe.cascade.audio.containers.frames import ID3_HEAD_BYTES, frame_header, id3_bytes, is_id3
from speechpipe.cascade.audio.containers.signatures import next_recording

SURE_FRAMES = 3
"""Frames in a row that count as a stream. Two can occur in other data by chance, in some gigabytes even three."""

MAX_TRIES = 50_000
FRAME_HEAD = 10
_SYNC = re.compile(rb"\xff[\xe2-\xff]|ID3[\x02-\x04]|\x0b\x77|\x56[\xe0-\xff]|\x47(?=.{187}\x47)", re.DOTALL)
_OVERLAP = 256


def next_beginning(file: ByteRange, start: int, end: int | None = None) -> int | None:
    """Return where the next recording of any kind begins, at or after `start` and before `end`; else None.

    Only for bytes that are known not to be audio: a stream of frames can also be the content of a container.
    """
    end = len(file) if end is None else min(end, len(file))
    signed = next_recording(file, start, end=end)
    stream = next_stream(file, start, end if signed is None else signed)
    return signed if stream is None else stream


def next_stream(file: ByteRange, start: int, end: int) -> int | None:
    """Return where a stream of MPEG audio, ADTS, LOAS, AC-3 or transport packets begins between `start` and `end`."""
    tried = 0
    while start < end:
        data = file.at(start, min(PIECE, end - start) + _OVERLAP)
        for match in _SYNC.finditer(data):
            place = start + match.start()
            if place >= end or match.start() >= PIECE:
                break
            head = data[match.start() : match.start() + FRAME_HEAD]
            if head[0] == 0xFF and frame_header(head) is None:
                continue
            tried += 1
            if tried > MAX_TRIES:
                return None
            if _stream_at(file, place, head):
                return place
        start += PIECE
    return None


def _stream_at(file: ByteRange, at: int, head: bytes) -> bool:
    if head[0] == 0xFF:
        return are_frames(file, at)
    if head.startswith(b"ID3"):
        behind = at + id3_bytes(head) if len(head) == ID3_HEAD_BYTES and is_id3(head) else 0
        return at < behind < len(file) and (are_frames(file, behind) or begins_at(file, behind))
    if head.startswith(b"\x47"):
        return in_step(file, at)
    return begins_at(file, at)


def are_frames(file: ByteRange, at: int, count: int = SURE_FRAMES) -> bool:
    """Whether `count` frames of one family follow each other from `at`, or two and then the end of the file."""
    first = None
    for number in range(count):
        header = frame_header(file.at(at, FRAME_HEAD))
        if header is None or (first is not None and header.family != first):
            return number >= 2 and at >= len(file)
        first = header.family
        at += header.bytes
    return True
