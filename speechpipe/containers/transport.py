"""MPEG transport streams: packets of 188 bytes that begin with 0x47. Reference: ISO 13818-1, 2.4.3.2."""

from speechpipe.containers import Recording
from speechpipe.containers.byte_range import PIECE, ByteRange
from speechpipe.types import Notice

PACKET = 188
SYNC = 0x47
SURE = 4
"""Packets in a row that make a stream of it."""

MAX_RESYNCS = 2_000
WHOLE = PIECE // PACKET * PACKET


def in_step(file: ByteRange, at: int) -> bool:
    """Whether packets begin at `at`, at least as many as are left."""
    data = file.at(at, SURE * PACKET)
    return len(data) > PACKET and all(data[place] == SYNC for place in range(0, len(data), PACKET))


def transport_recording(file: ByteRange, start: int) -> Recording:
    """Return the stream, which goes on to the end of the file, and what was out of step in it."""
    at, size = start, len(file)
    skipped = places = tried = 0
    while at < size and tried <= MAX_RESYNCS:
        data = file.at(at, WHOLE)
        good = next((place for place in range(0, len(data), PACKET) if data[place] != SYNC), None)
        if good is None:
            at += len(data)
            continue
        begin = at + good
        at = _resync(file, begin + 1)
        tried += 1
        skipped, places = skipped + at - begin, places + 1
    where = "1 place" if places == 1 else f"{places} places"
    message = f"{skipped} bytes in {where} are no packets of the transport stream"
    return Recording("mpegts", start, size, notices=(Notice("audio_damaged", message),) if skipped else ())


def _resync(file: ByteRange, start: int) -> int:
    """Return where packets begin again within the next piece; the end of the piece if they do not."""
    data = file.at(start, PIECE)
    at = -1
    for _ in range(MAX_RESYNCS):
        at = data.find(b"\x47", at + 1)
        if at < 0:
            break
        if in_step(file, start + at):
            return start + at
    return start + len(data)
