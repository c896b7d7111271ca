"""Which pieces share a window, where in it each lies, and where a piece that is too long for any window is cut.

The encoder's cost grows faster than a window's length, and a window costs the same however little speech it holds. So
single pieces get the shortest window that they fit into, and the pieces of one session are put after each other until a
short window is full.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speechpipe.cascade.asr.whisper.features import Frames

LENGTHS = (1500, 2000, 3000)
"""Lengths of windows in frames of 10 ms. In less than 15 s the model repeats itself on short pieces; 30 s is its limit.
"""

BRIEF = 1000
"""Length of windows for unfinished text, which may be wrong: what repeats itself is decoded again in a longer one."""

SPARE = 50
"""Frames of a window that stay free: without a little silence at the end its last word suffers."""

LONGEST = LENGTHS[-1] - SPARE
GAP = 10
"""Frames of silence between two pieces in a window, in addition to the pauses that they begin and end with.

More is worse: after half a second of perfect silence the model more often stops, or writes wrong words.
"""

PACKED = LENGTHS[0] - SPARE
"""Frames of a window for several pieces: longer ones cost more for each second."""

SMOOTHED = 21
"""Frames over which the level is averaged to find the quietest place: a single quiet frame may lie within a word."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A piece of audio that fits into a window, as (bands, frames) log-mel energies.

    It is the whole piece with the number `piece`, or the part of it that begins at frame `offset`.
    """

    piece: int
    offset: int
    mel: Frames

    @property
    def frames(self) -> int:
        """Its length in frames."""
        return len(self.mel[0])


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Parts in the order of their pieces, the first frame of each, and the window's length in frames."""

    parts: tuple[Part, ...]
    starts: tuple[int, ...]
    length: int

    @property
    def frames(self) -> int:
        """Frames up to the end of the last part."""
        return self.starts[-1] + self.parts[-1].frames

    @property
    def alone(self) -> bool:
        """Whether it holds a single part."""
        return len(self.parts) == 1


def fitting(frames: int) -> int:
    """Return the length of the shortest window for so many frames."""
    return min((length for length in LENGTHS if frames + SPARE <= length), default=LENGTHS[-1])


def brief(part: Part) -> Window:
    """Return a window of one part for unfinished text."""
    length = BRIEF if part.frames + SPARE <= BRIEF else fitting(part.frames)
    return Window((part,), (0,), length)


def lone(part: Part, longer_than: int = 0, start: int = 0) -> Window:
    """Return a window of one part, longer than `longer_than` frames if there is such a length.

    The part begins at frame `start`, which is at most `SPARE`.
    """
    length = max(fitting(part.frames + start), next((one for one in LENGTHS if one > longer_than), LENGTHS[-1]))
    return Window((part,), (start,), length)


def packed(parts: Sequence[Part], most: int = PACKED, gap: int = GAP) -> list[Window]:
    """Put parts after each other, in their order, into windows of which `most` frames are filled.

    A part that is longer gets a window of its own.
    """
    windows: list[Window] = []
    waiting: list[Part] = []
    filled = 0
    for part in parts:
        if waiting and filled + gap + part.frames > most:
            windows.append(_window(waiting, gap))
            waiting, filled = [], 0
        filled += part.frames + (gap if waiting else 0)
        waiting.append(part)
    return [*windows, _window(waiting, gap)] if waiting else windows


def _window(parts: Sequence[Part], gap: int) -> Window:
    lengths = [part.frames + gap for part in parts]
    starts = tuple(sum(lengths[:index]) for index in range(len(parts)))
    return Window(tuple(parts), starts, fitting(starts[-1] + parts[-1].frames))


def cut(piece: int, mel: Frames) -> list[Part]:
    """Return a piece as parts that fit into windows; cut at the quietest frames, if it must be cut."""
    parts: list[Part] = []
    offset = 0
    while mel.shape[1] - offset > LONGEST:
        rest = mel.shape[1] - offset
        # Both sides of the cut get at least half a window, or what is left, halved.
        first, last = min(LONGEST // 2, rest // 3), min(LONGEST, rest - rest // 3)
        level = np.convolve(mel[:, offset : offset + last].mean(axis=0), np.ones(SMOOTHED) / SMOOTHED, mode="same")
        at = first + int(level[first:].argmin())
        parts.append(Part(piece, offset, mel[:, offset : offset + at]))
        offset += at
    return [*parts, Part(piece, offset, mel[:, offset:])]
