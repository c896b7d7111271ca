"""Speech that ends in the middle of a word keeps its words: a button released, a file cut up, a length limit.

Of PocketSphinx, whose last pass then fails.
"""

import numpy as np
import pytest

from speechpipe.cascade.asr import DecodeOptions, Recognizer, load_recognizer
from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.types import SAMPLE_RATE_HZ, Samples, Transcript
from tests.sounds import sample


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    component = Catalogue([shipped_models()]).bundle("embedded").asr
    return load_recognizer(component.implementation, component.files, **component.options)


@pytest.fixture(scope="module")
def speech() -> Samples:
    return joined_speech()


def joined_speech() -> Samples:
    """Return sentences without a pause between them."""
    slt, awb, long_pauses = (sample(name) for name in ("sentence_slt", "sentence_awb", "long_pauses"))
    parts = [slt[5280:57600], awb[5600:52000], long_pauses[32800:96000], long_pauses[145600:200000]]
    return np.concatenate(parts)


def cuts() -> list[tuple[float, float]]:
    """Return (start, end) in seconds: ends in the word "begin", of which many lose their path, and ends anywhere."""
    dice = np.random.default_rng(3)
    among_them = [(4.05, 7.38 + step / 100) for step in range(0, 13, 2)]
    anywhere = [(start, start + dice.uniform(1.2, 3.0)) for start in dice.uniform(0, 9, 8)]
    return among_them + anywhere


def transcribe(recognizer: Recognizer, audio: Samples, *, whole: bool) -> tuple[str, Transcript]:
    """Return the last partial result (of a live segment) and the transcript."""
    stream = recognizer.open(DecodeOptions(offline=whole))
    step = len(audio) if whole else 1600
    for start in range(0, len(audio), step):
        stream.feed(audio[start : start + step])
    return stream.partial(), stream.finish()


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("whole", [True, False], ids=["upload", "live"])
def test_no_cut_loses_its_text(recognizer: Recognizer, speech: Samples, whole: bool, every: int) -> None:
    recovered = 0
    for start_s, end_s in cuts()[every // 2 :: every]:
        audio = speech[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)]
        partial, transcript = transcribe(recognizer, audio, whole=whole)
        assert transcript.text, f"{start_s:.2f} to {end_s:.2f} s has no text, the last partial result was {partial!r}"
        assert transcript.text == " ".join(word.text for word in transcript.words)
        latest = 0.0
        for word in transcript.words:
            assert latest <= word.start_s < word.end_s <= len(audio) / SAMPLE_RATE_HZ + 0.05
            latest = word.start_s
            assert (word.confidence is None) == transcript.recovered
        if transcript.recovered:
            recovered += 1
            assert transcript.confidence is None
            if partial:
                assert transcript.text.startswith(partial.rsplit(" ", 2)[0]), (
                    "the words that were seen while it was spoken"
                )
    assert recovered, "none of these cuts needed what is tested here"
