"""From letters' probabilities to words, by hand-made probabilities."""

import numpy as np
import pytest

from speechpipe.cascade.asr.acoustic.lattice import MOST_WORDS, Lexicon, LogProbs, best_path
from speechpipe.errors import BadInput

ALPHABET = " abcde"


def spoken(path: str, sure: float = 0.9) -> LogProbs:
    """Log-probabilities in which `path` is the most probable; `_` is the blank."""
    symbols = len(ALPHABET) + 1
    found = np.full((len(path), symbols), (1 - sure) / (symbols - 1), np.float32)
    for frame, letter in enumerate(path):
        found[frame, 0 if letter == "_" else ALPHABET.index(letter) + 1] = sure
    return np.log(found)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("__aa_b__", ["ab"]),
        ("aab", ["ab"]),
        ("a_a", ["aa"]),
        ("ab  cd", ["ab", "cd"]),
        (" ab _ cd ", ["ab", "cd"]),
        ("____", []),
        ("   ", []),
        ("", []),
    ],
)
def test_the_best_path_collapses_runs_and_drops_blanks(path: str, words: list[str]) -> None:
    assert [word.text for word in best_path(spoken(path), ALPHABET)] == words


def test_words_have_their_frames_and_a_confidence() -> None:
    first, second = best_path(spoken("_aab_ _cc__d_", 0.8), ALPHABET)
    assert (first.text, first.start, first.end) == ("ab", 1, 4)
    assert (second.text, second.start, second.end) == ("cd", 7, 12)
    assert first.confidence == pytest.approx(0.8, abs=1e-5)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("_abc_", ["abc"]),
        ("_abd_", ["abc"]),  # the nearest word that may be said
        ("abc dd", ["abc", "d"]),
        ("d d d", ["d", "d", "d"]),
        ("_ee_", []),  # silence is as good
        ("a_a", ["aa"]),  # a doubled letter needs its blank
        ("_____", []),
        ("", []),
    ],
)
def test_a_list_of_words_lets_nothing_else_be_said(path: str, words: list[str]) -> None:
    assert [word.text for word in Lexicon(["abc", "d", "aa"], ALPHABET).decode(spoken(path))] == words


def test_a_word_that_is_not_in_the_list_is_less_sure_than_one_that_is() -> None:
    lexicon = Lexicon(["abc", "dd"], ALPHABET)
    (known,), (strange,) = lexicon.decode(spoken("_abc_")), lexicon.decode(spoken("_aec_"))
    assert strange.text == known.text == "abc"
    assert strange.confidence < 0.5 < known.confidence


def test_the_list_finds_what_the_exhaustive_search_finds() -> None:
    """On random probabilities: the best of all sequences of up to two words, by the probability of their paths."""
    lexicon = Lexicon(["ab", "b", "ca"], ALPHABET)
    random = np.random.default_rng(0)
    for _ in range(20):
        log_probs = np.log(random.dirichlet(np.full(7, 0.3), 7).astype(np.float32) + 1e-9)
        texts = ["", *lexicon.words, *(f"{a} {b}" for a in lexicon.words for b in lexicon.words)]
        best = max(texts, key=lambda text: _viterbi(log_probs, text))
        found = " ".join(word.text for word in lexicon.decode(log_probs))
        # Three words in seven frames are possible too, and are then better than all that were tried.
        assert found == best or _viterbi(log_probs, found) >= _viterbi(log_probs, best) - 1e-4


def _viterbi(log_probs: LogProbs, text: str) -> float:
    """The probability of the best path that spells a text; spaces at its ends are no difference."""
    states = [0]
    for letter in text:
        states += [ALPHABET.index(letter) + 1, 0]
    best = -np.inf
    for pad in ([], [1, 0]):  # a space behind the last word
        row = np.array(states + (pad if text else []))
        score = np.full(len(row), -np.inf)
        score[:2] = log_probs[0, row[:2]]
        for frame in log_probs[1:]:
            step = np.concatenate([[-np.inf], score[:-1]])
            skip = np.concatenate([[-np.inf, -np.inf], score[:-2]])
            may = np.concatenate([[False, False], (row[2:] != 0) & (row[2:] != row[:-2])])
            score = np.maximum(np.maximum(score, step), np.where(may, skip, -np.inf)) + frame[row]
        best = max(best, float(score[-2:].max()))
    return best


@pytest.mark.parametrize("words", [[], ["naïve"], ["a b"], [f"{'a' * (n % 9 + 1)}{n}" for n in range(MOST_WORDS + 1)]])
def test_what_cannot_be_a_list_of_words_is_refused(words: list[str]) -> None:
    with pytest.raises(BadInput):
        Lexicon(words, ALPHABET)
