"""Pronunciations of words that a dictionary lacks, by letter-to-sound rules learnt from the dictionary.

Letters are aligned with none, one or two phones each by expectation maximisation. Then each letter gets its most
frequent phones between the same neighbours (Black, Lenzo & Pagel, "Issues in building general letter to sound rules",
1998). Contexts that were not seen fall back to narrower ones, as in Bagshaw, 1998.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from speechpipe.errors import BadInput
from speechpipe.foundation.text_files import MOST_LIST_BYTES, read_text

LEARNT_FROM = 30_000
"""Words; more of them do not improve the rules noticeably."""

ALIGNED_FROM = 6_000
ROUNDS = 4
MOST_PHONES = 2
CONTEXTS = ((3, 3), (2, 3), (3, 2), (2, 2), (1, 2), (2, 1), (1, 1), (0, 1), (0, 0))
"""Letters to the left and right of a letter, from the widest context to the narrowest."""

EDGE = "#"
SPELLABLE = re.compile("[a-z']+")

Phones = tuple[str, ...]


class Dictionary:
    """A pronouncing dictionary in Sphinx's format: on each line a word, perhaps with `(2)`, and its phones."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            BadInput: it cannot be read, or is not such a file.
        """
        self.words: dict[str, Phones] = {}
        try:
            for line in read_text(path, MOST_LIST_BYTES).splitlines():
                word, *phones = line.split()
                if "(" not in word:
                    self.words[word] = tuple(phones)
        except ValueError as error:
            raise BadInput(f"{path} is not a pronouncing dictionary: {error}") from error

    def __contains__(self, word: str) -> bool:
        return word in self.words

    def pronounced(self, word: str) -> Phones:
        """Return the phones of a word: from the dictionary, from two of its words, or by the letter rules.

        Raises:
            BadInput: it has characters other than letters and apostrophes.
        """
        if word in self.words:
            return self.words[word]
        if not SPELLABLE.fullmatch(word):
            raise BadInput(f"{word!r} cannot be pronounced: it needs a line in --pronunciations", cause="alphabet")
        for cut in range(len(word) - 3, 2, -1):  # compounds, with the longest first part: voicemail, speechpipe
            if word[:cut] in self.words and word[cut:] in self.words:
                return self.words[word[:cut]] + self.words[word[cut:]]
        return self._rules.speak(word)

    @cached_property
    def _rules(self) -> "LetterRules":
        plain = [(word, phones) for word, phones in sorted(self.words.items()) if SPELLABLE.fullmatch(word)]
        order = np.random.default_rng(0).permutation(len(plain))
        return LetterRules([plain[index] for index in order[:LEARNT_FROM]])


def read_pronunciations(path: Path) -> dict[str, Phones]:
    """Return the words of a file of pronunciations: on each line a word and its phones.

    Raises:
        BadInput: it is not such a file.
        OSError: it cannot be read.
    """
    return Dictionary(path).words


class LetterRules:
    """Letter-to-sound rules by context."""

    def __init__(self, examples: Iterable[tuple[str, Phones]]) -> None:
        """Learn from (word, phones) pairs."""
        known = list(examples)
        chances: Mapping[tuple[str, Phones], float] = {}
        for _ in range(ROUNDS):
            counts: Counter[tuple[str, Phones]] = Counter()
            for word, phones in known[:ALIGNED_FROM]:
                counts.update(zip(word, _align(word, phones, chances) or (), strict=False))
            letters: Counter[str] = Counter()
            for (letter, _), count in counts.items():
                letters[letter] += count
            chances = {key: math.log(count / letters[key[0]]) for key, count in counts.items()}
        table: dict[tuple[str, str, str], Counter[Phones]] = {}
        for word, phones in known:
            parts = _align(word, phones, chances)
            for index, part in enumerate(parts or ()):
                for key in _contexts(word, index):
                    table.setdefault(key, Counter())[part] += 1
        self._table = {key: counts.most_common(1)[0][0] for key, counts in table.items()}

    def speak(self, word: str) -> Phones:
        """Return the phones of a word."""
        found: list[str] = []
        for index in range(len(word)):
            key = next((key for key in _contexts(word, index) if key in self._table), None)
            found += self._table[key] if key is not None else ()
        return tuple(found)


def _contexts(word: str, index: int) -> Iterable[tuple[str, str, str]]:
    padded = EDGE * 3 + word + EDGE * 3
    at = index + 3
    for left, right in CONTEXTS:
        yield padded[at - left : at], padded[at], padded[at + 1 : at + 1 + right]


def _align(word: str, phones: Phones, chances: Mapping[tuple[str, Phones], float]) -> list[Phones] | None:
    """Return the phones of each letter in the most probable alignment; None if there are too many phones."""
    unseen = -12.0 if chances else 0.0
    best: list[dict[int, tuple[float, int]]] = [{0: (0.0, 0)}]
    for letter in word:
        row: dict[int, tuple[float, int]] = {}
        for begun, (score, _) in best[-1].items():
            for count in range(min(MOST_PHONES, len(phones) - begun) + 1):
                part = phones[begun : begun + count]
                # Without counts, one phone for each letter is preferred; afterwards the counts decide.
                gain = chances.get((letter, part), unseen) if chances else -abs(count - 1)
                if begun + count not in row or score + gain > row[begun + count][0]:
                    row[begun + count] = (score + gain, begun)
        best.append(row)
    if len(phones) not in best[-1]:
        return None
    end, parts = len(phones), []
    for row in reversed(best[1:]):
        begun = row[end][1]
        parts.append(phones[begun:end])
        end = begun
    return parts[::-1]
