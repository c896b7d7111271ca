"""Signatures: the first bytes of recordings, and the search for the next recording in a file."""

import re
from collections.abc import Iterable

from speechpipe.cascade.audio.containers.byte_range import PIECE, ByteRange

LOOK = 64
MAX_CANDIDATES = 1_000
_MATROSKA_TYPE = rb"\x1a\x45\xdf\xa3[\x00-\xff]{1,48}?\x42\x82[\x00-\xff]{1,8}?(?:webm|matroska)"

_WTV = b"\xb7\xd8\x00\x20\x37\x49\xda\x11\xa6\x4e\x00\x07\xe9\x5e\xad\x8d"
_FIRST_BLOCK = b"[" + b"".join(b"\\x%02x" % byte for byte in range(256) if byte & 8) + b"]"  # of several channels

# kind -> (rarest literal, its offset in the header, the header's pattern). Patterns are strict, because the search goes
# through audio data: each fixes at least seven bytes.
SIGNATURES: dict[str, tuple[bytes, int, re.Pattern[bytes]]] = {
    kind: (literal, offset, re.compile(pattern, re.DOTALL))
    for kind, (literal, offset, pattern) in {
        "wav": (b"WAVE", 8, rb"(?:RIFF|RIFX|RF64|BW64)....WAVE[ -~]{4}"),
        "avi": (b"AVI LIST", 8, rb"RIFF....AVI LIST"),
        "w64": (b"riff\x2e\x91\xcf\x11", 0, rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb"),
        "aiff": (b"FORM", 0, rb"FORM....AIF[FC][ -~]{4}"),
        "caf": (b"caff\x00\x01\x00\x00desc", 0, rb"caff\x00\x01\x00\x00desc"),
        "au": (b".snd\x00\x00", 0, rb"\.snd\x00\x00..[\x00-\xff]{4}\x00\x00\x00[\x01-\x20]\x00...\x00\x00\x00."),
        "flac": (b"fLaC", 0, rb"fLaC[\x00\x80]\x00\x00\x22"),
        "ogg": (b"OggS\x00\x02", 0, rb"OggS\x00\x02\x00{8}"),
        "mp4": (b"ftyp", 4, rb"\x00\x00\x00[\x08-\x80]ftyp[ -~]{4}"),
        "matroska": (b"\x1a\x45\xdf\xa3", 0, _MATROSKA_TYPE),
        "asf": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0, rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa"),
        "flv": (b"FLV\x01", 0, rb"FLV\x01[\x00-\x07]\x00\x00\x00\x09"),
        "amr": (b"#!AMR", 0, rb"#!AMR(?:-WB)?\n"),
        "voc": (b"Creative Voice File\x1a", 0, rb"Creative Voice File\x1a"),
        "sphere": (b"NIST_1A\n", 0, rb"NIST_1A\n   \d"),
        "tta": (b"TTA1", 0, rb"TTA1[\x01\x03]\x00[\x01-\x10]\x00"),
        "wv": (b"wvpk", 0, rb"wvpk....[\x02-\x10]\x04.{6}\x00{4}.{5}" + _FIRST_BLOCK),
        "ape": (b"MAC ", 0, rb"MAC .[\x0e\x0f]\x00\x00\x34\x00\x00\x00"),
        "dsf": (b"DSD \x1c", 0, rb"DSD \x1c\x00{7}"),
        "wtv": (_WTV, 0, re.escape(_WTV)),
        "nut": (b"nut/multimedia", 0, rb"nut/multimedia container\x00"),
        "ast": (b"STRM", 0, rb"STRM....\x00[\x00\x01]\x00\x10\x00[\x01-\x10](?:\xff\xff|\x00\x00)\x00[\x00-\x02]"),
        "sox": (b".SoX", 0, rb"\.SoX[\x1c-\xff]\x00\x00\x00.{16}[\x01-\x20]\x00\x00\x00"),
        "rm": (b".RMF\x00\x00\x00", 0, rb"\.RMF\x00\x00\x00"),
    }.items()
}


def kind_at(file: ByteRange, offset: int) -> str:
    """Return the kind of the recording whose header is at `offset`; empty if there is none."""
    head = file.at(offset, LOOK)
    return next((kind for kind, (_, _, pattern) in SIGNATURES.items() if pattern.match(head)), "")


def next_recording(
    file: ByteRange, start: int, kinds: Iterable[str] = tuple(SIGNATURES), end: int | None = None
) -> int | None:
    """Return where the next header of one of these kinds begins, at or after `start` and before `end`; else None.

    The work is proportional to the distance: each piece is read once, and after `MAX_CANDIDATES` false matches of one
    kind in a piece the rest of the piece is skipped for that kind.
    """
    size, width = len(file) if end is None else min(end, len(file)), PIECE // 256
    while start < size:
        piece = file.at(start, width + LOOK)
        best: int | None = None
        for kind in kinds:
            at = _in_piece(piece, kind, len(piece) if best is None else best + LOOK)
            best = at if at is not None and (best is None or at < best) else best
        if best is not None:
            return start + best if start + best < size else None
        start += width
        width = min(PIECE, width * 4)
    return None


def _in_piece(piece: bytes, kind: str, end: int) -> int | None:
    literal, offset, pattern = SIGNATURES[kind]
    at = -1
    for _ in range(MAX_CANDIDATES):
        at = piece.find(literal, at + 1, end)
        if at < 0:
            return None
        if at >= offset and pattern.match(piece, at - offset):
            return at - offset
    return None
