"""Words out of tokens, their times, and to which piece of a window each belongs."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechpipe.cascade.asr.whisper.decoding import Placed
from speechpipe.cascade.asr.whisper.windows import Part, Window
from speechpipe.cascade.asr.whisper.words import Said, apart, said, sound_of, sounding, units


def placed(starts_s: list[float], probability: float = 0.5) -> Placed:
    return Placed(starts_s, [probability] * (len(starts_s) - 1))


def test_words_are_slices_of_the_text() -> None:
    spelled = [b" He", b" said", b":", b" well", b"-", b"known", b",", b" 1", b",", b"2"]
    assert [unit.text for unit in units(spelled, spaced=True)] == ["He", "said:", "well-known,", "1,2"]


def test_characters_that_are_spread_over_tokens_are_put_together() -> None:
    spelled = [" ö".encode()[:2], " ö".encode()[2:], b"l", " 日".encode()]
    assert [unit.text for unit in units(spelled, spaced=True)] == ["öl", "日"]
    chinese = "日本".encode()
    tokens = [chinese[:2], chinese[2:3], chinese[3:], "。".encode()]
    assert [(unit.first, unit.last, unit.text) for unit in units(tokens, spaced=False)] == [
        (0, 1, "日"),
        (2, 2, "本"),
        (3, 3, "。"),
    ]


def test_a_text_that_ends_within_a_character_is_kept() -> None:
    assert units([b"a", "日".encode()[:2]], spaced=False)[-1].text == "\ufffd"


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1), max_size=8), st.data()
)
def test_no_letter_is_lost_however_tokens_are_cut(words: list[str], data: st.DataObject) -> None:
    text = "".join(f" {word}" for word in words).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))) | {0, len(text)})
    spelled = [text[first:last] for first, last in itertools.pairwise(cuts)]
    assert [unit.text for unit in units(spelled, spaced=True)] == words


def test_a_word_ends_where_its_punctuation_begins() -> None:
    spelled = [b" yes", b".", b" No", b"!"]
    words = said(spelled, units(spelled, spaced=True), placed([0.0, 0.4, 1.1, 1.5, 3.0]))
    assert [(word.text, word.start_s, word.end_s) for word in words] == [("yes.", 0.0, 0.4), ("No!", 1.1, 1.5)]


def test_a_word_of_punctuation_alone_keeps_its_time() -> None:
    spelled = [b" ...", b" so"]
    words = said(spelled, units(spelled, spaced=True), placed([0.0, 0.4, 1.1]))
    assert (words[0].start_s, words[0].end_s) == (0.0, 0.4)


def test_confidence_is_the_geometric_mean_of_the_tokens() -> None:
    spelled = [b" dash", b"wood"]
    (word,) = said(spelled, units(spelled, spaced=True), Placed([0.0, 0.1, 0.2], [0.9, 0.4]))
    assert word.confidence == pytest.approx(0.6)
    assert word.tokens == 2


# ---- two pieces in a window: 0.3 s of silence, a second of sound, 0.3 s of silence, twice, 0.3 s apart ----


def shared() -> Window:
    mel = np.full((80, 160), -7.0, np.float32)
    mel[:, 30:130] = -1.0
    return Window((Part(0, 0, mel), Part(1, 0, mel)), (0, 190), 1500)


def word(text: str, start_s: float, end_s: float) -> Said:
    return Said(text, start_s, end_s, 0.9, 1)


def shares(*words: Said) -> tuple[list[list[str]], list[bool]]:
    found = apart(shared(), words, sound_of(shared()))
    return [[one.text for one in share.words] for share in found], [share.doubtful for share in found]


def test_each_piece_gets_its_words() -> None:
    assert shares(word("a", 0.3, 0.8), word("b", 0.8, 1.3), word("c", 2.2, 3.2)) == (
        [["a", "b"], ["c"]],
        [False, False],
    )


def test_a_word_that_reaches_into_the_pause_stays_where_it_sounds() -> None:
    """More than half of its time is in the other piece's silence, none of its sound."""
    assert shares(word("a", 1.0, 2.2), word("b", 2.2, 3.0)) == ([["a"], ["b"]], [False, False])
    assert shares(word("a", 0.3, 1.2), word("b", 1.32, 2.6)) == ([["a"], ["b"]], [False, False])


def test_a_word_that_sounds_in_both_pieces_is_doubtful() -> None:
    assert shares(word("a", 0.3, 0.8), word("b", 0.8, 2.6))[1] == [True, True]


def test_a_word_without_sound_goes_to_the_nearest_piece_and_is_doubtful() -> None:
    assert shares(word("a", 0.3, 1.2), word("b", 1.4, 1.5), word("c", 2.3, 3.0)) == (
        [["a", "b"], ["c"]],
        [True, False],
    )
    assert shares(word("a", 0.3, 1.2), word("b", 1.85, 1.9), word("c", 2.3, 3.0))[0] == [["a"], ["b", "c"]]


def test_words_that_lie_at_one_moment_stay_in_order() -> None:
    found, _ = shares(word("a", 2.2, 2.2), word("b", 0.5, 0.5))
    assert found == [[], ["a", "b"]]


@given(st.lists(st.floats(0, 3.5), max_size=20))
def test_every_word_goes_to_one_piece_in_the_order_of_the_text(times: list[float]) -> None:
    times.sort()
    words = [word(str(number), *span) for number, span in enumerate(itertools.pairwise(times))]
    found, _ = shares(*words)
    assert [text for share in found for text in share] == [one.text for one in words]


def test_noise_under_the_speech_does_not_hide_where_the_words_are() -> None:
    mel = np.full((80, 160), -3.0, np.float32)
    mel[:, 30:130] = -1.5
    window = Window((Part(0, 0, mel), Part(1, 0, mel)), (0, 190), 1500)
    found = apart(window, [word("a", 0.3, 2.1), word("b", 2.1, 3.2)], sound_of(window))
    assert [[one.text for one in share.words] for share in found] == [["a"], ["b"]]
    assert not any(share.doubtful for share in found)


def test_words_lose_the_pauses_at_their_ends() -> None:
    """What sounds lies from 0.3 to 1.3 s and from 2.2 to 3.2 s."""
    words = sounding([word("a", 0.0, 0.8), word("b", 0.8, 2.0), word("c", 2.15, 3.4)], sound_of(shared()))
    assert [(one.start_s, one.end_s) for one in words] == [
        (pytest.approx(0.27), 0.8),
        (0.8, pytest.approx(1.33)),
        (2.15, pytest.approx(3.23)),
    ]


def test_a_word_in_silence_keeps_its_time() -> None:
    assert sounding([word("a", 1.4, 2.0)], sound_of(shared())) == [word("a", 1.4, 2.0)]


def test_the_first_word_of_a_piece_begins_with_its_sound() -> None:
    """The alignment gave it the end of the piece before, or gave its beginning to a word there."""
    window = shared()
    for start_s in (1.2, 2.6):
        first, second = apart(window, [word("a", 0.3, 1.2), word("b", start_s, 3.0)], sound_of(window))
        assert [one.start_s for one in (*first.words, *second.words)] == [pytest.approx(0.27), pytest.approx(2.17)]
