"""Tokens to text and back, the same as the publisher's tokenizer."""

import json
from pathlib import Path

import pytest

from speechpipe.cascade.asr.whisper.vocabulary import Vocabulary
from speechpipe.errors import BadInput
from tests.cascade.asr import tiny_models
from tests.cascade.asr.whisper.fakes import vocabulary

TEXT = " one two, three: élan 日本 <|endoftext|>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model as its publisher makes it."""
    return tiny_models.whisper(tmp_path_factory.mktemp("whisper"))["model"].parent


def test_text_of_tokens_is_that_of_the_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer

    mine, theirs = Vocabulary(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    plain = [number for number in range(len(mine)) if number < mine.end]
    assert plain
    for number in plain:
        assert mine.text([number]) == theirs.decode([number])
    tokens = mine.encode(TEXT)
    assert mine.text(tokens).replace("< ", "<").replace("| >", "|>") == TEXT


def test_what_looks_like_a_special_token_in_a_prompt_is_text(folder: Path) -> None:
    mine = Vocabulary(folder)
    assert all(number < mine.end for number in mine.encode("<|endoftext|><|startoftranscript|><|0.00|>"))


def test_special_tokens_have_no_text(folder: Path) -> None:
    mine = Vocabulary(folder)
    assert mine.text([mine.start, *mine.encode(" one"), mine.no_timestamps, mine.end]) == " one"


def test_the_tokens_before_a_text(tmp_path: Path) -> None:
    mine = vocabulary(tmp_path)
    assert list(mine.languages) == ["en", "zh", "de"]
    assert mine.start_sequence(None, translate=False) == [mine.start, mine.no_timestamps]
    assert mine.start_sequence("de", translate=True) == [
        mine.start,
        mine.languages["de"],
        mine.translate,
        mine.no_timestamps,
    ]
    assert mine.start_sequence("de", translate=False)[2] == mine.transcribe


def test_a_vocabulary_may_be_json(folder: Path, tmp_path: Path) -> None:
    tokens = (folder / "vocabulary.json").read_text() if (folder / "vocabulary.json").exists() else None
    lines = json.loads(tokens) if tokens else (folder / "vocabulary.txt").read_text(encoding="utf-8").split("\n")
    (tmp_path / "vocabulary.json").write_text(json.dumps(lines))
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    assert Vocabulary(tmp_path).text([60, 61]) == Vocabulary(folder).text([60, 61])


@pytest.mark.parametrize("content", ["", "a\nb\n", "<|endoftext|>\na", "a\n<|endoftext|>\n"])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "vocabulary.txt").write_text(content)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BadInput, match="the vocabulary in"):
        Vocabulary(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "7", "null"])
def test_broken_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "vocabulary.json").write_text(content)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BadInput, match="vocabulary"):
        Vocabulary(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        Vocabulary(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"vocabulary\.json"):
        Vocabulary(tmp_path)
