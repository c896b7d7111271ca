"""Manifests: a row that is wrong is named by its line and field, in words of the format and not of Python."""

import json
from pathlib import Path

import pytest

from speechpipe.cascade.evaluation.manifest import MOST_CLIP_S, read_manifest
from speechpipe.control.training.spans import read_marked
from speechpipe.errors import BadInput
from speechpipe.interfaces.cli import options
from tests.sounds import SAMPLES

DIGITS = str(SAMPLES / "digits.flac")

WRONG_ROWS = [
    ("not json", "not JSON"),
    ("[" * 5000 + "]" * 5000, "nested"),
    ('{"audio": ' + "[" * 5000 + "]" * 5000 + "}", "nested"),
    ("[]", "JSON object"),
    ("3", "JSON object"),
    ("null", "JSON object"),
    ("{}", "`audio`"),
    ('{"audio": 3}', "`audio`"),
    ('{"audio": null}', "`audio`"),
    ('{"audio": ""}', "`audio`"),
    ('{"audio": "a\\u0000b"}', "`audio`"),
]
WRONG_FIELDS = [
    ("text", "3"),
    ("text", '["a"]'),
    ("speaker", "[]"),
    ("duration", '"long"'),
    ("duration", "-1"),
    ("duration", "NaN"),
    ("duration", "true"),
    ("duration", "1" * 400),
    ("speech", "3"),
    ("speech", '"ab"'),
    ("speech", '[["a", 1]]'),
    ("speech", "[[2, 1]]"),
    ("speech", "[[-1, 1]]"),
    ("speech", "[[0, NaN]]"),
    ("speech", "[[0, Infinity]]"),
    ("speech", "[[0, true]]"),
    ("speech", "[[0, 1, 2]]"),
    ("speech", '[{"start": 0}]'),
    ("speech", "{}"),
]
PYTHON = ("NoneType", "indices", "subscriptable", "object is", "KeyError", "Errno", "argument")


def refused(read: object, path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read(path)  # type: ignore[operator]
    message = caught.value.message
    assert message.startswith(f"{path}, line 2: ")
    assert "\n" not in message
    assert not [word for word in PYTHON if word in message], message
    assert len(message) < len(str(path)) + 300
    return message


@pytest.mark.parametrize(("line", "said"), WRONG_ROWS, ids=lambda value: value[:20])
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(f"\n{line}\n")
    for read in (options.read_manifest, read_manifest, lambda path: read_marked([path])):
        assert said in refused(read, path)


@pytest.mark.parametrize(("field", "value"), WRONG_FIELDS)
def test_a_field_that_is_wrong_is_named(tmp_path: Path, field: str, value: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(f'\n{{"audio": {json.dumps(DIGITS)}, "{field}": {value}}}\n')
    for read in (options.read_manifest, read_manifest, lambda path: read_marked([path])):
        assert f"`{field}`" in refused(read, path)


def test_spans_by_another_name_are_not_ignored(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text('\n{"audio": "a.flac", "spans": [["a", 1]]}\n')
    assert "`speech`" in refused(options.read_manifest, path)


def test_a_recording_that_cannot_be_read_is_named_without_its_number(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    for audio in ("absent.flac", ".", "manifest.jsonl", "\udcff"):
        path.write_text("\n" + json.dumps({"audio": audio}) + "\n")
        refused(read_manifest, path)


def test_rows_as_they_should_be_are_taken(tmp_path: Path) -> None:
    rows = [
        {
            "audio": DIGITS,
            "text": "one\u2028two",
            "speaker": 7,
            "duration": 1.5,
            "speech": [[0, 1.5], [2, 2]],
            "x": [1],
        },
        {"audio": DIGITS, "text": None, "speaker": None, "speech": None, "source": "s"},
        {"audio": "absent.flac"},
    ]
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    assert [row["audio"] for row in options.read_manifest(path)] == [Path(DIGITS)] * 2 + [tmp_path / "absent.flac"]
    clips = read_manifest(path, 2)
    assert [clip.text for clip in clips] == ["one\u2028two", None]
    assert [clip.speaker for clip in clips] == ["7", "s"]


def test_a_long_recording_is_read_no_further_than_its_clip(tmp_path: Path) -> None:
    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "long.flac", np.full(16_000 * 40, 0.1, np.float32), 16_000)
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"audio": "long.flac", "text": "cut"}')
    (clip,) = read_manifest(path)
    assert (clip.duration_s, clip.text) == (MOST_CLIP_S, None)
