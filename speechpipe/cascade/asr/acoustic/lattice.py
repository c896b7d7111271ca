"""CTC decoding: log-probabilities of letters to words, by the best path or the best path through a lexicon.

Best path: Graves et al. 2006, section 3.2. Lexicon: token passing over CTC's states, as in Hannun et al., 2014, without
a language model; only paths that spell words of the lexicon are considered.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from speechpipe.cascade.asr.acoustic import BLANK
from speechpipe.errors import BadInput

LogProbs = npt.NDArray[np.float32]
"""(frames, symbols); symbol 0 is the blank, symbol n the alphabet's letter n - 1."""

MOST_WORDS = 5_000
"""Largest lexicon; a larger vocabulary is slow and needs a language model."""

STAY, STEP, SKIP, ENTER = range(4)


@dataclass(frozen=True, slots=True)
class Spelled:
    """One word: its frames (end excluded), and the geometric mean of its letters' highest probabilities."""

    text: str
    start: int
    end: int
    confidence: float


def best_path(log_probs: LogProbs, alphabet: str, space: str = " ") -> list[Spelled]:
    """Return the words that the most probable symbol of each frame spells."""
    return _words(log_probs.argmax(axis=1), log_probs, alphabet, space)


def _words(path: npt.NDArray[np.intp], log_probs: LogProbs, alphabet: str, space: str) -> list[Spelled]:
    """Collapse a path: a run of one symbol is one letter, blanks separate runs, spaces separate words."""
    bounds = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(path)]
    words: list[Spelled] = []
    letters: list[tuple[str, int, int, float]] = []
    for start, end in [*pairwise(bounds), (len(path), len(path))]:
        symbol = int(path[start]) if start < end else None
        if symbol == BLANK:
            continue
        letter = space if symbol is None else alphabet[symbol - 1]
        if letter != space:
            letters.append((letter, start, end, float(log_probs[start:end, symbol].max())))
        elif letters:
            confidence = float(np.exp(np.mean([item[3] for item in letters])))
            words.append(Spelled("".join(item[0] for item in letters), letters[0][1], letters[-1][2], confidence))
            letters = []
    return words


class Lexicon:
    """A decoder restricted to a list of words, in any order and number.

    States: for each word its letters with a blank between each two. Around the words: a blank before the first word
    (`LEAD`), a blank after a word (`END`), the space, and a blank after the space (`GAP`).
    """

    LEAD, END, SPACE, GAP = range(4)

    def __init__(self, words: Iterable[str], alphabet: str) -> None:
        """Build the states.

        Raises:
            BadInput: there are no words, too many, or one that the alphabet cannot spell.
        """
        self.words = sorted(set(words))
        if not 0 < len(self.words) <= MOST_WORDS:
            raise BadInput(f"a lexicon must have 1 to {MOST_WORDS} words, not {len(self.words)}")
        self._alphabet = alphabet
        symbols: list[int] = [BLANK, BLANK, alphabet.index(" ") + 1, BLANK]
        self._around = len(symbols)
        first, last, skips = [], [], []
        for word in self.words:
            letters = [spelled(letter, word, alphabet) for letter in word]
            first.append(len(symbols))
            for index, letter in enumerate(letters):
                if index:
                    symbols.append(BLANK)
                if index and letter != letters[index - 1]:
                    skips.append(len(symbols))
                symbols.append(letter)
            last.append(len(symbols) - 1)
        self._symbols = np.array(symbols)
        self._first, self._last = np.array(first), np.array(last)
        self._may_step = np.ones(len(symbols), bool)
        self._may_step[: self._around] = False
        self._may_step[self._first] = False
        self._may_skip = np.zeros(len(symbols), bool)
        self._may_skip[skips] = True

    def decode(self, log_probs: LogProbs) -> list[Spelled]:
        """Return the words of the most probable path; none if silence is more probable."""
        frames, states = len(log_probs), len(self._symbols)
        if not frames:
            return []
        score = np.full(states, -np.inf, np.float32)
        score[[self.LEAD, *self._first]] = 0.0
        score += log_probs[0, self._symbols]
        came = np.zeros((frames, states), np.int8)
        entered = np.zeros(
            (frames, self._around + 1), np.intp
        )  # predecessor of the states around the words, and of the words
        for frame in range(1, frames):
            score = self._step(score, came[frame], entered[frame]) + log_probs[frame, self._symbols]
        return _words(self._trace(score, came, entered), log_probs, self._alphabet, " ")

    def _step(
        self, score: npt.NDArray[np.float32], came: npt.NDArray[np.int8], entered: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float32]:
        ways = np.full((3, len(score)), -np.inf, np.float32)
        ways[STAY] = score
        ways[STEP, 1:] = np.where(self._may_step[1:], score[:-1], -np.inf)
        ways[SKIP, 2:] = np.where(self._may_skip[2:], score[:-2], -np.inf)
        came[:] = ways.argmax(axis=0)
        found: npt.NDArray[np.float32] = ways.max(axis=0)
        word_end = self._last[score[self._last].argmax()]
        into = [self.LEAD, *(max((self.SPACE, self.GAP), key=score.__getitem__),)]
        sources = {
            self.END: word_end,
            self.SPACE: max((word_end, self.END), key=score.__getitem__),
            self.GAP: self.SPACE,
        }
        for state, source in sources.items():
            if score[source] > found[state]:
                found[state], came[state], entered[state] = score[source], ENTER, source
        begin = max(into, key=score.__getitem__)
        better = score[begin] > found[self._first]
        found[self._first[better]], came[self._first[better]], entered[-1] = score[begin], ENTER, begin
        return found

    def _trace(
        self, score: npt.NDArray[np.float32], came: npt.NDArray[np.int8], entered: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.intp]:
        ends = [self.LEAD, self.END, self.SPACE, self.GAP, *self._last]
        state = ends[int(score[ends].argmax())]
        path = np.empty(len(came), np.intp)
        for frame in range(len(came) - 1, -1, -1):
            path[frame] = self._symbols[state]
            way = came[frame, state]
            if way == ENTER:
                state = int(entered[frame, state if state < self._around else -1])
            else:
                state -= int(way)
        return path


def spelled(letter: str, word: str, alphabet: str) -> int:
    """Return the symbol of a letter of `word`.

    Raises:
        BadInput: the alphabet does not have the letter.
    """
    place = alphabet.find(letter)
    if place < 0 or letter == " ":
        raise BadInput(f"{word!r} cannot be spelled with the letters {alphabet!r}", cause="alphabet")
    return place + 1
