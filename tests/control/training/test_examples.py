"""Manifests: what can be learnt from is taken, the rest is counted by its cause."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechpipe.cascade.asr.acoustic import ALPHABET
from speechpipe.control.training.examples import read_examples, split
from speechpipe.errors import BadInput
from tests.control.training.tones import examples


def write(folder: Path, rows: list[dict[str, object]], name: str = "m.jsonl") -> Path:
    for length, name_ in ((16_000, "second.flac"), (1, "one.flac"), (16_000 * 25, "long.flac")):
        soundfile.write(folder / name_, np.full(length, 0.1, np.float32), 16_000)
    (folder / "torn.flac").write_bytes(b"fLaC then nothing")
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


def test_each_line_that_cannot_be_used_is_counted_by_its_cause(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        [
            {"audio": "second.flac", "text": "Good morning.", "speaker": "a", "licence": "CC0-1.0"},
            {"audio": "missing.flac", "text": "nobody"},
            {"audio": "torn.flac", "text": "nobody"},
            {"audio": "second.flac", "text": ""},
            {"audio": "second.flac", "text": None},
            {"audio": "second.flac", "text": "..."},
            {"audio": "second.flac", "text": "press 7 Straße"},
            {"audio": "one.flac", "text": "one sample"},
            {"audio": "long.flac", "text": "too long"},
            {"audio_filepath": "second.flac", "offset": 0.25, "duration": 0.5, "text": "a part", "speaker": "b"},
            {"audio_filepath": "second.flac", "offset": 7.0, "duration": 0.5, "text": "behind its end"},
            {"audio_filepath": "second.flac", "offset": "x", "text": "no number"},
        ],
    )
    found = read_examples([path], ALPHABET)
    assert [(item.text, round(item.duration_s, 2)) for item in found] == [("good morning", 1.0), ("a part", 0.5)]
    assert found.refused == {"no_audio": 3, "no_text": 3, "alphabet": 1, "too_short": 2, "too_long": 1}
    assert "missing.flac" in found.first["no_audio"]
    assert "'7', 'ß'" in found.first["alphabet"]
    assert found.speakers == {"a", "b"}
    assert found.licences == {"CC0-1.0", "not stated"}


def test_too_few_says_what_became_of_the_others(tmp_path: Path) -> None:
    path = write(tmp_path, [{"audio": "second.flac", "text": "one"}, {"audio": "gone.flac", "text": "two"}])
    with pytest.raises(BadInput, match=r"at least 2 .* 1 can be used; refused: 1 no_audio"):
        read_examples([path], ALPHABET).needed()


@pytest.mark.parametrize("text", ["[1]", "{", '{"text": "no audio"}', '{"audio": 3}'])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.jsonl").write_text("\n" + text)
    with pytest.raises(BadInput, match=r"m\.jsonl, line 2"):
        read_examples([tmp_path / "m.jsonl"])
    with pytest.raises(BadInput, match=r"gone\.jsonl"):
        read_examples([tmp_path / "gone.jsonl"])


def test_nothing_of_the_test_is_learnt(tmp_path: Path) -> None:
    learn = write(tmp_path, [{"audio": "second.flac", "text": "one"}, {"audio": "./second.flac", "text": "one"}])
    test = write(tmp_path, [{"audio": str(tmp_path / "second.flac"), "text": "one"}], "test.jsonl")
    found = read_examples([learn], held_out=[test])
    assert len(found) == 0
    assert found.refused == {"held_out": 2}


def test_a_split_is_whole_and_the_same_for_the_same_seed() -> None:
    items = examples(20)
    for share, smaller in ((0.2, 4), (0.0, 1), (1.0, 19)):
        larger, rest = split(items, share, 1)
        assert len(rest) == smaller
        assert sorted(item.name for item in [*larger, *rest]) == sorted(item.name for item in items)
        assert [item.name for item in rest] == [item.name for item in split(items, share, 1)[1]]
