"""What counts as a text that repeats itself or has no end."""

import pytest

from speechpipe.cascade.asr.whisper.decoding import Guess
from speechpipe.cascade.asr.whisper.guards import most_tokens, no_speech, repetition


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


@pytest.mark.parametrize(
    ("log_prob", "probability", "ran_on", "dropped"),
    [
        (-1.5, 0.9, False, True),
        (-0.5, 0.9, False, False),
        (-0.5, 0.9, True, True),  # "Beep Beep Beep ..." over tones is written with confidence
        (-0.5, 0.1, True, False),
        (-1.5, 0.5, False, False),
        (-4.0, 0.1, False, True),
    ],
)
def test_no_speech(log_prob: float, probability: float, ran_on: bool, dropped: bool) -> None:
    assert no_speech(Guess([1], log_prob, probability), 0.6, -1.0, ran_on=ran_on) is dropped
