"""Classification of bytes after the end of a recording: tags, padding, text."""

from speechpipe.cascade.audio.containers.byte_range import ByteRange
from speechpipe.cascade.audio.containers.frames import id3_bytes, is_id3

TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN", b"3DI")
TEXT_SHARE = 0.95
SAMPLE = 2**16
MAX_TAGS = 1_000
HEAD_BYTES = 32
ID3V1_BYTES = 128
ENHANCED_BYTES = 227
ID3_FOOTER_BYTES = 10
MAX_LYRICS = 2**20
LYRICS_ENDS = (b"LYRICS200", b"LYRICSEND")


def tag_bytes(file: ByteRange, at: int, end: int) -> int:
    """Return the length of the tag at `at` (ID3v1, ID3v2, APE, Lyrics3); 0 if there is none, or if it passes `end`."""
    head = file.at(at, min(HEAD_BYTES, end - at))
    size = 0
    if head.startswith(b"TAG"):
        size = ENHANCED_BYTES if head.startswith(b"TAG+") else ID3V1_BYTES
    elif is_id3(head):
        size = id3_bytes(head)
    elif head.startswith(b"3DI"):
        size = ID3_FOOTER_BYTES
    elif head.startswith(b"APETAGEX") and len(head) >= 16:
        size = 32 + int.from_bytes(head[12:16], "little")
    elif head.startswith(b"LYRICSBEGIN"):
        found = [file.find(mark, at, min(end, at + MAX_LYRICS)) for mark in LYRICS_ENDS]
        size = min((place + len(LYRICS_ENDS[0]) - at for place in found if place >= 0), default=0)
    return size if at + size <= end else 0


def behind_tags(file: ByteRange, at: int, end: int) -> int:
    """Return the end of the tags, and of the padding between and behind them, that begin at `at`; `at` without any.

    Padding is bytes that are all equal. A tag that is cut off at `end` reaches to it.
    """
    for _ in range(MAX_TAGS):
        if size := tag_bytes(file, at, end):
            at += size
            continue
        if file.at(at, min(HEAD_BYTES, end - at)).startswith(TAGS):
            return end
        padded = _behind_padding(file, at, end)
        if padded >= end:
            return end
        if not tag_bytes(file, padded, end):
            break
        at = padded
    return at


def _behind_padding(file: ByteRange, at: int, end: int) -> int:
    first = file.at(at, 1)
    for piece in file.pieces(at, end):
        rest = piece.lstrip(first)
        at += len(piece) - len(rest)
        if rest:
            break
    return at


def unread_bytes(file: ByteRange, start: int, end: int) -> int:
    """Return how many of these bytes are neither tags at their beginning nor padding."""
    return max(0, end - behind_tags(file, start, end)) if start < end else 0


def is_text(file: ByteRange, start: int, end: int) -> bool:
    """Whether these bytes are text (XML, a log, an error message) and not audio."""
    data = file.at(start, min(SAMPLE, end - start))
    printable = sum(data.count(byte) for byte in {*range(32, 127), 9, 10, 13})
    return bool(data) and printable >= TEXT_SHARE * len(data)
