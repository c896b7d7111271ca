"""Stable text: the part of an unfinished text that later decodes of the segment will most likely keep.

A recognizer that decodes the whole segment again says something else each time, above all at the end. What two decodes
in a row agree on is stable: LocalAgreement-2 (Machacek, Dabre and Bojar, 2023, "Turning Whisper into Real-Time
Transcription System"; first in Liu, Spanakis and Niehues, 2020).
"""

import re

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_CJK}]|[^\s{_CJK}]+")
"""A word with its punctuation; a character where words are written without spaces between them."""

_ENDS = ".,;:!?\u2026\u3002\u3001\uff0c\uff01\uff1f"
"""Punctuation at the end of a decode: with more audio it is often another, or none."""

MOST_LONGER = 40
"""The words that stand for a stable text have at most so many characters more than it."""

_WITHIN = "'\u2019-"
"""Characters that continue a word, as letters and digits do."""


class LocalAgreement:
    """The stable text of one open segment; it only grows."""

    def __init__(self) -> None:
        self._last = ""
        self.stable = ""

    def update(self, text: str) -> tuple[str, int]:
        """Take the text of a new decode. Return the text to show, and how many of its characters are stable.

        The text to show begins with the stable text, even if the new decode does not.
        """
        agreed = _agreed(self._last, text)
        self._last = text
        if not _begins_with(text, self.stable):
            text = self.stable + rest_after(self.stable, text)
        elif len(agreed) > len(self.stable):
            self.stable = agreed
        return text, len(self.stable)


def rest_after(stable: str, text: str) -> str:
    """Return what of `text` follows the words that stand for `stable`, with the space or punctuation before it.

    The words that stand for `stable` are the beginning of `text` with the smallest edit distance to it. So the stable
    text and the rest together read like `text`, even if `text` changed a word that was stable.
    """
    if _begins_with(text, stable):
        return text[len(stable) :]
    words = list(_TOKEN.finditer(text))
    distances = _distances(stable.casefold(), text[: len(stable) + MOST_LONGER].casefold())
    ends = [0, *(word.end() for word in words if word.end() < len(distances))]
    end = min(ends, key=lambda place: (distances[place], abs(place - len(stable))))
    if end == 0:
        return f" {text}" if stable and text else text
    has_end = stable[-1:] in _ENDS  # then the punctuation of the last word has been said
    return text[end:] if has_end else text[len(text[:end].rstrip(_ENDS)) :]


def _begins_with(text: str, stable: str) -> bool:
    """Whether `text` begins with the whole words `stable`."""
    following = text[len(stable) : len(stable) + 1]
    within = bool(stable) and (following.isalnum() or following in _WITHIN) and bool(following)
    return text.startswith(stable) and (not within or bool(re.match(f"[{_CJK}]", following)))


def _agreed(before: str, now: str) -> str:
    """Return the words at the beginning of `now` that `before` begins with too.

    Of a word with other punctuation behind it, the word itself counts: what was the end of the text is its middle now.
    """
    tokens = list(_TOKEN.finditer(now))
    end = 0
    for one, other in zip(tokens, _TOKEN.finditer(before), strict=False):
        if one[0] != other[0]:
            word = one[0].rstrip(_ENDS)
            end = one.start() + len(word) if word and word == other[0].rstrip(_ENDS) else end
            break
        end = one.end()
    agreed = now[:end]
    return agreed.rstrip(f"{_ENDS} ") if tokens and end == tokens[-1].end() else agreed


def _distances(stable: str, text: str) -> list[int]:
    """Return the edit distance (Levenshtein) of `stable` to each beginning of `text`, from the empty one on."""
    distances = list(range(len(text) + 1))
    for row, character in enumerate(stable, 1):
        diagonal, distances[0] = distances[0], row
        for column, other in enumerate(text, 1):
            substituted = diagonal + (character != other)
            diagonal = distances[column]
            distances[column] = min(substituted, diagonal + 1, distances[column - 1] + 1)
    return distances
