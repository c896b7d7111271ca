"""Ogg: pages, and the links of a chain (concatenated recordings). Reference: RFC 3533."""

import zlib
from dataclasses import dataclass, field, replace

from speechpipe.cascade.audio.containers import Recording
from speechpipe.cascade.audio.containers.beginnings import begins_at
from speechpipe.cascade.audio.containers.byte_range import PIECE, ByteRange
from speechpipe.cascade.audio.containers.leftovers import unread_bytes
from speechpipe.cascade.audio.containers.streams import next_beginning
from speechpipe.types import Notice

PAGE = b"OggS\x00"
PAGE_HEAD_BYTES = 27
BEGINS, ENDS = 2, 4
MAX_RESYNCS = 2_000
MAX_TRIES = 10_000
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
    cuts: list[tuple[int, int]] = field(default_factory=list)  # within the recording
    lost: int = 0
    skipped: int = 0
    places: int = 0
    tried: int = 0

    def may_have(self, head: bytes) -> bool:
        """Whether a page of a stream of this link, or of a new one, begins with `head`."""
        if len(head) < 27 or head[:5] != PAGE:
            return False
        return bool(head[5] & BEGINS) or not self.first or int.from_bytes(head[14:18], "little") in self.first

    def leave(self, file: ByteRange, begin: int, end: int) -> None:
        """Count these bytes, unless they are padding or a tag."""
        if unread := unread_bytes(file, begin, end):
            self.skipped, self.places = self.skipped + unread, self.places + 1


def ogg_recording(file: ByteRange, start: int) -> Recording:
    """Return the link at `start`, up to the first page that begins a stream after pages of data.

    Bytes that are not pages are cut out: FFmpeg searches 64 KiB for the next page, and otherwise loses the page before.
    """
    at = page_at = start
    size = len(file)
    link = _Link()
    piece, piece_at = b"", 0
    for _ in range(MAX_PAGES):
        if at == size:
            break
        if not piece_at <= at <= piece_at + len(piece) - 27 - 255:
            piece_at, piece = at, file.at(at, PIECE)
        head = piece[at - piece_at : at - piece_at + 27 + 255]
        if not link.may_have(head):
            if link.places >= MAX_RESYNCS:
                break
            # A page that is damaged, or was cut off, can reach into the next ones or into another file.
            begin = at if _is_intact(file, page_at) else page_at
            following = _next_page(file, max(begin, page_at + 1), link)
            end = size if following is None else following
            other = at if begins_at(file, at) else next_beginning(file, max(begin, page_at + 1), end=end)
            if other is not None and link.body:
                if begin == page_at and other > begin:  # its last page is cut off
                    link.open.add(-1)
                else:
                    link.leave(file, begin, other)
                return _recording(file, (start, begin), link, other)
            if following is None:
                break
            link.leave(file, begin, end)
            link.cuts.append((begin - start, end - start))
            at = page_at = end
            continue
        if head[5] & BEGINS and link.body:
            end = start + link.cuts.pop()[0] if link.cuts and start + link.cuts[-1][1] == at else at
            return _recording(file, (start, end), link, at)
        _count(link, head, at)
        page_at = at
        at += 27 + head[26] + sum(head[27 : 27 + head[26]])
        _leave_damaged(file, page_at, at, link)
    if at > size:
        link.open.add(-1)  # the last page is cut off
    elif at < size and link.places < MAX_RESYNCS:
        link.leave(file, at, size)
        size = at
    return _recording(file, (start, size), link, None)


def _leave_damaged(file: ByteRange, at: int, end: int, link: _Link) -> None:
    """Count the page from `at` to `end` if its checksum is wrong: decoders pass over it.

    Where no page follows it, its length may be wrong, and the search for the next page counts it.
    """
    if (end == len(file) or link.may_have(file.at(end, PAGE_HEAD_BYTES))) and not _is_intact(file, at):
        link.leave(file, at, end)


def _next_page(file: ByteRange, at: int, link: _Link) -> int | None:
    """Return where the next intact page begins; after `MAX_TRIES` false ones, whatever looks like a page."""
    while (at := file.find(PAGE, at)) >= 0:
        link.tried += 1
        if link.tried > MAX_TRIES or _is_intact(file, at):
            return at
        at += 1
    return None


def _is_intact(file: ByteRange, at: int) -> bool:
    """Whether the page at `at` has the right checksum."""
    size = page_bytes(file.at(at, PAGE_HEAD_BYTES + 255), 0)
    return bool(size) and is_whole_page(file.at(at, size or 0))


def page_bytes(data: bytes | bytearray, at: int) -> int | None:
    """Return the length of the page at `at`; 0 if there is none; None if more bytes are needed to read all of it."""
    head = data[at : at + PAGE_HEAD_BYTES]
    if head[: len(PAGE)] != PAGE[: len(head)]:
        return 0
    if len(head) < PAGE_HEAD_BYTES or len(data) < at + PAGE_HEAD_BYTES + head[26]:
        return None
    return PAGE_HEAD_BYTES + head[26] + sum(data[at + PAGE_HEAD_BYTES : at + PAGE_HEAD_BYTES + head[26]])


def is_whole_page(data: bytes | bytearray) -> bool:
    """Whether this is a page with the right checksum."""
    page = bytearray(data)
    stated = int.from_bytes(page[22:26], "little")
    page[22:26] = bytes(4)
    return page_bytes(page, 0) == len(page) and checksum(page) == stated


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
        notices.append(Notice("audio_damaged", f"{link.skipped} bytes in {where} are not intact Ogg pages"))
    patches = tuple((at - start, _without_end(file, at, before)) for at, before in link.not_ends)
    if patches:
        message = "the last page has a too early end position; the file was read to its end"
        notices.append(Notice("header_too_short", message))
    recording = Recording("ogg", start, end, patches, next_start=following, notices=tuple(notices))
    return replace(recording, open_end=bool(link.open), cuts=tuple(link.cuts))


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
    """Return RFC 3533's CRC-32: polynomial 0x04c11db7, not reflected, initial value 0.

    zlib's has the same polynomial, reflected; with the bits of each byte reversed it gives the reversed result.
    """
    reflected = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED), "big")


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
