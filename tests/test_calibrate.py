"""The command that measures a recognizer's table: what it calls right, its noises, and the file that it writes."""

from pathlib import Path

import numpy as np
import pytest

from speechpipe.cascade.catalog.cards import read_card
from speechpipe.cascade.evaluation.manifest import Clip
from speechpipe.types import Transcript, Word
from tools import calibrate

CARD = """kind = "asr"
name = "mine"
version = "1.0.0"
implementation = "scripted"
description = "x"
languages = ["en"]

[options.reply]
default = "x"
"""


def heard(text: str, *confidences: float) -> Transcript:
    words = [Word(word, 0.0, 0.1, value) for word, value in zip(text.split(), confidences, strict=True)]
    return Transcript(text, tuple(words), float(np.mean(confidences)))


def test_words_are_right_at_their_place_and_numbers_in_figures_are_right() -> None:
    found = calibrate.Heard()
    found.add(0, "press one to call us", [heard("Press 1 to call us.", 0.9, 0.8, 0.7, 0.6, 0.5)])
    found.add(1, "the red house", [heard("The bed", 0.9, 0.3), heard("house.", 0.8), Transcript("x")])
    assert found.right == pytest.approx([1.0, 2 / 3])
    assert found.right_words == [1, 1, 1, 1, 1, 1, 0, 1]
    assert found.confidence[1] == pytest.approx((0.9 + 0.3 + 0.8) / 3)
    found.add(2, "nothing", [])
    assert len(found.right) == 2, "what has no text has no confidence"


@pytest.mark.parametrize("kind", calibrate.KINDS)
def test_noise_is_so_many_decibels_below_the_recording(kind: str) -> None:
    draw = np.random.default_rng(0)
    clips = [Clip(str(n), draw.normal(0, 0.1, 16_000).astype(np.float32), "x", "") for n in range(3)]
    made = calibrate.noisy(clips[0], kind, 10.0, draw, clips) - clips[0].samples
    ratio = 10 * np.log10(np.mean(clips[0].samples ** 2) / np.mean(made**2))
    assert ratio == pytest.approx(10.0, abs=0.1)


def test_what_is_written_is_read_by_the_card_and_replaces_what_was_there(tmp_path: Path) -> None:
    card = tmp_path / "mine.toml"
    card.write_text(CARD)
    draw = np.random.default_rng(0)
    for right in (0.5, 0.9):
        confidence = draw.random(200).tolist()
        part = calibrate.fitted(confidence, [right] * 200, list(range(200)), "words")
        document = {"format": 1, "recognizer": "mine@1.0.0", "utterances": part, "words": part}
        calibrate.write(card, "mine-1.0.0", document)
        found = read_card(card)
        assert float(found.confidence.words.calibration(0.5)) == pytest.approx(right, abs=0.05)
        assert found.options["reply"].default == "x"
    assert card.read_text().count("[confidence]") == 1
