"""Classification of bytes after the end of a recording: tags, padding, text."""

from speechpipe.cascade.audio.containers.byte_range import ByteRange

TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN", b"3DI")
TEXT_SHARE = 0.95
SAMPLE = 2**16


def is_ignored(file: ByteRange, start: int, end: int) -> bool:
    """Whether these bytes are padding (all equal) or a tag, so that they can be ignored."""
    head = file.at(start, min(16, end - start))
    if head.startswith(TAGS):
        return True
    return len(set(head)) <= 1 and all(piece.count(head[:1]) == len(piece) for piece in file.pieces(start, end))


def is_text(file: ByteRange, start: int, end: int) -> bool:
    """Whether these bytes are text (XML, a log, an error message) and not audio."""
    data = file.at(start, min(SAMPLE, end - start))
    printable = sum(data.count(byte) for byte in {*range(32, 127), 9, 10, 13})
    return bool(data) and printable >= TEXT_SHARE * len(data)
