"""MPEG transport streams: packets of 188 bytes that begin with 0x47. Reference: ISO 13818-1, 2.4.3.2."""

from speechpipe.cascade.audio.containers import Recording
from speechpipe.cascade.audio.containers.beginnings import PACKET, SYNC, begins_at, in_step
from speechpipe.cascade.audio.containers.byte_range import PIECE, ByteRange
from speechpipe.cascade.audio.containers.signatures import next_recording
from speechpipe.cascade.audio.containers.streams import next_beginning
from speechpipe.types import Notice

MAX_RESYNCS = 2_000
WHOLE = PIECE // PACKET * PACKET


def transport_recording(file: ByteRange, start: int) -> Recording:
    """Return the stream up to the next recording or the end of the file, with a notice about damaged places."""
    at, size = start, len(file)
    following: int | None = None
    skipped = places = tried = 0
    cuts = []
    while at < size and tried <= MAX_RESYNCS:
        data = file.at(at, WHOLE)
        good = next((place for place in range(0, len(data), PACKET) if data[place] != SYNC), None)
        if good is None:
            at += len(data)
            continue
        begin = at + good
        at = _resync(file, begin + 1)
        tried += 1
        search = next_recording if at < size and in_step(file, at) else next_beginning
        following = begin if begins_at(file, begin) else search(file, begin, end=at)
        at = at if following is None else following
        if at > begin:
            if following is None or at - begin >= PACKET:
                skipped, places = skipped + at - begin, places + 1
            cuts.append((begin - start, at - start))  # FFmpeg would take a long one for the end
        if following is not None:
            break
    where = "1 place" if places == 1 else f"{places} places"
    message = f"{skipped} bytes in {where} are not packets of the transport stream"
    notices = (Notice("audio_damaged", message),) if skipped else ()
    end = size if following is None else following
    return Recording("mpegts", start, end, next_start=following, notices=notices, cuts=_joined(cuts))


def _joined(cuts: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return the cuts with those joined that touch each other."""
    joined: list[tuple[int, int]] = []
    for begin, end in cuts:
        first = joined.pop()[0] if joined and joined[-1][1] == begin else begin
        joined.append((first, end))
    return tuple(joined)


def _resync(file: ByteRange, start: int) -> int:
    """Return where packets begin again within the next piece, else the end of the piece."""
    data = file.at(start, PIECE)
    at = -1
    for _ in range(MAX_RESYNCS):
        at = data.find(b"\x47", at + 1)
        if at < 0:
            break
        if in_step(file, start + at):
            return start + at
    return start + len(data)
