"""Structure of media files: where recordings begin and end, and what their headers claim. Audio is not decoded here.

`recording_at` (in `walk.py`) returns the `Recording` at an offset: its extent, corrections of a wrong header, and the
beginning of the next recording if files were concatenated. `reasons.py` explains why bytes are not a recording.
"""

from dataclasses import dataclass

from speechpipe.types import Notice

GOES_ON = "the header says {:.2f} s, but the file continues and was read to its end"

TRIVIAL_S = 0.05
"""Remaining bytes of less audio than this are rounding, and are ignored."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording within a file. Offsets count from the file's first byte; `end` is exclusive.

    Attributes:
        kind: the family of the container (`wav`, `flac`, `ogg`, `mp3`, `mp4` ...); empty if unknown.
        patches: (offset within the recording, bytes) that correct the header.
        cuts: (begin, end) within the recording of bytes that are left out, at which decoders would stop.
        claimed_s: the header's duration, if it differs from the content; None if a decoder reports it as well.
        holds_s: most seconds that the bytes can contain; None if that cannot be computed.
        unknown_length: the header marks the length as unknown.
        next_start: where the next recording begins; None if there is none.
        unread: bytes behind the end that belong to no recording and are neither tags nor padding.
        mask: WAVE_FORMAT_EXTENSIBLE's channel mask; 0 if there is none.
        notices: damage between start and end that decoders do not report.
        open_end: the stream has no end mark.
    """

    kind: str
    start: int
    end: int
    patches: tuple[tuple[int, bytes], ...] = ()
    claimed_s: float | None = None
    holds_s: float | None = None
    unknown_length: bool = False
    next_start: int | None = None
    unread: int = 0
    mask: int = 0
    notices: tuple[Notice, ...] = ()
    open_end: bool = False
    cuts: tuple[tuple[int, int], ...] = ()
