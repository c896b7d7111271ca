"""Words of the library's tokens: their text, times and confidences. No model."""

import math

import pytest

from speechpipe.cascade.asr.sherpa.words import TOKEN_S, Decoded, settled, transcript
from speechpipe.types import NullCause, Transcript


def places(found: Transcript) -> list[tuple[str, float, float]]:
    return [(word.text, round(word.start_s, 3), round(word.end_s, 3)) for word in found.words]


def test_a_word_lasts_from_its_first_token_to_the_end_of_its_last() -> None:
    decoded = Decoded("HELLO WORLD", (" HE", "LLO", " WORLD"), (0.4, 0.52, 1.2), log_probs=(-0.1, -0.3, -0.5))
    found = transcript(decoded, 3.0, capital=True)
    assert found.text == "hello world"
    assert places(found) == [("hello", 0.4, 0.52 + TOKEN_S), ("world", 1.2, 1.2 + TOKEN_S)]
    assert [word.confidence for word in found.words] == pytest.approx([math.exp(-0.2), math.exp(-0.5)])
    assert found.confidence == pytest.approx((math.exp(-0.2) * 0.32 + math.exp(-0.5) * TOKEN_S) / (0.32 + TOKEN_S))


def test_a_token_ends_where_the_next_begins_or_where_the_model_says() -> None:
    assert places(transcript(Decoded("a b", (" a", " b"), (0.0, 0.08)), 1.0)) == [("a", 0.0, 0.08), ("b", 0.08, 0.28)]
    found = transcript(Decoded("a b", (" a", " b"), (0.0, 0.5), (0.32, 0.24)), 1.0)
    assert places(found) == [("a", 0.0, 0.32), ("b", 0.5, 0.74)]


def test_words_lie_in_the_segment_though_the_model_wrote_them_in_the_padding() -> None:
    found = transcript(Decoded("a b", (" a", " b"), (0.9, 1.3)), 1.0)
    assert places(found) == [("a", 0.9, 1.0), ("b", 0.99, 1.0)]


def test_text_without_spaces_is_a_word_for_each_character_and_stays_without_spaces() -> None:
    tokens = ("\u5f00", "\u996d", " at", " nine", "\u3002")
    found = transcript(Decoded("\u5f00\u996d at nine\u3002", tokens, (0.1, 0.3, 0.5, 0.8, 1.0)), 2.0)
    assert found.text == "\u5f00\u996d at nine\u3002"
    assert [word.text for word in found.words] == ["\u5f00", "\u996d", "at", "nine\u3002"]


def test_tags_are_no_text() -> None:
    tokens = ("<|en|>", "<|HAPPY|>", "<|Speech|>", " good", " day", "<|BGM|>", ".")
    found = transcript(Decoded("".join(tokens), tokens, [0.1 * place for place in range(7)]), 2.0, language="en")
    assert found.text == "good day."
    assert places(found) == [("good", 0.3, 0.4), ("day.", 0.4, 0.8)]
    assert found.language == "en"
    only = transcript(Decoded("<|nospeech|><|EMO_UNKNOWN|>", ("<|nospeech|>", "<|EMO_UNKNOWN|>"), (0, 0)), 1.0)
    assert only.null_cause is NullCause.EMPTY
    assert transcript(Decoded("\u3002", ("\u3002",), (0.1,)), 1.0).null_cause is NullCause.EMPTY


def test_bytes_of_a_character_are_joined() -> None:
    tokens = (" caf", "<0xC3>", "<0xA9>", "<0xE5>", "<0xBC>", "<0x80>", " x")
    found = transcript(Decoded("caf\u00e9\u5f00 x", tokens, [0.1 * place for place in range(7)]), 2.0)
    assert places(found) == [("caf\u00e9", 0.0, 0.3), ("\u5f00", 0.3, 0.6), ("x", 0.6, 0.8)]


@pytest.mark.parametrize(
    ("tokens", "starts"), [(("\u0188\u0155", "\u015f"), (0.2, 0.6)), ((" one", " two"), (0.2,)), ((), ())]
)
def test_a_text_that_its_tokens_do_not_spell_is_spread_over_their_time(
    tokens: tuple[str, ...], starts: tuple[float, ...]
) -> None:
    found = transcript(Decoded("one two", tokens, starts), 1.0)
    assert (found.text, [word.text for word in found.words]) == ("one two", ["one", "two"])
    assert found.confidence is None
    ends = [time for word in found.words for time in (word.start_s, word.end_s)]
    assert ends == sorted(ends)
    assert 0.0 <= ends[0] < ends[-1] <= 1.0


def test_there_is_no_confidence_where_the_library_gives_none_or_one_above_certainty() -> None:
    assert transcript(Decoded("a", (" a",), (0.1,)), 1.0).confidence is None
    assert transcript(Decoded("a", (" a",), (0.1,), log_probs=(2.5,)), 1.0).confidence is None
    assert transcript(Decoded("a", (" a",), (0.1,), log_probs=(1e-6,)), 1.0).confidence == 1.0


@pytest.mark.parametrize(
    ("text", "count"), [("", 0), ("beep", 0), ("beep bee", 4), ("\u5f00\u996d", 2), ("a \u5f00", 3)]
)
def test_the_last_word_of_a_growing_text_is_not_settled(text: str, count: int) -> None:
    assert settled(text) == count
