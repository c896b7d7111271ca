"""sherpa-onnx's recognizers on models whose text is known: three sounds are three words."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from speechpipe.cascade.asr import DecodeOptions, GrowingStream, Recognizer
from speechpipe.types import NullCause, Samples, Transcript
from tests.cascade.asr.sherpa.test_files import MAKE, load

SOUNDS = ((0.5, 1.0), (1.5, 2.2), (3.0, 3.4))
"""Seconds in which there is noise."""


@pytest.fixture(scope="module")
def sounds() -> Samples:
    times = np.arange(4 * 16_000) / 16_000
    loud = np.any([(times >= start) & (times < end) for start, end in SOUNDS], axis=0)
    noise = np.random.default_rng(0).normal(0, 0.3, len(times))
    return np.where(loud, noise, 0.0).astype(np.float32)


Made = Callable[..., Recognizer]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    known: dict[tuple[object, ...], Recognizer] = {}

    def load_once(name: str, **options: int | str) -> Recognizer:
        key = (name, *sorted(options.items()))
        if key not in known:
            known[key] = load(name, MAKE[name](tmp_path_factory.mktemp("tiny")), **options)
        return known[key]

    return load_once


def decode(recognizer: Recognizer, samples: Samples, options: DecodeOptions = DecodeOptions()) -> Transcript:
    stream = recognizer.open(options)
    for start in range(0, len(samples), 3200):
        stream.feed(samples[start : start + 3200])
    return stream.finish()


@pytest.mark.parametrize(
    ("name", "word", "late_s"),
    [("sherpa_streaming", "beeps", 0.1), ("sherpa_transducer", "Beeps", 0.1), ("sherpa_sense_voice", "beep", 0.1)],
)
def test_three_sounds_are_three_words_where_the_sounds_are(
    made: Made, sounds: Samples, name: str, word: str, late_s: float
) -> None:
    found = decode(made(name), sounds)
    assert found.text == " ".join([word] * 3)
    assert [one.text for one in found.words] == [word] * 3
    for one, (start_s, end_s) in zip(found.words, SOUNDS, strict=True):
        assert one.start_s == pytest.approx(start_s, abs=late_s)
        if word.endswith("s"):  # SenseVoice knows the beginnings of tokens only
            assert one.end_s == pytest.approx(end_s, abs=0.25)


@pytest.mark.parametrize(
    ("name", "sure"), [("sherpa_streaming", True), ("sherpa_transducer", True), ("sherpa_sense_voice", False)]
)
def test_confidence_is_the_library_s_or_none(made: Made, sounds: Samples, name: str, sure: bool) -> None:
    found = decode(made(name), sounds)
    assert all((word.confidence is not None) == sure for word in found.words)
    assert (found.confidence is not None) == sure
    assert found.confidence is None or 0.5 < found.confidence < 0.9


def test_text_is_written_while_it_is_heard_and_what_is_stable_stays(made: Made, sounds: Samples) -> None:
    stream = made("sherpa_streaming").open(DecodeOptions())
    assert isinstance(stream, GrowingStream)
    partials, stable = [], []
    for start in range(0, len(sounds), 1600):
        stream.feed(sounds[start : start + 1600])
        partials.append(stream.partial())
        stable.append(partials[-1][: stream.stable])
    final = stream.finish().text
    heard = [place * 0.1 for place, text in enumerate(partials, 1) if text.endswith("beep")]
    assert heard[0] <= SOUNDS[0][0] + 0.6, "a chunk of 320 ms after its sound"
    assert stable[-1] == "beeps beeps"
    for before in stable:
        assert final.startswith(before)
    assert all(later.startswith(before) for before, later in zip(partials, [*partials[1:], final], strict=True))


def test_nothing_is_called_stable_that_a_beam_may_change(made: Made, sounds: Samples) -> None:
    stream = made("sherpa_streaming", beam=4).open(DecodeOptions())
    assert isinstance(stream, GrowingStream)
    stream.feed(sounds)
    assert stream.partial()
    assert stream.stable == 0


@pytest.mark.parametrize(
    ("name", "hotword", "usual"), [("sherpa_streaming", "peeps", "beeps"), ("sherpa_transducer", "Peeps", "Beeps")]
)
def test_hotwords_are_preferred_with_a_beam(made: Made, sounds: Samples, name: str, hotword: str, usual: str) -> None:
    options = DecodeOptions(hotwords=(hotword, "unwritable \u00e4", ":7"))
    assert decode(made(name, beam=4), sounds, options).text == " ".join([hotword] * 3)
    assert decode(made(name, beam=4), sounds).text == " ".join([usual] * 3), "of one segment only"
    assert decode(made(name), sounds, options).text == " ".join([usual] * 3), "not without one"


def test_sense_voice_says_the_language(made: Made, sounds: Samples) -> None:
    assert decode(made("sherpa_sense_voice", language="en"), sounds).language == "en"
    assert decode(made("sherpa_sense_voice"), sounds).language == "zh", "what the model found"


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("count", [1, 10, 399, 3200])
def test_a_segment_may_be_short(made: Made, name: str, count: int) -> None:
    assert isinstance(decode(made(name), np.full(count, 0.5, np.float32)), Transcript)


@pytest.mark.parametrize("name", MAKE)
def test_silence_is_not_text(made: Made, name: str) -> None:
    found = decode(made(name), np.zeros(32_000, np.float32))
    assert (found.null_cause, found.detail) == (NullCause.EMPTY, "silence")


def test_text_that_cannot_have_been_spoken_is_dropped(made: Made) -> None:
    found = decode(made("sherpa_transducer"), np.full(10, 0.5, np.float32))
    assert found.null_cause is NullCause.EMPTY
    assert "rejected as hallucination" in found.detail


@pytest.mark.parametrize("name", MAKE)
def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str], sounds: Samples, name: str) -> None:
    options: dict[str, int | str] = {} if "sense" in name else {"beam": 4}
    recognizer = load(name, MAKE[name](tmp_path), **options)
    decode(recognizer, sounds, DecodeOptions(hotwords=("peeps", "\u00e4", "a/b :3 #x")))
    assert capfd.readouterr() == ("", "")
