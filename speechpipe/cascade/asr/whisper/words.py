"""Words with times and confidences out of tokens, and which part of a window each word belongs to."""

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from speechpipe.cascade.asr.whisper.decoding import Placed
from speechpipe.cascade.asr.whisper.features import FRAMES_S
from speechpipe.cascade.asr.whisper.windows import Window

WORD = re.compile(rb"\S+")
NO_SOUND = re.compile(rb"""[\s!"'(),.:;?\[\]{}-]*|(?: ?\xe2\x80[\x90-\xbf])+""")
"""Punctuation of ASCII, and the dashes, quotes and dots of Unicode (U+2010 to U+203F)."""

LEAST_PROBABILITY = 1e-9


class Said(NamedTuple):
    """A word in a window: its text, its seconds from the window's start, its probability, and its tokens' number."""

    text: str
    start_s: float
    end_s: float
    confidence: float
    tokens: int


class Unit(NamedTuple):
    """A word as a stretch of tokens: the numbers of the first and the last, and its text."""

    first: int
    last: int
    text: str


def units(spelled: Sequence[bytes], *, spaced: bool) -> list[Unit]:
    """Return the words of a text. `spelled`: the bytes of each token, which carry their own spaces.

    `spaced`: the language puts spaces between words; where it does not, a word is the least number of tokens that is
    whole characters.
    """
    return _by_spaces(spelled) if spaced else _by_characters(spelled)


def said(spelled: Sequence[bytes], words: Sequence[Unit], placed: Placed) -> list[Said]:
    """Return words with times and confidences: the geometric means of their tokens' probabilities."""
    found: list[Said] = []
    for word in words:
        logs = np.log(np.maximum(placed.probabilities[word.first : word.last + 1], LEAST_PROBABILITY))
        start_s, end_s = _span(spelled, placed, word.first, word.last)
        found.append(Said(word.text, start_s, end_s, float(np.exp(logs.mean())), word.last - word.first + 1))
    return found


def _span(spelled: Sequence[bytes], placed: Placed, first: int, last: int) -> tuple[float, float]:
    """Return when the tokens `first` to `last` begin and end, without the punctuation at their ends.

    Punctuation has no sound: the alignment gives it the pause, and often the beginning of the next word.
    """
    sounding = [number for number in range(first, last + 1) if not NO_SOUND.fullmatch(spelled[number])]
    if sounding:
        first, last = sounding[0], sounding[-1]
    return placed.starts_s[first], placed.starts_s[min(last + 1, len(placed.starts_s) - 1)]


def _by_spaces(spelled: Sequence[bytes]) -> list[Unit]:
    ends = list(accumulate(map(len, spelled)))
    words = []
    for match in WORD.finditer(b"".join(spelled)):
        first = int(np.searchsorted(ends, match.start(), side="right"))
        last = int(np.searchsorted(ends, match.end(), side="left"))
        words.append(Unit(first, last, match.group().decode(errors="replace")))
    return words


def _by_characters(spelled: Sequence[bytes]) -> list[Unit]:
    words: list[Unit] = []
    first, waiting = 0, b""
    for number, token in enumerate(spelled):
        waiting += token
        try:
            text = waiting.decode()
        except UnicodeDecodeError:
            if number < len(spelled) - 1:
                continue
            text = waiting.decode(errors="replace")
        if text.strip():
            words.append(Unit(first, number, text.strip()))
        first, waiting = number + 1, b""
    return words


LOUD = 3.0
"""Frames count as sound that are at most 30 dB (three powers of ten) below the loud ones of their part."""

ABOVE = 0.3
"""And that are above the part's quiet frames by this share of the distance to its loud ones."""

PAUSE = 10
MARGIN = 3
"""Quiet frames at the end of a word are a pause if they are so many, and so many of them stay with the word."""

Sound = npt.NDArray[np.float32]
"""How loud each frame of a window is."""

SURE_SHARE = 0.75
"""Share of a word's sound that must lie in one part. Less: it is doubtful on which side of the boundary it was said."""


class Share(NamedTuple):
    """The words of one part, on the window's clock. `doubtful`: one of them may belong to a neighbour."""

    words: list[Said]
    doubtful: bool


def sounding(words: Sequence[Said], sound: Sound) -> list[Said]:
    """Return words without the pauses at their ends. `sound`: of the window, see `sound_of`.

    The alignment has no place for a pause: it belongs to the word before it or after it. The first word of a window
    always begins with the window.
    """
    found: list[Said] = []
    for word in words:
        first, last = _frames(word)
        loud = np.flatnonzero(sound[first:last])
        if len(loud):
            before, after = int(loud[0]), last - first - 1 - int(loud[-1])
            start_s = word.start_s + (before - MARGIN) / FRAMES_S if before >= PAUSE else word.start_s
            end_s = word.end_s - (after - MARGIN) / FRAMES_S if after >= PAUSE else word.end_s
            found.append(word._replace(start_s=start_s, end_s=end_s))
        else:
            found.append(word)
    return found


def apart(window: Window, words: Sequence[Said], sound: Sound) -> list[Share]:
    """Return the words of each part of a window: a word belongs to the part that holds most of its sound.

    The times of words are not exact, and a word next to a pause often reaches far into it. So not its seconds are
    compared, but how much louder than the background they are.
    """
    shares: list[list[Said]] = [[] for _ in window.parts]
    doubtful = [False] * len(window.parts)
    earliest = 0
    for word in words:
        held = [_held(word, sound, start, part.frames) for start, part in zip(window.starts, window.parts, strict=True)]
        total = sum(held)
        if total > 0:
            chosen = int(np.argmax(held))
        else:
            middle = (word.start_s + word.end_s) / 2 * FRAMES_S
            chosen = min(range(len(held)), key=lambda part: _distance(window, part, middle))
        if total <= 0 or held[chosen] < SURE_SHARE * total:
            touched = [part for part, value in enumerate(held) if value > 0] or [chosen]
            for part in touched:
                doubtful[part] = True
        chosen = earliest = max(earliest, chosen)
        start, frames = window.starts[chosen], window.parts[chosen].frames
        shares[chosen].append(_within(word, start, frames, sound, first=not shares[chosen]))
    return [Share(*share) for share in zip(shares, doubtful, strict=True)]


def _within(word: Said, start: int, frames: int, sound: Sound, *, first: bool) -> Said:
    """Return a word without what lies outside of its part, and without the pauses that are then at its ends.

    `first`: it is the first of its part, and begins with it, as if the part were alone. The alignment often gives its
    beginning to the word before, in another part.
    """
    start_s = start / FRAMES_S if first else max(word.start_s, start / FRAMES_S)
    end_s = min(word.end_s, (start + frames) / FRAMES_S)
    if (start_s, end_s) == (word.start_s, word.end_s) or start_s >= end_s:
        return word
    return sounding([word._replace(start_s=start_s, end_s=end_s)], sound)[0]


def sound_of(window: Window) -> Sound:
    """Return how loud each frame of a window is: 0 for the background and for the silence between parts."""
    found = np.zeros(window.frames, np.float32)
    for start, part in zip(window.starts, window.parts, strict=True):
        level = part.mel.mean(axis=0)
        if len(level):
            quiet, loud = np.percentile(level, (10, 95))
            found[start : start + part.frames] = np.maximum(level - max(loud - LOUD, quiet + ABOVE * (loud - quiet)), 0)
    return found


def _frames(word: Said) -> tuple[int, int]:
    """Return the first and the last frame of a word, exclusive; at least one frame of the encoder's output."""
    first = round(word.start_s * FRAMES_S)
    return first, max(round(word.end_s * FRAMES_S), first + 2)


def _held(word: Said, sound: Sound, start: int, frames: int) -> float:
    first, last = _frames(word)
    first, last = max(start, first), min(start + frames, last)
    return float(sound[first:last].sum()) if first < last else 0.0


def _distance(window: Window, part: int, frame: float) -> float:
    start = window.starts[part]
    return max(start - frame, frame - start - window.parts[part].frames, 0.0)
