"""The network that is trained here, as a recognizer."""

from pathlib import Path

import numpy as np
import pytest

from speechpipe.cascade.asr import DecodeOptions, load_recognizer
from speechpipe.cascade.asr.acoustic import NetworkConfig
from speechpipe.cascade.asr.acoustic.network import CtcNetwork
from speechpipe.cascade.asr.acoustic.weights import save
from speechpipe.cascade.asr.ctc import CtcRecognizer
from speechpipe.cascade.evaluation.scores import word_errors
from speechpipe.errors import BadInput
from speechpipe.types import ModelFile, NullCause
from tests.cascade.asr.conftest import Load
from tests.sounds import sample


@pytest.fixture(scope="module")
def digits(load: Load) -> CtcRecognizer:
    found = load("ctc")
    assert isinstance(found, CtcRecognizer)
    return found


def test_it_reads_digits_of_a_voice_in_a_sentence(digits: CtcRecognizer) -> None:
    (transcript,) = digits.transcribe([sample("digits")])
    errors = word_errors("one two three four five six seven eight nine zero", transcript.text)
    assert errors.edits <= 2, transcript.text


def test_a_batch_says_what_each_segment_says_alone(digits: CtcRecognizer) -> None:
    speech = sample("digits")
    segments = [speech[:20_000], speech[10_000:30_000], np.zeros(0, np.float32), speech, speech[:50]]
    together = digits.transcribe(segments)
    alone = [digits.transcribe([segment])[0] for segment in segments]
    for one, other in zip(together, alone, strict=True):
        assert (one.text, one.null_cause) == (other.text, other.null_cause)
        for word, same in zip(one.words, other.words, strict=True):
            assert (word.start_s, word.end_s) == (same.start_s, same.end_s)
            assert word.confidence == pytest.approx(same.confidence, abs=1e-4)


@pytest.mark.parametrize("name", ["silence", "noise"])
def test_what_holds_no_digits_gives_no_text(digits: CtcRecognizer, name: str) -> None:
    (transcript,) = digits.transcribe([sample(name)])
    assert transcript.null_cause is NullCause.EMPTY, transcript.text


def test_without_a_list_of_words_it_spells(tmp_path: Path) -> None:
    save(CtcNetwork(NetworkConfig(channels=4, hidden=8, layers=1)), tmp_path / "w.safetensors")
    recognizer = load_recognizer("ctc", [ModelFile("weights", tmp_path / "w.safetensors", "")])
    stream = recognizer.open(DecodeOptions())
    stream.feed(sample("digits"))
    assert set(stream.finish().text) <= set(" abcdefghijklmnopqrstuvwxyz'")


def test_files_that_are_missing_or_broken_are_named(tmp_path: Path) -> None:
    weights, words = tmp_path / "w.safetensors", tmp_path / "words.txt"
    with pytest.raises(OSError, match=r"w\.safetensors"):
        CtcRecognizer({"weights": weights})
    save(CtcNetwork(NetworkConfig(channels=4, hidden=8, layers=1)), weights)
    words.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match=r"words\.txt"):
        CtcRecognizer({"weights": weights, "lexicon": words})
    words.write_text("one zwölf")
    with pytest.raises(BadInput, match="zwölf"):
        CtcRecognizer({"weights": weights, "lexicon": words})
    with pytest.raises(BadInput, match="device"):
        CtcRecognizer({"weights": weights}, device="tpu")
