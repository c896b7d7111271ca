"""Frame boundaries of live mp3, FLAC and Ogg, so that FFmpeg can be made to decode all complete frames.

FFmpeg reads mp3 in blocks, and FLAC until several frames follow, so it holds back the newest audio. For mp3, padding
(which the decoder skips) fills the block. For FLAC, whose frames are independent, the recording is ended and begun
again. Ogg is passed page by page, without the bytes between pages, at which FFmpeg would stop. What is missing is
counted. References: ISO 11172-3 2.4.1.3, RFC 9639, RFC 3533.
"""

import re
from dataclasses import dataclass
from typing import Protocol

from speechpipe.cascade.audio.containers.flac import MAX_FRAME, checksum, claimed_samples, frame_bytes, frame_samples
from speechpipe.cascade.audio.containers.frames import (
    UNKNOWN_FRAMES,
    XING_BYTES,
    Header,
    frame_header,
    id3_bytes,
    xing_tag,
)
from speechpipe.cascade.audio.containers.leftovers import TAGS
from speechpipe.cascade.audio.containers.ogg import BEGINS, PAGE, PAGE_HEAD_BYTES, is_whole_page, page_bytes
from speechpipe.types import Notice

BLOCK_BYTES = 1024
"""Bytes of mp3 that FFmpeg reads at once."""

PADDING = bytes(BLOCK_BYTES - 1)
END_TAG = b"TAG" + bytes(125)
"""An empty ID3v1 tag. Padding at the end of a stream counts as damage unless a tag follows."""

SLACK_S = 0.3
"""Allowed difference to the header's duration."""

LEAST_BEHIND = 256
"""Fewer bytes behind the last frame are not reported: they can be a line end or an unknown tag."""

HEAD_BYTES = 10
APE_HEAD_BYTES = 32
_MPEG = re.compile(rb"\xff[\xe2-\xff]|ID3|TAG|APETAGEX", re.DOTALL)
_FLAC = re.compile(rb"\xff[\xf8\xf9]", re.DOTALL)
FLAC_HEAD_BYTES = 16
STREAMINFO_BYTES = 42


@dataclass(frozen=True, slots=True)
class Drained:
    """Bytes for the decoder. If `again` is set, a new recording begins with it, and later bytes belong to that."""

    data: bytes
    again: bytes = b""


class FrameEnds(Protocol):
    """Passes complete frames on and holds an incomplete one back. Bytes are fed in order, in pieces of any size."""

    @property
    def kept_bytes(self) -> int:
        """Bytes of the incomplete frame."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Take bytes; return those of complete frames."""
        ...

    def drain(self) -> Drained:
        """Return bytes that make the decoder output all complete frames."""
        ...

    def finish(self) -> bytes:
        """Return the rest; nothing follows."""
        ...

    @property
    def notices(self) -> list[Notice]:
        """What is missing or damaged; complete after `finish`."""
        ...


class MpegFrames:
    """Frames of mp3 and of layers 1 and 2, whose headers have their lengths. Tags and other bytes are passed on."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._passing = 0  # bytes of the current frame or tag that are still to be passed on
        self._aligned = False  # the last bytes passed on were a complete frame or a tag, so padding may follow
        self._sounded = False  # there were frames since the last padding
        self._padded = False  # nothing was passed on since the last padding
        self._frames = 0
        self._first: Header | None = None
        self._claimed: int | None = None  # frames by a Xing tag

    @property
    def kept_bytes(self) -> int:
        """Bytes of the incomplete frame."""
        return len(self._rest)

    def feed(self, data: bytes) -> bytes:
        """Take bytes; return those of complete frames."""
        self._rest += data
        at = 0
        while at < len(self._rest):
            if self._passing:
                passed = min(self._passing, len(self._rest) - at)
                self._passing -= passed
                at += passed
                continue
            size, is_frame, is_tag = self._next(at)
            if not size or (is_frame and at + size > len(self._rest)):
                break
            if is_frame:
                self._count(at, size)
            self._passing, self._aligned = size, is_frame or is_tag
            self._sounded = self._sounded or is_frame
        out = bytes(self._rest[:at])
        del self._rest[:at]
        self._padded = self._padded and not out
        return out

    def _count(self, at: int, size: int) -> None:
        self._frames += 1
        if self._frames == 1:
            self._first = frame_header(bytes(self._rest[at : at + HEAD_BYTES]))
            if (tag := xing_tag(bytes(self._rest[at : at + min(size, XING_BYTES)]))) is not None:
                self._claimed = tag[1]

    @property
    def notices(self) -> list[Notice]:
        """Whether frames that a Xing tag has counted are missing."""
        if self._first is None or self._claimed is None or self._claimed == UNKNOWN_FRAMES:
            return []
        frame_s = self._first.samples / self._first.rate_hz
        return _shorter(self._claimed * frame_s, (self._frames - 1) * frame_s)

    def _next(self, at: int) -> tuple[int, bool, bool]:
        """Return (length of what begins at `at`, 0 if more bytes are needed; is it a frame; is it a tag)."""
        head = bytes(self._rest[at : at + APE_HEAD_BYTES])
        if len(head) < HEAD_BYTES:
            return 0, False, False
        if (header := frame_header(head)) is not None:
            return header.bytes, True, False
        if head.startswith(b"ID3"):
            return id3_bytes(head), False, True
        if head.startswith(b"TAG"):
            return len(END_TAG), False, True
        if head.startswith(b"APETAGEX"):
            size = int.from_bytes(head[12:16], "little")
            return (APE_HEAD_BYTES + size if len(head) == APE_HEAD_BYTES else 0), False, True
        found = _MPEG.search(self._rest, at + 1)
        end = found.start() if found is not None else len(self._rest) - HEAD_BYTES
        return max(0, end - at), False, False

    def drain(self) -> Drained:
        """Return padding to fill FFmpeg's block, if frames have come since the last padding."""
        if not self._sounded or not self._aligned or self._passing:
            return Drained(b"")
        self._sounded, self._padded = False, True
        return Drained(PADDING)

    def finish(self) -> bytes:
        """Return the rest: nothing follows."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest or (END_TAG if self._padded else b"")


class FlacFrames:
    """Frames of FLAC. The end of a frame is found by the beginning of the next one, or by its checksum."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._header = b""  # fLaC and STREAMINFO, marked as the only block
        self._ends: set[int] | None = None  # sample numbers at which the next frame may begin; None: any
        self._searched = 0  # bytes of the rest in which no other frame begins
        self._in_frame = False  # the rest begins with a frame
        self._given = False  # frames, since the recording began
        self._rate_hz = self._total = 0  # of the header; 0: unknown
        self._samples = 0  # of the frames so far
        self._newest = 0  # of these, samples of the frame that the rest begins with
        self._behind = 0  # bytes behind the last frame
        self._due: int | None = None  # the first sample of the next frame
        self._holes = 0  # places where another frame followed

    @property
    def kept_bytes(self) -> int:
        """Bytes of the incomplete frame."""
        return len(self._rest)

    def feed(self, data: bytes) -> bytes:
        """Take bytes; return those of complete frames."""
        self._rest += data
        if not self._header:
            if len(self._rest) < STREAMINFO_BYTES:
                return b""
            self._header = b"fLaC\x80" + bytes(self._rest[5:STREAMINFO_BYTES])
            self._searched = STREAMINFO_BYTES
            bits = int.from_bytes(self._rest[18:26], "big")
            self._rate_hz, self._total = bits >> 44, claimed_samples(bits)
        largest, size = int.from_bytes(self._header[10:12], "big"), 0
        last = len(self._rest) - FLAC_HEAD_BYTES
        for match in _FLAC.finditer(self._rest, self._searched):
            if (at := match.start()) > last:
                break
            begin, behind = frame_samples(bytes(self._rest[at : at + FLAC_HEAD_BYTES]), largest)
            if behind and (self._ends is None or begin in self._ends):
                self._given = self._given or self._in_frame
                broken = self._in_frame and checksum(self._rest[size:at]) != 0
                size, self._ends, self._in_frame = at, {behind}, True
                self._newest = behind - begin
                self._samples += self._newest
                self._holes += broken or self._due not in (None, begin)
                self._due = behind
            elif behind and self._ends is not None:
                self._ends.add(behind)
        self._searched = max(self._searched, last + 1)
        if self._ends is None:  # blocks before the first frame
            size = max(size, last)
            self._behind += size if self._behind else 0
        elif len(self._rest) - size > MAX_FRAME:  # too long for a frame: leave it to FFmpeg
            if self._in_frame:
                self._end_frame(bytes(self._rest[size:last]))
            elif self._ended:
                self._note_behind(bytes(self._rest[size:last]))
            size, self._ends, self._in_frame, self._given = last, None, False, True
        return self._pass(size)

    def _pass(self, size: int) -> bytes:
        size = max(0, size)
        out = bytes(self._rest[:size])
        del self._rest[:size]
        self._searched = max(int(self._in_frame), self._searched - size)
        return out

    def drain(self) -> Drained:
        """Return the newest frame if it is complete, and a header that begins the recording again."""
        data = b""
        if self._in_frame and not checksum(self._rest):
            self._in_frame = False
            data = self._pass(len(self._rest))
        if not data and not self._given:
            return Drained(b"")
        self._given = False
        return Drained(data, self._header)

    def finish(self) -> bytes:
        """Return the rest: nothing follows."""
        rest = bytes(self._rest)
        self._rest.clear()
        if self._in_frame:
            self._end_frame(rest)
        elif self._ended or self._behind:
            self._note_behind(rest)
        return rest

    def _end_frame(self, data: bytes) -> None:
        """Note what follows the newest frame, which begins `data`, if it is the last one; or that it is incomplete."""
        whole = checksum(data) == 0
        size = len(data) if whole else frame_bytes(data, int.from_bytes(self._header[12:15], "big"))
        largest = int.from_bytes(self._header[15:18], "big")
        if not size:
            self._samples -= self._newest
        elif self._ended or 0 < largest < len(data):
            self._note_behind(data[size:])

    def _note_behind(self, data: bytes) -> None:
        if self._behind or (data.strip(b"\0") and not data.startswith(TAGS)):
            self._behind += len(data)

    @property
    def _ended(self) -> bool:
        return 0 < self._total <= self._samples

    @property
    def notices(self) -> list[Notice]:
        """Whether samples that the header has counted are missing, frames are, and what follows the last one."""
        if not self._rate_hz:
            return []
        notices = _shorter(self._total / self._rate_hz, self._samples / self._rate_hz)
        if self._holes:
            where = "1 place" if self._holes == 1 else f"{self._holes} places"
            notices.append(Notice("audio_damaged", f"frames of FLAC are missing or damaged in {where}"))
        if self._behind >= LEAST_BEHIND:
            notices.append(Notice("audio_damaged", f"{self._behind} bytes behind the last frame contained no audio"))
        return notices


class OggPages:
    """Pages of Ogg with the right checksum. Other bytes are left out and counted, and so are missing page numbers."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._numbers: dict[int, int] = {}  # by stream: the number of the next page
        self._missing = 0
        self._left_out = self._places = 0
        self._leaving = False  # the last bytes were left out

    @property
    def kept_bytes(self) -> int:
        """Bytes of the incomplete page."""
        return len(self._rest)

    def feed(self, data: bytes) -> bytes:
        """Take bytes; return those of complete pages."""
        self._rest += data
        out, at = bytearray(), 0
        while (size := page_bytes(self._rest, at)) is not None:
            if not size or (at + size <= len(self._rest) and not is_whole_page(self._rest[at : at + size])):
                following = self._rest.find(PAGE, at + 1)
                behind = following if following >= 0 else max(at + 1, len(self._rest) - len(PAGE) + 1)
                self._leave(self._rest[at:behind])
                at = behind
                continue
            if at + size > len(self._rest):
                break
            self._leaving = False
            self._number(self._rest[at : at + PAGE_HEAD_BYTES])
            out += self._rest[at : at + size]
            at += size
        del self._rest[:at]
        return bytes(out)

    def _leave(self, data: bytes | bytearray) -> None:
        if data.strip(b"\0"):
            self._left_out += len(data)
            self._places += not self._leaving
            self._leaving = True

    def _number(self, head: bytes | bytearray) -> None:
        serial, number = int.from_bytes(head[14:18], "little"), int.from_bytes(head[18:22], "little")
        expected = number if head[5] & BEGINS else self._numbers.get(serial, number)
        self._missing += max(0, number - expected)
        self._numbers[serial] = number + 1

    def drain(self) -> Drained:
        """Return nothing: FFmpeg outputs a page when it is complete."""
        return Drained(b"")

    def finish(self) -> bytes:
        """Return the pages that an incomplete one, or one with a wrong length, has hidden."""
        out = bytearray()
        while self._rest:
            following = self._rest.find(PAGE, 1)
            size = following if following >= 0 else len(self._rest)
            self._leave(self._rest[:size])
            del self._rest[:size]
            out += self.feed(b"")
        return bytes(out)

    @property
    def notices(self) -> list[Notice]:
        """The missing pages, and the bytes that are no complete pages."""
        notices = []
        if self._missing:
            notices.append(Notice("audio_damaged", f"{self._missing} Ogg pages are missing"))
        if self._left_out:
            where = "1 place" if self._places == 1 else f"{self._places} places"
            message = f"{self._left_out} bytes in {where} are not complete Ogg pages"
            notices.append(Notice("audio_damaged", message))
        return notices


def _shorter(claimed_s: float, got_s: float) -> list[Notice]:
    message = f"the header says {claimed_s:.2f} s, but {got_s:.2f} s came"
    return [Notice("audio_truncated", message)] if claimed_s - got_s > SLACK_S else []


FRAME_ENDS: dict[str, type[MpegFrames | FlacFrames | OggPages]] = {
    "mp3": MpegFrames,
    "flac": FlacFrames,
    "ogg": OggPages,
}
"""By FFmpeg's name of the container. Other containers need none: FFmpeg outputs each packet when it is complete."""
