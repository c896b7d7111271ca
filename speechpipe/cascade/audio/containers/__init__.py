"""What the bytes of a media file say of its structure: where a recording begins and ends, what its header claims.

No sound is decoded here. `recording_at` (in `walk.py`) looks at the bytes from an offset on and returns a `Recording`:
what a decoder is to be given, how the header must be corrected so that it says what the file holds, and where the next
recording begins if files were put end to end. `reasons.py` says in plain words why bytes are no recording.
"""

from dataclasses import dataclass

from speechpipe.types import Notice

GOES_ON = "the header says {:.2f} s; the file goes on, and was read to its end"

TRIVIAL_S = 0.05
"""Left-over bytes of less sound than this are rounding, not a recording."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording within a file. Offsets count from the file's first byte; `end` is exclusive.

    Attributes:
        kind: the family of the container (`wav`, `flac`, `ogg`, `mp3`, `mp4` ...); empty if it is not known here.
        patches: (offset within the recording, bytes) that correct what the header says.
        claimed_s: the header's word where it differs from what the file holds; None where a decoder knows it as well.
        holds_s: seconds that the bytes can hold at most, whatever the header says; None where the kind does not tell.
        unknown_length: the header says that its writer did not know the length.
        next_start: where the next recording begins; None if there is none.
        unread: bytes behind the end that belong to no recording and are neither tags nor padding.
        mask: WAVE_FORMAT_EXTENSIBLE's channel mask, 0 if none is given.
        notices: what is wrong with the bytes between start and end, as far as no decoder would say it.
        open_end: the stream lacks the mark that ends it.
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
