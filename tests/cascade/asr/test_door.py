"""The contract of the recognizer door, checked on every row of its table."""

import numpy as np
import pytest

from speechpipe.cascade.asr import RECOGNIZERS, DecodeOptions, Recognizer
from speechpipe.types import NullCause, Samples, Transcript
from tests.cascade.asr.conftest import Load
from tests.sounds import sample

UNTRAINED = frozenset({
    "emformer",
    "moonshine",
    "sherpa_sense_voice",
    "sherpa_streaming",
    "sherpa_transducer",
    "wav2vec2",
    "whisper",
})  # fmt: skip
"""Tiny models of real libraries: whether they find words is chance, that what they say fits together is not."""


SLOW_TO_IMPORT = frozenset({"moonshine"})

PARAMS = [pytest.param(name, marks=[pytest.mark.long] * (name in SLOW_TO_IMPORT)) for name in sorted(RECOGNIZERS)]


@pytest.fixture(params=PARAMS, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def recognizer(name: str, load: Load) -> Recognizer:
    return load(name)


def transcribe(recognizer: Recognizer, audio: Samples, block: int, whole: bool) -> Transcript:
    stream = recognizer.open(DecodeOptions(offline=whole))
    for start in range(0, len(audio), block):
        stream.feed(audio[start : start + block])
    return stream.finish()


@pytest.fixture(scope="module")
def digits(recognizer: Recognizer) -> Transcript:
    """What is recognized in `digits` when nothing else is fed, in blocks of a quarter of a second."""
    return transcribe(recognizer, sample("digits"), 4000, False)


@pytest.mark.parametrize("whole", [True, False])
def test_text_words_and_confidence_agree(name: str, recognizer: Recognizer, whole: bool) -> None:
    audio = sample("digits")
    transcript = transcribe(recognizer, audio, 8000, whole)
    assert transcript.text == " ".join(word.text for word in transcript.words)
    assert transcript.null_cause is None or name in UNTRAINED
    latest = 0.0
    for word in transcript.words:
        assert latest <= word.start_s < word.end_s <= len(audio) / 16_000 + 0.05
        latest = word.start_s
        assert word.confidence is None or 0 <= word.confidence <= 1
    assert transcript.confidence is None or 0 <= transcript.confidence <= 1


@pytest.mark.long
@pytest.mark.parametrize("whole", [True, False])
def test_nothing_of_one_segment_reaches_the_next(recognizer: Recognizer, whole: bool) -> None:
    """The same audio gives the same transcript, to the last digit, whatever was decoded before."""
    names = ("digits", "noise_5db", "sentence_slt", "silence")
    forward = {name: transcribe(recognizer, sample(name), 4000, whole) for name in names}
    backward = {name: transcribe(recognizer, sample(name), 4000, whole) for name in reversed(names)}
    transcribe(recognizer, sample("noise"), 4000, not whole)
    again = {name: transcribe(recognizer, sample(name), 4000, whole) for name in names}
    assert forward == backward == again


def test_streams_that_are_open_at_once_do_not_mix(recognizer: Recognizer, digits: Transcript) -> None:
    first, second = sample("digits"), sample("sentence_slt")
    alone = [digits, transcribe(recognizer, second, 4000, False)]
    streams = [recognizer.open(DecodeOptions()) for _ in alone]
    for start in range(0, max(len(first), len(second)), 4000):
        for stream, audio in zip(streams, (first, second), strict=True):
            if start < len(audio):
                stream.feed(audio[start : start + 4000])
    assert [stream.finish() for stream in streams] == alone


def test_nothing_fed_gives_a_null_with_a_cause(recognizer: Recognizer) -> None:
    assert recognizer.open(DecodeOptions(offline=True)).finish().null_cause is NullCause.EMPTY
    assert recognizer.open(DecodeOptions()).finish().null_cause is NullCause.EMPTY


def test_a_cancelled_stream_leaves_no_trace(recognizer: Recognizer, digits: Transcript) -> None:
    stream = recognizer.open(DecodeOptions())
    stream.feed(sample("noise_5db"))
    stream.cancel()
    assert transcribe(recognizer, sample("digits"), 4000, False) == digits


def test_a_partial_is_a_string_and_costs_no_result(recognizer: Recognizer, digits: Transcript) -> None:
    audio = sample("digits")
    stream = recognizer.open(DecodeOptions())
    for start in range(0, len(audio), 4000):
        stream.feed(audio[start : start + 4000])
        assert isinstance(stream.partial(), str)
    assert stream.finish() == digits


def test_wild_samples_do_not_break_it(recognizer: Recognizer) -> None:
    square = np.sign(np.sin(np.arange(16_000) / 3)).astype(np.float32) * 4
    assert isinstance(transcribe(recognizer, square, 16_000, True), Transcript)
