"""The recognizer with the real library, and weights that mean nothing."""

import itertools
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speechpipe.cascade.asr import HOTWORDS_LEFT, BatchRecognizer, DecodeOptions, Piece, load_recognizer
from speechpipe.cascade.asr.whisper.recognizer import PROMPT_TOKENS, WhisperRecognizer
from speechpipe.types import ModelFile
from tests.cascade.asr import tiny_models
from tests.sounds import sample


@pytest.fixture
def prompts(tiny: WhisperRecognizer, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Collect what the decoder is given before each text."""
    found: list[list[int]] = []
    generate = tiny.model.generate

    def spy(windows: Any, prompt: Any, *how: Any) -> Any:
        found.append(list(prompt))
        return generate(windows, prompt, *how)

    monkeypatch.setattr(tiny.model, "generate", spy)
    return found


def test_it_is_a_batch_recognizer(tiny: WhisperRecognizer) -> None:
    assert isinstance(tiny, BatchRecognizer)
    assert tiny.batch_s > 0


def test_pieces_that_are_decoded_at_once_but_alone_are_as_if_decoded_one_by_one(tiny: WhisperRecognizer) -> None:
    names = ("digits", "sentence_slt", "noise_5db", "silence")
    pieces = [Piece(sample(name)) for name in names]
    together = tiny.transcribe(pieces)
    alone = [tiny.transcribe([piece])[0] for piece in pieces]
    assert [one.text for one in together] == [one.text for one in alone]
    for one, other in zip(together, alone, strict=True):
        assert [(word.start_s, word.end_s) for word in one.words] == [
            (word.start_s, word.end_s) for word in other.words
        ]
        assert one.confidence == pytest.approx(other.confidence, abs=1e-3)


def test_nothing_to_decode(tiny: WhisperRecognizer) -> None:
    assert tiny.transcribe([]) == []
    assert tiny.transcribe([Piece(np.zeros(0, np.float32))])[0].text == ""
    assert tiny.transcribe([Piece(np.full(80, 0.5, np.float32))])[0].text == ""  # not even a frame


def through(steps: Generator[None, None, str]) -> tuple[str, int]:
    """Return the text at the end of the steps, and how many there were."""
    for count in itertools.count():
        try:
            next(steps)
        except StopIteration as end:
            return str(end.value), count
        time.sleep(0.001)
    raise AssertionError


def test_a_partial_text_is_made_while_another_segment_is_decoded(tiny: WhisperRecognizer) -> None:
    audio = sample("digits")
    one, other = tiny.open(DecodeOptions()), tiny.open(DecodeOptions())
    one.feed(audio)
    other.feed(audio[: len(audio) // 2])
    partial, final = one.partial(), other.decode(other.samples())
    steps = one.partial_in_steps()
    next(steps)
    assert other.decode(other.samples()) == final
    assert through(steps)[0] == partial
    looked = []
    assert other.decode_looking(lambda: looked.append(1)) == final
    assert looked
    given_up = one.partial_in_steps()
    next(given_up)
    given_up.close()
    assert other.decode(other.samples()) == final
    biased = tiny.open(DecodeOptions(hotwords=("seven",)))
    biased.feed(audio)
    assert through(biased.partial_in_steps()) == (biased.partial(), 0)


def test_a_partial_text_needs_no_alignment(tiny: WhisperRecognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = np.resize(sample("digits"), 12 * 16_000)  # too long for the shorter window of unfinished text
    stream = tiny.open(DecodeOptions())
    stream.feed(audio)
    expected = stream.finish().text
    monkeypatch.delattr(type(tiny.model), "align")
    again = tiny.open(DecodeOptions())
    again.feed(audio)
    assert again.partial() == expected


def test_prompt_and_hotwords_reach_the_decoder_and_are_bounded(
    tiny: WhisperRecognizer, prompts: list[list[int]]
) -> None:
    tokens = tiny.vocabulary
    options = DecodeOptions(prompt="one two", hotwords=("three", " ", "four five"))
    tiny.transcribe([Piece(sample("digits"), options)])
    without, (before, *given) = prompts[0], prompts[-1]
    assert tokens.text(without[1 : without.index(tokens.start)]) == " one two"
    assert before == tokens.before
    assert tokens.text(given[: given.index(tokens.start)]) == " one two three, four five."
    prompts.clear()
    long = DecodeOptions(prompt="one two " * 500 + "last", hotwords=("first", *["three"] * 500))
    (found,) = tiny.transcribe([Piece(sample("digits"), long)])
    given = prompts[-1][1 : prompts[-1].index(tokens.start)]
    assert PROMPT_TOKENS < len(given) <= 2 * PROMPT_TOKENS
    kept = tokens.text(given[PROMPT_TOKENS:]).count("three")
    assert found.facts[HOTWORDS_LEFT] == 500 - kept
    assert tokens.text(given[:PROMPT_TOKENS]).endswith("last")
    assert tokens.text(given[PROMPT_TOKENS:]).startswith(" first")


def test_no_prompt_loads_no_tokenizer(tmp_path: Path) -> None:
    """It takes 20 MB in each worker."""
    recognizer = WhisperRecognizer(tiny_models.whisper(tmp_path))
    recognizer.transcribe([Piece(sample("digits"), DecodeOptions(prompt=" ", hotwords=("",)))])
    assert "_tokenizer" not in vars(recognizer.vocabulary)


def test_the_old_name_works_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = [ModelFile("model", tiny_models.whisper(tmp_path)["model"], "")]
    assert isinstance(load_recognizer("faster_whisper", files, beam=5, threads=1), WhisperRecognizer)
    assert "`faster_whisper` is now called `whisper`" in caplog.text


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"no model")
    with pytest.raises((RuntimeError, ValueError)):
        WhisperRecognizer({"model": tmp_path / "model.bin"})
    with pytest.raises(FileNotFoundError):
        WhisperRecognizer({"model": tmp_path / "none" / "model.bin"})


@pytest.mark.parametrize(
    ("wanted", "default", "language"),
    [
        (None, "auto", None),
        ("de", "auto", "de"),
        ("DE_at", "auto", "de"),
        ("xx", "auto", None),
        ("xx", "zh", "zh"),
        (None, "en", "en"),
    ],
)
def test_the_language_of_a_request(
    tiny: WhisperRecognizer,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str | None,
    default: str,
    language: str | None,
) -> None:
    monkeypatch.setattr(tiny.model, "multilingual", True)
    monkeypatch.setattr(tiny.vocabulary, "languages", {"de": 1, "zh": 2, "en": 3})
    monkeypatch.setattr(tiny, "language", default)
    assert tiny.language_of(wanted) == language


def test_a_model_of_english_alone_has_no_other_language(tiny: WhisperRecognizer) -> None:
    assert tiny.language_of("de") == "en"


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The library warns of its own choices on stderr, and stdout belongs to the command's output."""
    files = tiny_models.whisper(tmp_path)
    capfd.readouterr()
    recognizer = WhisperRecognizer(files)
    piece = Piece(sample("digits"), DecodeOptions(group="session"))
    recognizer.transcribe([piece, piece])
    assert capfd.readouterr() == ("", "")
