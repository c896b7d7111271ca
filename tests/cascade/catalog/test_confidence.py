"""Tables of confidences that come with cards: read by hash, and nothing else changes by them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import read_card, shipped_models
from speechpipe.errors import BadInput
from speechpipe.foundation.stats.calibration import NO_TABLE, Prior

STEPS = {"steps": [[0.1, 0.2, 0.4], [0.6, 0.8, 0.6]]}
GOOD = {"format": 1, "recognizer": "mine@1.0.0", "utterances": STEPS, "words": STEPS}
BUNDLE = """kind = "bundle"
name = "own"
version = "1"
description = "x"
languages = ["en"]
[vad]
card = "silero"
[asr]
card = "mine"
"""


def place(folder: Path, table: Any, *, name: str = "mine.json", sha256: str = "") -> Path:
    """Write a card with a table, and return the card's path."""
    content = json.dumps(table).encode()
    (folder / "mine.json").write_bytes(content)
    path = folder / "card.toml"
    path.write_text(
        'kind = "asr"\nname = "mine"\nversion = "1.0.0"\nimplementation = "scripted"\ndescription = "x"\n'
        'languages = ["en"]\n'
        f'[confidence]\ntable = "{name}"\nsha256 = "{sha256 or hashlib.sha256(content).hexdigest()}"\n'
    )
    return path


def test_a_table_says_what_confidences_mean(tmp_path: Path) -> None:
    found = read_card(place(tmp_path, GOOD)).confidence
    assert found.utterances.calibration([0.05, 0.59, 0.6, 1.0]).tolist() == [0.2, 0.2, 0.8, 0.8]
    assert found.words.shares == (0.4, 0.6)


def test_a_card_without_a_table_is_as_before() -> None:
    shipped = Catalogue([shipped_models()])
    embedded = shipped.bundle("embedded")
    assert shipped.confidence(embedded) is NO_TABLE
    assert shipped.prior(embedded.id) == Prior() == shipped.prior("none@1")


def test_the_default_recognizer_has_a_table() -> None:
    shipped = Catalogue([shipped_models()])
    found = shipped.confidence(shipped.bundle("default"))
    for part in (found.utterances, found.words):
        low, high = part.calibration([0.1, 0.99]).tolist()
        assert low < 0.6 < 0.9 < high
    assert shipped.prior(shipped.bundle("default").id) is found.utterances


def test_another_table_is_no_other_bundle(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(BUNDLE)
    place(tmp_path, GOOD)
    first = Catalogue([shipped_models(), tmp_path])
    place(tmp_path, GOOD | {"words": {"steps": [[0.0, 0.5, 1.0]]}})
    second = Catalogue([shipped_models(), tmp_path])
    assert first.confidence(first.bundle("own")) != second.confidence(second.bundle("own"))
    assert first.digest(first.bundle("own")) == second.digest(second.bundle("own"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "wrong key"),
        ({}, "'format'"),
        (GOOD | {"format": 2}, "format 1"),
        (GOOD | {"recognizer": "mine@1.0.1"}, "mine@1.0.0"),
        (GOOD | {"words": {"steps": []}}, "empty"),
        (GOOD | {"words": {"steps": [[0.1, 0.2]]}}, "wrong key"),
        (GOOD | {"words": {"steps": [[0.6, 0.2, 0.4], [0.1, 0.8, 0.6]]}}, "rise"),
        (GOOD | {"words": {"steps": [[0.1, 0.9, 0.4], [0.6, 0.8, 0.6]]}}, "not fall"),
        (GOOD | {"words": {"steps": [[0.1, 0.2, 0.4], [0.6, 1.8, 0.6]]}}, "0..1"),
        (GOOD | {"words": {"steps": [[0.1, 0.2, 0.4], [0.6, 0.8, 0.9]]}}, "add up"),
        (GOOD | {"words": {"steps": [["x", 0.2, 1.0]]}}, "wrong key"),
    ],
)
def test_a_wrong_table_is_refused_with_its_name(tmp_path: Path, table: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        read_card(place(tmp_path, table))
    assert "mine.json" in caught.value.message


def test_a_table_must_be_the_one_that_the_card_means(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="sha256"):
        read_card(place(tmp_path, GOOD, sha256="0" * 64))
    with pytest.raises(BadInput, match="cannot be read"):
        read_card(place(tmp_path, GOOD, name="other.json"))
    with pytest.raises(BadInput, match="inside its folder"):
        read_card(place(tmp_path, GOOD, name="../mine.json"))
    path = place(tmp_path, GOOD)
    path.write_text(path.read_text() + 'more = "x"\n')
    with pytest.raises(BadInput, match="nothing else"):
        read_card(path)
