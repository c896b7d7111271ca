"""`WavReader`: extracts the samples of a WAV that arrives piece by piece, in constant memory."""

import re
import struct
from collections.abc import Callable, Iterator

from speechpipe.cascade.audio.containers.frames import ID3_HEAD_BYTES, frame_header
from speechpipe.cascade.audio.containers.leftovers import TEXT_SHARE
from speechpipe.cascade.audio.containers.like_samples import alike, frames_of
from speechpipe.cascade.audio.live_formats import MPEG_BYTES, container, recording_in
from speechpipe.cascade.audio.wire_format import WireFormat
from speechpipe.errors import InvalidParameter, UndecodableAudio

WAV_ENCODINGS = {(1, 16): "linear16", (7, 8): "mulaw", (6, 8): "alaw"}  # (format tag, bits) of RFC 2361
MOST_FORMAT_BYTES = 4096
UNKNOWN_SIZE = 0x7FFFFFFF
"""A data chunk with this size or more, or with size 0, has unknown length: it was written while recording."""

EXACT_BYTES = 64
"""Programs forget a chunk in the total size; so much less than the end of the samples it can be."""

JUDGED_BYTES = 2**14
"""Bytes behind the samples that are compared with as many of the last samples."""

SURE_FRAMES = 3
TEXT = bytes([9, 10, 13, *range(32, 127)])
_SYNC = re.compile(rb"\xff[\xe2-\xff]", re.DOTALL)

KNOWN_CHUNKS = (b"LIST", b"bext", b"fact", b"cue ", b"id3 ", b"ID3 ", b"iXML", b"JUNK", b"smpl", b"axml", b"PEAK")


class WavReader:
    """Yields the bytes of data chunks; several WAVs may follow each other. Used by one thread at a time."""

    def __init__(self) -> None:
        self._rest = b""
        self._skip = 0  # bytes of an unknown chunk that are still to be skipped
        self._left: int | None = 0  # bytes of the data chunk still to come; None: until the end
        self._found: WireFormat | None = None
        self._in_data = False
        self._bytes = 0
        self.sounded = False
        self.left_out = 0  # bytes behind the samples that are neither samples nor a recording
        self._stated_end = -1  # of the file, by its header
        self._newest = b""  # the last samples
        self._doubtful = self._no_samples = False  # see `_judge`
        self.another: bytes | None = None  # the first bytes of another container that follows

    @property
    def to_the_end(self) -> bool:
        """Whether all that follows is taken for samples."""
        return self._in_data and self._left is None

    def sound(self, data: bytes, start: Callable[[WireFormat], None], last: bool = False) -> Iterator[bytes]:
        """Yield the samples in the next bytes; `start` is called with the format when it begins or changes.

        `last` means that nothing follows.

        Raises:
            UndecodableAudio: there is no format before the data, or it is not supported live.
        """
        self._bytes += len(data)
        data, self._rest = self._rest + data, b""
        while data:
            if self._skip:
                skipped = min(self._skip, len(data))
                self._skip -= skipped
                data = data[skipped:]
            elif self._in_data and self._left is None:
                self.sounded = True
                yield data
                return
            elif self._in_data and self._left:
                part, data = data[: self._left], data[self._left :]
                self._left -= len(part)
                self.sounded = True
                self._newest = (self._newest + part)[-JUDGED_BYTES:]
                yield part
            elif self._doubtful:
                used = self._judge(data, last)
                if used is None:
                    self._rest = data
                    return
                data = data[used:]
            else:
                size = self._chunk(data, start)
                if size is None:
                    self._rest = data
                    return
                data = data[size:]

    def finish(self) -> None:
        """End the bytes.

        Raises:
            UndecodableAudio: there were no samples.
        """
        if not self.sounded:
            raise UndecodableAudio(f"wav: no samples in {self._bytes} bytes (no data chunk)")

    def _chunk(self, data: bytes, start: Callable[[WireFormat], None]) -> int | None:
        """Read the header at the beginning; return its length, None if more bytes are needed."""
        if len(data) < 12:
            return None
        name, size = data[:4], struct.unpack_from("<I", data, 4)[0]
        if name == b"RIFF" and data[8:12] == b"WAVE":
            self._in_data, self._found = False, None
            begin = self._bytes - len(data)
            self._stated_end = begin + 8 + size if 0 < size < UNKNOWN_SIZE else -1
            return 12
        if self._in_data and name not in KNOWN_CHUNKS:
            if container(data, certain=True) is not None:
                self.another = data
                return len(data)
            at = self._bytes - len(data)
            self._doubtful, self._no_samples = at - EXACT_BYTES <= self._stated_end <= at + 8, False
            self._left = 0 if self._doubtful else None  # the header's size is wrong: samples continue
            return 0
        if name == b"fmt ":
            return self._format_chunk(data, size)
        if name != b"data":
            self._skip = size + size % 2
        elif self._found is None:
            raise UndecodableAudio("wav: no format before the data")
        else:
            start(self._found)
            self._in_data = True
            self._newest = b""
            self._left = None if size == 0 or size >= UNKNOWN_SIZE else size + size % 2
        return 8

    def _judge(self, data: bytes, last: bool) -> int | None:
        """Decide what follows samples whose length is right by two headers; return the bytes used, None for more.

        It is a recording if one begins in it, or more samples if it is like the last ones. Else it is left out.
        """
        if not last and len(data) < JUDGED_BYTES:
            return None
        if (begin := _beginning(data)) is not None:
            self.left_out += begin
            self._doubtful = False
            if data[begin : begin + 4] == b"RIFF":
                return begin
            self.another = data[begin:]
            return len(data)
        text = sum(map(data.count, TEXT)) >= TEXT_SHARE * len(data)
        if not self._no_samples and self._found is not None and not text and data.strip(b"\0"):
            frame = max(1, round(self._found.bytes_per_s / (self._found.rate or 1)))
            law = self._found.encoding if self._found.encoding in ("mulaw", "alaw") else ""
            pieces = [frames_of(part, frame) for part in (self._newest, data[:JUDGED_BYTES])]
            if alike(pieces[:1], pieces[1:], law):
                self._left, self._doubtful = None, False
                return 0
        self._no_samples = True
        used = len(data) if last else max(0, len(data) - MPEG_BYTES)
        self.left_out += len(data[:used].rstrip(b"\0"))
        return used

    def _format_chunk(self, data: bytes, size: int) -> int | None:
        total = 8 + size + size % 2
        if size > MOST_FORMAT_BYTES:
            raise UndecodableAudio(f"wav: a format chunk of {size} bytes")
        if len(data) < total:
            return None
        self._found = _format(data[8 : 8 + size])
        return total


def _beginning(data: bytes) -> int | None:
    """Return where a recording with a header, or a stream of MPEG audio, begins in `data`; None if none does."""
    found = recording_in(data)
    end = len(data) if found is None else found[0]
    for match in _SYNC.finditer(data, 0, end):
        at, family = match.start(), None
        for number in range(SURE_FRAMES):
            header = frame_header(data[at : at + ID3_HEAD_BYTES])
            if header is None or family not in (None, header.family):
                break
            family, at = header.family, at + header.bytes
            if number == SURE_FRAMES - 1:
                return match.start()
    return None if found is None else found[0]


def _format(chunk: bytes) -> WireFormat:
    if len(chunk) < 16:
        raise UndecodableAudio(f"wav: a format chunk of {len(chunk)} bytes")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == 0xFFFE and len(chunk) >= 26:  # WAVE_FORMAT_EXTENSIBLE: the tag is in the extension
        tag = struct.unpack_from("<H", chunk, 24)[0]
    if (tag, bits) not in WAV_ENCODINGS:
        raise UndecodableAudio(f"wav: format {tag} with {bits} bits is not supported live; send 16-bit PCM")
    try:
        return WireFormat(WAV_ENCODINGS[tag, bits], rate, channels)
    except InvalidParameter as error:
        raise UndecodableAudio(f"wav: {error.message}") from error
