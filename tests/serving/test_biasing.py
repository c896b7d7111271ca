"""What draws a recognizer to words: bounds, what is merged, and what is said where a recognizer takes nothing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechpipe.cascade.asr import HOTWORDS, PROMPT, RECOGNIZERS, TAKES, TRANSLATION, taken
from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.errors import InvalidParameter
from speechpipe.serving.assignment import ClientRequest
from speechpipe.serving.biasing import MOST_CHARACTERS, MOST_TERMS, checked, merged, plain, separated

CATALOGUE = Catalogue([shipped_models()])


def request(bundle: str, **asked: object) -> ClientRequest:
    return ClientRequest(CATALOGUE.bundle(bundle), channel="upload", **asked)  # type: ignore[arg-type]


@given(st.lists(st.text(max_size=MOST_CHARACTERS), max_size=MOST_TERMS))
def test_terms_are_trimmed_and_there_once(terms: list[str]) -> None:
    found = checked(terms, "hotwords")
    assert len(set(found)) == len(found)
    assert all(term and term == term.strip() and plain(term) == term for term in found)
    assert checked(found, "hotwords") == found
    " ".join(found).encode()


def test_bounds_are_said_without_the_terms() -> None:
    assert checked(["a" * MOST_CHARACTERS] * MOST_TERMS, "hotwords") == ("a" * MOST_CHARACTERS,)
    with pytest.raises(InvalidParameter, match="at most 100 terms, not 101") as caught:
        checked(["a"] * 101, "keyterm")
    assert caught.value.param == "keyterm"
    with pytest.raises(InvalidParameter, match=r"not 65 \(term 2\)") as caught:
        checked(["a", "Sczepanski" * 6 + "x" * 5], "hotwords")
    assert "Sczepanski" not in caught.value.message


def test_the_clients_come_first() -> None:
    assert separated(["a, b", "c"]) == ["a", " b", "c"]
    assert merged(("a", "b"), ("b", "c")) == ("a", "b", "c")
    assert len(merged([f"a{number}" for number in range(100)], ["b"])) == MOST_TERMS


def test_what_a_recognizer_takes_stands_in_its_bundle() -> None:
    takes = {name: CATALOGUE.bundle(name).asr.takes for name in CATALOGUE.names}
    assert takes["default"] == {PROMPT, HOTWORDS}, "tiny.en knows English alone"
    assert takes["multilingual"] == {PROMPT, HOTWORDS, TRANSLATION}
    assert takes["embedded"] == takes["scripted"] == takes["zipformer"] == frozenset()
    changed = CATALOGUE.changed(CATALOGUE.bundle("zipformer"), {"asr.beam": 4})
    assert changed.asr.takes == {HOTWORDS}
    turbo = CATALOGUE.with_parts(CATALOGUE.bundle("default"), asr="whisper-large-v3-turbo")
    assert turbo.asr.takes == {PROMPT, HOTWORDS}
    assert taken("faster_whisper", {}, ["*"]) == TAKES["whisper"]
    assert set(TAKES) <= set(RECOGNIZERS)


def test_what_is_not_taken_is_said_and_not_given() -> None:
    asked = request("embedded", prompt="a", hotwords=("b",), listed=("c",))
    assert [notice.code for notice in asked.not_honoured] == ["prompt_ignored", "parameter_ignored"]
    assert asked.biasing == {"asr.hotwords": 0, "asr.prompted": 0, "asr.translated": 0}
    assert not request("embedded", listed=("c",)).not_honoured, "the client did not ask for these"
    given = request("default", prompt="a\x07\ud800b", hotwords=("b",), listed=("b", "c"), language="en")
    assert not given.not_honoured
    decode = given.decode(offline=True)
    assert (decode.prompt, decode.hotwords, decode.language, decode.offline) == ("a  b", ("b", "c"), "en", True)
    assert given.biasing == {"asr.hotwords": 2, "asr.prompted": 1, "asr.translated": 0}
    many = replace(given, hotwords=tuple(f"a{number}" for number in range(100)))
    (notice,) = many.not_honoured
    assert "only the first 100" in notice.message
