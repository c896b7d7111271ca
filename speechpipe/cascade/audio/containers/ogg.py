"""Ogg: pages, and the links of a chain (concatenated recordings). Reference: RFC 3533."""

from dataclasses import dataclass, field, replace

from speechpipe.cascade.audio.containers import Recording
from speechpipe.cascade.audio.containers.beginnings import begins_at
from speechpipe.cascade.audio.containers.byte_range import PIECE, ByteRange
from speechpipe.cascade.audio.containers.leftovers import is_ignored
from speechpipe.cascade.audio.containers.signatures import next_recording
from speechpipe.types import Notice

BEGINS, ENDS = 2, 4
MAX_RESYNCS = 2_000
MAX_PAGES = 1_000_000
"""Most pages that are examined: more than four hours at one packet of 20 ms per page."""


@dataclass(slots=True)
class _Link:
    """State of one link, from the pages so far."""

    first: set[int] = field(default_factory=set)  # streams that have begun
    open: set[int] = field(default_factory=set)  # streams that have begun and not ended
    sequence: dict[int, int] = field(default_factory=dict)
    granule: dict[int, int] = field(default_factory=dict)  # the latest position of each stream
    not_ends: list[tuple[int, int]] = field(default_factory=list)  # end pages with a position before the previous one
    body: bool = False  # a page that does not begin a stream was seen
    lost: int = 0
    skipped: int = 0
    places: int = 0


def ogg_recording(file: ByteRange, start: int) -> Recording:
    """Return the link at `start`, up to the first page that begins a stream after pages of data."""
    at, size = start, len(file)
    link = _Link()
    piece, piece_at = b"", 0
    pages = 0
    while at < size and pages < MAX_PAGES:
        pages += 1
        if not piece_at <= at <= piece_at + len(piece) - 27 - 255:
            piece_at, piece = at, file.at(at, PIECE)
        head = piece[at - piece_at : at - piece_at + 27 + 255]
        if len(head) < 27 or head[:4] != b"OggS":
            following = file.find(b"OggS", at + 1) if link.places < MAX_RESYNCS else -1
            end = size if following < 0 else following
            other = at if begins_at(file, at) else next_recording(file, at, end=end)
            if other is not None and link.body:
                if other > at and not is_ignored(file, at, other):
                    link.skipped, link.places = link.skipped + other - at, link.places + 1
                return _recording(file, (start, other), link, other)
            if set(head) - {0}:
                link.skipped, link.places = link.skipped + end - at, link.places + 1
            at = end
            continue
        if head[5] & BEGINS and link.body:
            return _recording(file, (start, at), link, at)
        _count(link, head, at)
        segments = head[26]
        at += 27 + segments + sum(head[27 : 27 + segments])
    if at > size:
        link.open.add(-1)  # the last page is cut off
    return _recording(file, (start, size), link, None)


def _count(link: _Link, head: bytes, at: int) -> None:
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
    granule = int.from_bytes(head[6:14], "little", signed=True)
    if head[5] & ENDS:
        link.open.discard(serial)
        before = link.granule.get(serial, -1)
        if granule <= before and any(head[27 : 27 + head[26]]):
            link.not_ends.append((at, before))  # decoders would drop the audio after that position
    link.granule[serial] = max(granule, link.granule.get(serial, -1))


def _recording(file: ByteRange, extent: tuple[int, int], link: _Link, following: int | None) -> Recording:
    start, end = extent
    notices = []
    if link.lost:
        notices.append(Notice("audio_damaged", f"{link.lost} Ogg pages are missing"))
    elif link.skipped:
        where = "1 place" if link.places == 1 else f"{link.places} places"
        notices.append(Notice("audio_damaged", f"{link.skipped} bytes in {where} are not Ogg pages"))
    patches = tuple((at - start, _without_end(file, at, before)) for at, before in link.not_ends)
    if patches:
        message = "the last page has a too early end position; the file was read to its end"
        notices.append(Notice("header_too_short", message))
    recording = Recording("ogg", start, end, patches, next_start=following, notices=tuple(notices))
    return replace(recording, open_end=bool(link.open))


def _without_end(file: ByteRange, at: int, before: int) -> bytes:
    """Return the header of the page at `at` without its end flag, with the right checksum.

    `before` is the position of the previous page, which is used if this page has none.
    """
    head = file.at(at, 27 + 255)
    size = 27 + head[26] + sum(head[27 : 27 + head[26]])
    page = bytearray(file.at(at, size))
    page[5] &= ~ENDS
    if int.from_bytes(page[6:14], "little", signed=True) < 0:
        page[6:14] = before.to_bytes(8, "little", signed=True)
    page[22:26] = bytes(4)
    page[22:26] = checksum(page).to_bytes(4, "little")
    return bytes(page[:27])


def checksum(data: bytes | bytearray) -> int:
    """Return RFC 3533's CRC-32: polynomial 0x04c11db7, not reflected, initial value 0."""
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFFFFFFFF) ^ _CRC[crc >> 24 ^ byte]
    return crc


def _crc_of(byte: int) -> int:
    crc = byte << 24
    for _ in range(8):
        crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


_CRC = tuple(map(_crc_of, range(256)))
