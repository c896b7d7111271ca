"""Files made of chunks: wav (also RIFX, RF64, BW64), w64, aiff, caf, and au, which is one header and one chunk.

The chunk with the samples has their length. It can be too small, because the writer was killed before it corrected the
header, or stopped counting. What follows is then neither a chunk nor another recording, and is read as more audio.
References: Microsoft/IBM "Multimedia Programming Interface" (RIFF), EBU Tech 3306 (RF64), Apple's AIFF-C draft and
"Apple Core Audio Format Specification", Sony's "Sound Forge Wave 64" note.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from speechpipe.cascade.audio.containers import GOES_ON, TRIVIAL_S, Recording
from speechpipe.cascade.audio.containers.beginnings import begins_at
from speechpipe.cascade.audio.containers.byte_range import ByteRange
from speechpipe.cascade.audio.containers.leftovers import behind_tags, is_text, unread_bytes
from speechpipe.cascade.audio.containers.like_samples import goes_on
from speechpipe.cascade.audio.containers.signatures import next_recording
from speechpipe.cascade.audio.containers.streams import next_stream
from speechpipe.types import Notice

MAX_CHUNKS = 1_000
MAX_BETWEEN = 2**16
STREAMED = 2**31 - 4096
"""A 32-bit size from here on means an unknown length (written to a pipe)."""

LAWS: dict[int | bytes, str] = {7: "mulaw", 6: "alaw", b"ulaw": "mulaw", b"alaw": "alaw"}
"""By wav's format tag, and by the name that aiff and caf give it."""

EXACT_BYTES = 64
"""Programs forget a chunk in the file's total size; so much less than the end of the samples it can be."""

STREAMED_LONG = 2**62
"""The same for a 64-bit size."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a family of formats writes its chunks."""

    header: int  # bytes before the first chunk
    id_bytes: int
    size: str  # struct format of a size
    data: bytes  # the id of the chunk that holds the samples
    align: int
    counts_header: bool  # a size includes the chunk's own header
    total_at: int = 4  # offset of the total size; -1: there is none
    before: int = 8  # bytes at the beginning of the file that the total size does not include


RIFF = Form(12, 4, "<I", b"data", 2, counts_header=False)
FORMS = {
    b"RIFF": RIFF,
    b"RF64": RIFF,
    b"BW64": RIFF,
    b"RIFX": Form(12, 4, ">I", b"data", 2, counts_header=False),
    b"FORM": Form(12, 4, ">I", b"SSND", 2, counts_header=False),
    b"caff": Form(8, 4, ">q", b"data", 1, counts_header=False, total_at=-1),
    b"riff": Form(40, 16, "<Q", b"data", 8, counts_header=True, total_at=16, before=0),
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk; offsets are within the file, `size` is the stated size of its body."""

    name: bytes
    size_at: int
    body: int
    size: int


@dataclass(slots=True)
class _Format:
    """The format, from the chunks before the samples."""

    byte_rate: float = 0.0
    frame_bytes: int = 0
    frames_at: int = -1
    mask: int = 0
    long_size: int = -1
    long_at: int = -1
    law: str = ""  # `mulaw` or `alaw` for such samples


def chunked_recording(file: ByteRange, start: int, kind: str) -> Recording:
    """Return the extent of the recording at `start`, and its corrected header."""
    if kind == "au":
        return _au(file, start)
    form = FORMS[file.at(start, 4)]
    described = _Format()
    for chunk in _chunks(file, start + form.header, form):
        if chunk.name == form.data:
            recording = _with_samples(_Walk(file, start, kind, form, described), chunk)
            return replace(recording, holds_s=_seconds(recording.end - chunk.body, described.byte_rate))
        _describe(file, chunk, kind, described)
    return Recording(kind, start, len(file), mask=described.mask)


def _seconds(size: int, byte_rate: float) -> float | None:
    return size / byte_rate if byte_rate > 0 else None


@dataclass(frozen=True, slots=True)
class _Walk:
    file: ByteRange
    start: int
    kind: str
    form: Form
    described: _Format


def _chunk(file: ByteRange, at: int, form: Form) -> Chunk | None:
    width = struct.calcsize(form.size)
    head = file.at(at, form.id_bytes + width)
    if len(head) < form.id_bytes + width or not all(32 <= byte < 127 for byte in head[:4]):
        return None
    (size,) = struct.unpack(form.size, head[form.id_bytes :])
    body = at + len(head)
    return Chunk(head[:4], at + form.id_bytes, body, size - len(head) if form.counts_header else size)


def _chunks(file: ByteRange, at: int, form: Form) -> Iterator[Chunk]:
    for _ in range(MAX_CHUNKS):
        chunk = _chunk(file, at, form)
        if chunk is None or chunk.size < -1:
            return
        yield chunk
        at = _padded(chunk.body + max(0, chunk.size), at, form)


def _padded(end: int, begin: int, form: Form) -> int:
    return end + (begin - end) % form.align  # chunks are aligned relative to each other


def _describe(file: ByteRange, chunk: Chunk, kind: str, described: _Format) -> None:
    body = file.at(chunk.body, 64)
    if chunk.name == b"ds64" and len(body) >= 16:
        described.long_size, described.long_at = struct.unpack_from("<Q", body, 8)[0], chunk.body
    elif chunk.name == b"fmt " and kind in ("wav", "w64") and len(body) >= 16:
        big = file.at(0, 4) == b"RIFX"
        tag, _, _, rate, described.frame_bytes, _ = struct.unpack_from(">HHIIHH" if big else "<HHIIHH", body)
        described.byte_rate = float(rate)
        if tag == 0xFFFE and len(body) >= 26:
            tag = struct.unpack_from(">H" if big else "<H", body, 24)[0]
            (described.mask,) = struct.unpack_from(">I" if big else "<I", body, 20)
        described.law = LAWS.get(tag, "")
    elif chunk.name == b"COMM" and len(body) >= 18:
        channels, _, bits, exponent, mantissa = struct.unpack_from(">HIHHQ", body)
        if len(body) < 22 or body[18:22] in (b"NONE", b"sowt", b"twos") or file.at(8, 4) == b"AIFF":
            described.frames_at = chunk.body + 2  # compressed formats count packets here
        described.law = LAWS.get(body[18:22].lower(), "")
        described.frame_bytes = channels * (1 if described.law else (bits + 7) // 8)
        rate = mantissa * 2.0 ** ((exponent & 0x7FFF) - 16383 - 63) if exponent & 0x7FFF < 16500 else 0.0
        described.byte_rate = rate * described.frame_bytes
    elif chunk.name == b"desc" and len(body) >= 32:
        rate, _, _, packet_bytes, packet_frames = struct.unpack_from(">d4sIII", body)
        described.law = LAWS.get(body[8:12], "")
        described.frame_bytes = packet_bytes
        described.byte_rate = rate * packet_bytes / packet_frames if packet_frames else 0.0


def _with_samples(walk: _Walk, data: Chunk) -> Recording:
    file, described = walk.file, walk.described
    size = described.long_size if data.size == 0xFFFFFFFF and described.long_size >= 0 else data.size
    long = described.long_size >= 0 or walk.kind == "w64"
    unknown = size < 0 or (long and (size == 0 or size >= STREAMED_LONG))
    unknown = unknown or (walk.kind == "wav" and not long and (size == 0 or size >= STREAMED))
    if unknown or data.body + size >= len(file):
        following = next_recording(file, data.body) if unknown or data.body + size > len(file) + 1 else None
        end = len(file) if following is None else following
        recording = Recording(walk.kind, walk.start, end, next_start=following, mask=described.mask)
        if unknown and long:  # libsndfile would take these sizes as they are
            patches = _right_sizes(walk, data, end)
            return replace(recording, patches=patches, unknown_length=True)
        if unknown or described.byte_rate <= 0 or data.body + size - end < TRIVIAL_S * described.byte_rate:
            return recording
        return replace(recording, claimed_s=size / described.byte_rate)
    return _behind(walk, data, size)


def _behind(walk: _Walk, data: Chunk, size: int) -> Recording:
    """Return the recording, after examining what follows the samples: chunks, another recording, or more samples."""
    file, form, described = walk.file, walk.form, walk.described
    at = data.body + size
    padded = _padded(at, data.body, form)
    if (
        begins_at(file, at)
        or _stated_end(walk) == at
        or (_chunk(file, padded, form) is None and _chunk(file, at, form) is not None)
    ):
        padded = at  # the writer omitted the padding
    at, more = padded, _More(data.body + size)
    for _ in range(MAX_CHUNKS):
        if begins_at(file, at):
            return _with_more(
                walk, data, size, more, Recording(walk.kind, walk.start, at, next_start=at, mask=described.mask)
            )
        chunk = _chunk(file, at, form)
        if chunk is None or not 0 <= chunk.size <= len(file) - chunk.body + 1:
            break
        if chunk.name == form.data:
            more.add(chunk, walk)
        at = _padded(chunk.body + chunk.size, chunk.body, form)
    following = next_recording(file, at)
    end = len(file) if following is None else following
    left = unread_bytes(file, at, end)
    recording = Recording(walk.kind, walk.start, at, next_start=following, mask=described.mask)
    if more.between:
        recording = _with_more(walk, data, size, more, recording)
        return replace(recording, unread=recording.unread + left)
    follows_samples = at == padded and described.byte_rate > 0 and left >= TRIVIAL_S * described.byte_rate
    total = _stated_end(walk)
    exact = data.body + size - EXACT_BYTES <= total <= at + form.before
    end = total if at < total < end and not exact else end  # what follows that end is none of these samples
    if not follows_samples or behind_tags(file, at, end) > at or is_text(file, at, end):
        return replace(recording, unread=left)
    if exact and next_stream(file, at, end) is not None:
        return replace(recording, unread=left)
    same = goes_on(file, (data.body, data.body + size), (at, end), described.frame_bytes, described.law)
    if same or (same is None and not exact):
        bound = len(file) if following is None else following
        longer = _corrected(walk, data, size, end, following)
        return replace(longer, unread=unread_bytes(file, end, bound))
    return replace(recording, unread=left)


def _stated_end(walk: _Walk) -> int:
    """Return the offset at which the file ends by its header; -1 if it does not say so."""
    file, form, described = walk.file, walk.form, walk.described
    if form.total_at < 0:
        return -1
    if described.long_at >= 0:
        (total,) = struct.unpack("<Q", file.at(described.long_at, 8))
        return int(walk.start + form.before + total) if 0 < total < STREAMED_LONG else -1
    width = struct.calcsize(form.size)
    (total,) = struct.unpack(form.size, file.at(walk.start + form.total_at, width))
    most = STREAMED if width == 4 else STREAMED_LONG
    return int(walk.start + form.before + total) if 0 < total < most else -1


@dataclass(slots=True)
class _More:
    """Further chunks of samples, written by programs that append. Offsets are within the file."""

    end: int  # end of the samples so far
    between: list[tuple[int, int]] = field(default_factory=list)  # ranges between two chunks of samples
    bytes: int = 0  # bytes of samples in the further chunks

    def add(self, chunk: Chunk, walk: "_Walk") -> None:
        """Add a further chunk."""
        offset = {"aiff": 8, "caf": 4}.get(walk.kind, 0)
        self.between.append((self.end, chunk.body + offset))
        self.end = min(chunk.body + chunk.size, len(walk.file))
        self.bytes += max(0, self.end - chunk.body - offset)


def _with_more(walk: _Walk, data: Chunk, size: int, more: _More, recording: Recording) -> Recording:
    """Return `recording` with its further chunks of samples, read as one if each begins at a frame, else as unread.

    The bytes between them (headers, sometimes a list of texts) are overwritten with the frame before them.
    """
    frame = walk.described.frame_bytes
    if not more.between:
        return recording
    if (
        not frame
        or walk.described.byte_rate <= 0
        or any((end - begin) % frame or not frame <= end - begin <= MAX_BETWEEN for begin, end in more.between)
    ):
        end = data.body + size
        return replace(recording, end=end, unread=more.bytes)
    joined = _corrected(walk, data, size, more.end, recording.next_start)
    covers = [
        (begin - walk.start, walk.file.at(begin - frame, frame) * ((end - begin) // frame))
        for begin, end in more.between
    ]
    return replace(joined, patches=(*joined.patches, *covers))


def _corrected(walk: _Walk, data: Chunk, size: int, end: int, following: int | None) -> Recording:
    patches = _right_sizes(walk, data, end)
    longer = Recording(walk.kind, walk.start, end, patches, next_start=following, mask=walk.described.mask)
    return _goes_on(longer, size / walk.described.byte_rate)


def _right_sizes(walk: _Walk, data: Chunk, end: int) -> tuple[tuple[int, bytes], ...]:
    """Return the patches of the header for samples that go on to `end`."""
    form, described, start = walk.form, walk.described, walk.start
    real = end - data.body
    if described.frame_bytes > 0:
        offset = 8 if data.name == b"SSND" else 4 if walk.kind == "caf" else 0
        real -= (real - offset) % described.frame_bytes
    patches = []
    if described.long_size >= 0:
        patches.append((described.long_at - start, struct.pack("<QQ", end - start - 8, real)))
    else:
        width = struct.calcsize(form.size)
        most = 2 ** (8 * width - 1) - 1
        body = real + (data.body - data.size_at + form.id_bytes if form.counts_header else 0)
        patches.append((data.size_at - start, struct.pack(form.size, min(body, most))))
        if form.total_at >= 0:
            patches.append((form.total_at, struct.pack(form.size, min(end - start - form.before, most))))
    if described.frames_at >= 0 and described.frame_bytes > 0:
        patches.append((described.frames_at - start, struct.pack(">I", (real - 8) // described.frame_bytes)))
    return tuple(patches)


def _goes_on(recording: Recording, claimed_s: float) -> Recording:
    notice = Notice("header_too_short", GOES_ON.format(claimed_s))
    return replace(recording, claimed_s=claimed_s, notices=(notice,))


AU_LAWS = {1: "mulaw", 27: "alaw"}
AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
AU_UNKNOWN = 0xFFFFFFFF


def _au(file: ByteRange, start: int) -> Recording:
    head = file.at(start, 24)
    if len(head) < 24:
        return Recording("au", start, len(file))
    offset, size, encoding, rate, channels = struct.unpack(">IIIII", head[4:])
    at = start + offset + size
    byte_rate = float(AU_BYTES.get(encoding, 1) * rate * channels)
    following = next_recording(file, start + 24 if size == AU_UNKNOWN or at > len(file) else at)
    end = len(file) if following is None else following
    if size == AU_UNKNOWN or at >= end:
        more = size != AU_UNKNOWN and byte_rate > 0 and at - end >= TRIVIAL_S * byte_rate
        claimed_s = size / byte_rate if more else None
        holds_s = _seconds(end - start - offset, byte_rate)
        return Recording("au", start, end, claimed_s=claimed_s, holds_s=holds_s, next_start=following)
    if begins_at(file, at):
        return Recording("au", start, at, next_start=at)
    left = unread_bytes(file, at, end)
    if left < TRIVIAL_S * byte_rate or behind_tags(file, at, end) > at or is_text(file, at, end):
        return Recording("au", start, at, next_start=following, unread=left)
    frame = AU_BYTES.get(encoding, 1) * channels
    if goes_on(file, (start + offset, at), (at, end), frame, AU_LAWS.get(encoding, "")) is False:
        return Recording("au", start, at, next_start=following, unread=left)
    real = end - start - offset
    patch = ((8, struct.pack(">I", real)),)
    longer = Recording("au", start, end, patch, next_start=following)
    return _goes_on(longer, size / byte_rate if byte_rate else 0.0)
