"""Ogg: pages, and the chain links (recordings put end to end) that they form. Reference: RFC 3533."""

from dataclasses import dataclass, field

from speechpipe.containers import Recording
from speechpipe.containers.byte_range import PIECE, ByteRange
from speechpipe.types import Notice

BEGINS, ENDS = 2, 4
MAX_RESYNCS = 2_000


@dataclass(slots=True)
class _Link:
    """What the pages of one link have said so far."""

    first: set[int] = field(default_factory=set)  # streams that have begun
    open: set[int] = field(default_factory=set)  # and not ended
    sequence: dict[int, int] = field(default_factory=dict)
    body: bool = False  # a page that begins no stream was seen
    lost: int = 0
    skipped: int = 0
    places: int = 0


def ogg_recording(file: ByteRange, start: int) -> Recording:
    """Walk the pages from `start` to the link's end: the first page that begins a stream after others have gone on."""
    at, size = start, len(file)
    link = _Link()
    piece, piece_at = b"", 0
    while at < size:
        if not piece_at <= at <= piece_at + len(piece) - 27 - 255:
            piece_at, piece = at, file.at(at, PIECE)
        head = piece[at - piece_at : at - piece_at + 27 + 255]
        if len(head) < 27 or head[:4] != b"OggS":
            following = file.find(b"OggS", at + 1) if link.places < MAX_RESYNCS else -1
            end = size if following < 0 else following
            if set(head) - {0}:
                link.skipped, link.places = link.skipped + end - at, link.places + 1
            at = end
            continue
        if head[5] & BEGINS and link.body:
            return _said(start, at, link, at)
        _count(link, head)
        segments = head[26]
        at += 27 + segments + sum(head[27 : 27 + segments])
    if at > size:
        link.open.add(-1)  # the last page is cut
    return _said(start, size, link, None)


def _count(link: _Link, head: bytes) -> None:
    serial, number = int.from_bytes(head[14:18], "little"), int.from_bytes(head[18:22], "little")
    if head[5] & BEGINS:
        link.first.add(serial)
        link.open.add(serial)
    else:
        link.body = True
    expected = link.sequence.get(serial)
    if expected is not None and number > expected:
        link.lost += number - expected
    link.sequence[serial] = number + 1
    if head[5] & ENDS:
        link.open.discard(serial)


def _said(start: int, end: int, link: _Link, following: int | None) -> Recording:
    notices = []
    if link.lost:
        notices.append(Notice("audio_damaged", f"{link.lost} Ogg pages are missing"))
    elif link.skipped:
        where = "1 place" if link.places == 1 else f"{link.places} places"
        notices.append(Notice("audio_damaged", f"{link.skipped} bytes in {where} are no Ogg pages"))
    return Recording("ogg", start, end, next_start=following, notices=tuple(notices), open_end=bool(link.open))
