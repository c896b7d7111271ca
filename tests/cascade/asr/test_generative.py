"""Recognizers that write text: over silence they write none, and their words lie in the audio, one after the other."""

import numpy as np
import pytest

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.types import NullCause
from tests.cascade.asr.conftest import Load
from tests.sounds import sample


@pytest.mark.parametrize("name", ["moonshine", "whisper"])
def test_silence_is_not_even_asked_about(load: Load, name: str) -> None:
    stream = load(name).open(DecodeOptions(offline=True))
    stream.feed(np.zeros(32_000, np.float32))
    transcript = stream.finish()
    assert (transcript.null_cause, transcript.detail) == (NullCause.EMPTY, "silence")


def test_words_follow_where_the_decoder_looked() -> None:
    from speechpipe.cascade.asr.moonshine import warp

    looked = np.full((3, 9), 0.01)
    looked[0, :3] = looked[1, 3:5] = looked[2, 5:] = 1.0
    assert warp(looked) == [(0, 2), (3, 4), (5, 8)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (4, 4), (9, 3)])
def test_words_never_go_back_in_time(shape: tuple[int, int]) -> None:
    from speechpipe.cascade.asr.moonshine import warp

    spans = warp(np.random.default_rng(1).random(shape))
    assert len(spans) == shape[0]
    assert all(0 <= first <= last < shape[1] for first, last in spans)
    assert spans == sorted(spans)


def test_moonshine_stops_when_it_loops(load: Load) -> None:
    from speechpipe.cascade.asr.moonshine import MoonshineRecognizer

    recognizer = load("moonshine")
    assert isinstance(recognizer, MoonshineRecognizer)
    transcript = recognizer.decode(sample("noise"))
    assert len(transcript.text) <= 30 * len(sample("noise")) / 16_000
