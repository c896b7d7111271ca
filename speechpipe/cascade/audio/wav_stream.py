"""`WavReader`: extracts the samples of a WAV that arrives piece by piece, in constant memory."""

import struct
from collections.abc import Callable, Iterator

from speechpipe.cascade.audio.live_formats import container
from speechpipe.cascade.audio.wire_format import WireFormat
from speechpipe.errors import InvalidParameter, UndecodableAudio

WAV_ENCODINGS = {(1, 16): "linear16", (7, 8): "mulaw", (6, 8): "alaw"}  # (format tag, bits) of RFC 2361
MOST_FORMAT_BYTES = 4096
UNKNOWN_SIZE = 0x7FFFFFFF
"""A data chunk with this size or more, or with size 0, has unknown length: it was written while recording."""

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
        self.another: bytes | None = None  # the first bytes of another container that follows

    def sound(self, data: bytes, start: Callable[[WireFormat], None]) -> Iterator[bytes]:
        """Yield the samples in the next bytes; `start` is called with the format when it begins or changes.

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
                yield part
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
            return 12
        if self._in_data and name not in KNOWN_CHUNKS:
            if container(data, certain=True) is not None:
                self.another = data
                return len(data)
            self._left = None  # the header's size is wrong: samples continue
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
            self._left = None if size == 0 or size >= UNKNOWN_SIZE else size + size % 2
        return 8

    def _format_chunk(self, data: bytes, size: int) -> int | None:
        total = 8 + size + size % 2
        if size > MOST_FORMAT_BYTES:
            raise UndecodableAudio(f"wav: a format chunk of {size} bytes")
        if len(data) < total:
            return None
        self._found = _format(data[8 : 8 + size])
        return total


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
