"""Text that nobody said."""

import numpy as np
import pytest

from speechpipe.cascade.asr.acoustic import guards
from tests.sounds import sample


def test_silence_is_silent_and_speech_is_not() -> None:
    assert guards.silent(np.zeros(16_000, np.float32))
    assert guards.silent(np.zeros(0, np.float32))
    assert guards.silent(np.full(16_000, 3e-4, np.float32))
    assert not guards.silent(sample("digits"))


@pytest.mark.parametrize(
    ("text", "seconds", "why"),
    [
        ("thank you for watching", 0.3, "letters per second"),
        ("thank you " * 20, 30.0, "repetitive text"),
        ("thank you for watching", 2.0, ""),
        ("the quick brown fox jumps over the lazy dog and then rests for a while", 5.0, ""),
        ("no no no no", 2.0, ""),  # people say that
        ("", 1.0, ""),
    ],
)
def test_what_nobody_can_have_said_is_objected_to(text: str, seconds: float, why: str) -> None:
    found = guards.objection(text, round(seconds * 16_000))
    assert why in found
    assert bool(found) == bool(why)
