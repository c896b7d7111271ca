"""Masked words: which, and how; the operator's file."""

from pathlib import Path

import pytest

from speechpipe.errors import BadInput
from speechpipe.serving.text.profanity import ProfanityLists, Words, read_lists, shipped

WORDS = ProfanityLists().of("anyone", english=True)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Shit!", "S***!"),
        ("this fucking thing", "this f****** thing"),
        ("BULLSHIT's", "B*********"),
        ("bull-shit", "bull-s***"),
        ("an assessment of the class", "an assessment of the class"),
        ("Scunthorpe, Dick and a cockerel", "Scunthorpe, Dick and a cockerel"),
        ("shit,shit", "s***,s***"),
    ],
)
def test_the_first_letter_stays(said: str, expected: str) -> None:
    assert WORDS.masked(said) == expected
    assert WORDS.masked(expected) == expected


def test_the_list_that_comes_with_the_package_is_in_order() -> None:
    assert len(shipped()) > 40
    assert all(word.removesuffix("*").isalpha() and word == word.lower() for word in shipped())


def test_tenants_add_and_take_out(tmp_path: Path) -> None:
    file = tmp_path / "words.toml"
    file.write_text(
        '[default]\nadd = ["Widget*"]\nremove = ["shit"]\n[key-1]\nadd = ["shit"]\nremove = ["widget*", "ass"]\n'
    )
    lists = read_lists(file)
    text = "widgets, shit, ass"
    assert lists.of("anyone", english=True).masked(text) == "w******, shit, a**"
    assert lists.of("key-1", english=True).masked(text) == "widgets, s***, ass"
    assert lists.of("key-1", english=False).masked("shit, fuck") == "s***, fuck"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("default = 1", "default must be a table"),
        ("[default]\nplus = []", "default must be a table"),
        ('[default]\nadd = "x"', "default.add must be a list"),
        ('[default]\nadd = ["two words"]', "not one word"),
        ('[default]\nadd = ["*"]', "not one word"),
        ("[default", "words.toml"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "words.toml"
    file.write_text(content)
    with pytest.raises(BadInput, match=message) as caught:
        read_lists(file)
    assert str(file) in caught.value.message


def test_no_file_is_no_words_of_ones_own() -> None:
    assert read_lists(None).of("anyone", english=False) == Words(frozenset())
