"""Recognizers that write text: over silence they write none, and their words lie in the audio, one after the other."""

import numpy as np
import pytest

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.asr.faster_whisper import FasterWhisperRecognizer
from speechpipe.types import NullCause
from tests.cascade.asr.conftest import Load
from tests.sounds import sample


@pytest.mark.parametrize("name", ["faster_whisper", "moonshine"])
def test_silence_is_not_even_asked_about(load: Load, name: str) -> None:
    stream = load(name).open(DecodeOptions(offline=True))
    stream.feed(np.zeros(32_000, np.float32))
    transcript = stream.finish()
    assert (transcript.null_cause, transcript.detail) == (NullCause.EMPTY, "silence")


def test_text_that_repeats_itself_is_dropped_with_its_cause(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    from faster_whisper.transcribe import Segment, Word

    recognizer = load("faster_whisper")
    assert isinstance(recognizer, FasterWhisperRecognizer)

    def said(words: list[str], log_prob: float) -> None:
        given = [
            Word(start=index * 0.1, end=index * 0.1 + 0.1, word=f" {w}", probability=0.5)
            for index, w in enumerate(words)
        ]
        segment = Segment(
            id=1, seek=0, start=0.0, end=2.0, text=" ".join(words), tokens=[1] * len(words), avg_logprob=log_prob,
            compression_ratio=1.0, no_speech_prob=0.1, words=given, temperature=0.0,
        )  # fmt: skip
        monkeypatch.setattr(recognizer._model, "transcribe", lambda *_, **__: (iter([segment]), None))

    said(["thank", "you"] * 20, -0.1)
    looped = recognizer.decode(sample("digits"), DecodeOptions())
    assert looped.null_cause is NullCause.EMPTY
    assert "rejected as hallucination" in looped.detail
    said(["one", "two"], -0.5)
    good = recognizer.decode(sample("digits"), DecodeOptions())
    assert good.text == "one two"
    assert good.confidence == pytest.approx(np.exp(-0.5))
    assert [word.confidence for word in good.words] == [0.5, 0.5]
    said(["sure"], 0.3)  # rounding takes it above 0
    assert recognizer.decode(sample("digits"), DecodeOptions()).confidence == 1.0


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
