"""Reasons why bytes are not a recording, with advice for the client."""

import re

from speechpipe.cascade.audio.containers.byte_range import ByteRange
from speechpipe.cascade.audio.containers.leftovers import is_text

HEAD = 4096
MAX_BOXES = 10_000
OTHER_FILES = {
    b"PK\x03\x04": "this is a ZIP archive (or an office document); send the recording inside it",
    b"\x1f\x8b": "this is a gzip archive; send the recording inside it",
    b"Rar!": "this is a RAR archive; send the recording inside it",
    b"7z\xbc\xaf\x27\x1c": "this is a 7-Zip archive; send the recording inside it",
    b"BZh": "this is a bzip2 archive; send the recording inside it",
    b"\xfd7zXZ": "this is an xz archive; send the recording inside it",
    b"%PDF": "this is a PDF document",
    b"\x89PNG": "this is a PNG picture",
    b"\xff\xd8\xff": "this is a JPEG picture",
    b"GIF8": "this is a GIF picture",
    b"MThd": "this is a MIDI file, which contains notes and no audio",
    b"\x7fELF": "this is a program",
    b"MZ": "this is a program",
    b"SQLite format 3": "this is a database",
}
_BOX = re.compile(rb"....(?:ftyp|styp|moov|moof|mdat|free|skip|wide|sidx|uuid)", re.DOTALL)
_BLOCK = re.compile(
    rb"\xa3(?:[\x81-\xff]|[\x40-\x7f].)[\x81-\x84]..[\x00\x80]", re.DOTALL
)  # SimpleBlock: size, track, time
NO_INDEX = "the recording is incomplete: its index (moov) is missing; only the program that recorded it can repair it"
NO_FIRST = "the first chunk of the recording, with its header, is missing; send all chunks together, from the first on"


def why_not(file: ByteRange, start: int = 0) -> str:
    """Return the reason why the bytes at `start` are not a recording; empty if it is not known here."""
    head = file.at(start, HEAD)
    for magic, reason in OTHER_FILES.items():
        if head.startswith(magic):
            return reason
    if not any(head.strip(b"\0")) and all(not piece.strip(b"\0") for piece in file.pieces(start, len(file))):
        return "the file contains nothing but zeros"
    return _mp4(file, start, head) or _cut(file, start, head) or _text(file, start, head)


def _mp4(file: ByteRange, start: int, head: bytes) -> str:
    if not _BOX.match(head):
        return ""
    names: set[bytes] = set()
    at = start
    for _ in range(MAX_BOXES):
        if len(box := file.at(at, 16)) < 8:
            break
        size = int.from_bytes(box[:4], "big")
        size = int.from_bytes(box[8:16], "big") if size == 1 else size
        names.add(box[4:8])
        if size < 8:
            break
        at += size
    if b"moov" not in names:
        return NO_FIRST if b"moof" in names else NO_INDEX
    return ""


def _cut(file: ByteRange, start: int, head: bytes) -> str:
    if len(file) - start < 16:
        return f"the file has {len(file) - start} bytes, which is shorter than any header"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        tracks = file.find(b"\x16\x54\xae\x6b", start)
        return "this is a WebM or Matroska file that ends before its list of tracks" if tracks < 0 else ""
    first = file.find(b"OggS", start, start + 16 * HEAD)
    later_ogg = first >= 0 and file.find(b"OggS\0\2", start, start + 16 * HEAD) < 0
    cluster = file.find(b"\x1f\x43\xb6\x75", start, start + 2 * HEAD) >= 0
    return NO_FIRST if later_ogg or cluster or len(_BLOCK.findall(head)) > 1 else _wav(file, start, head)


def _wav(file: ByteRange, start: int, head: bytes) -> str:
    if head[:4] not in (b"RIFF", b"RIFX", b"RF64") or head[8:12] != b"WAVE":
        return ""
    if b"fmt " not in head:
        return "this is a wav file without a format chunk (fmt)"
    if len(file) - start < HEAD and b"data" not in head:
        return "this is the beginning of a wav file that ends before its samples (data)"
    return ""


def _text(file: ByteRange, start: int, head: bytes) -> str:
    if not is_text(file, start, min(len(file), start + HEAD)):
        return ""
    words = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if words.startswith((b"#extm3u", b"ffconcat", b"[playlist]")):
        return "this is a playlist; send the recording itself"
    if words.startswith((b"<!doctype html", b"<html", b"<head")):
        return "this is a web page (HTML), not a recording"
    if words.startswith((b"{", b"[")):
        return "this is JSON, not a recording"
    if words.startswith(b"<"):
        return "this is XML, not a recording"
    return "this is text, not a recording"
