"""What counts as a text that repeats itself or has no end."""

import pytest

from speechpipe.cascade.asr.whisper.decoding import Guess
from speechpipe.cascade.asr.whisper.guards import endless, most_tokens, no_speech, repetition


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Third. Third. Third.", "Third."),
        ("well thank you, thank you, Thank you!", "thank you,"),
        ("and then I go home, and then I go home.", "and then I go home,"),
        ("press one to save press two to save", ""),
        ("no no", ""),
        ("thank you thank you", ""),
        ("", ""),
    ],
)
def test_phrases_in_a_row(text: str, first: str) -> None:
    words = text.split()
    found = repetition(words)
    assert " ".join(words[slice(*found)] if found else []) == first


def test_a_text_has_a_bounded_number_of_tokens_for_its_audio() -> None:
    assert most_tokens(0) == 12
    assert most_tokens(1000) == 77
    assert most_tokens(3000) == 207
    assert most_tokens(10_000) == 224  # half of the decoder's positions
    assert endless(Guess([1] * 77, -0.1, 0.0), 1000)
    assert not endless(Guess([1] * 76, -0.1, 0.0), 1000)


def test_no_speech_needs_both_signs() -> None:
    assert no_speech(Guess([1], -1.5, 0.9), 0.6, -1.0)
    assert not no_speech(Guess([1], -0.5, 0.9), 0.6, -1.0)
    assert not no_speech(Guess([1], -1.5, 0.5), 0.6, -1.0)
