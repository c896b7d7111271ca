"""Plain text: lower case, no punctuation, no time lost."""

import pytest

from speechpipe.serving.text.plain import plain, plain_word
from speechpipe.serving.text.tokens import joined, of_text, of_words
from speechpipe.types import Word


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("Hello,", "hello"),
        ("(Isn’t)", "isn’t"),
        ("'cause", "cause"),
        ("well-known.", "well-known"),
        ("wait—what", "wait what"),
        ("U.S.", "us"),
        ("p.m.,", "pm"),
        ("(U.S.)?", "us"),
        ("U.S", "us"),
        ("U.S.'s", "us's"),
        ("$5.50.", "$5.50"),
        ("1,200,000", "1,200,000"),
        ("10:30", "10:30"),
        ("99%,", "99%"),
        ("AT&T", "at&t"),
        ("f***!", "f***"),
        ("¿Qué?", "qué"),
        ("…", ""),
        ("。", ""),
    ],
)
def test_words(word: str, expected: str) -> None:
    assert plain_word(word) == expected
    assert plain_word(expected) == expected


def test_a_text() -> None:
    assert joined(plain(of_text("Well, I — um — said: “No!” Twice."))) == "well i um said no twice"


def test_punctuation_that_stands_alone_gives_its_time_to_its_neighbour() -> None:
    words = [Word("…", 0.0, 0.2, 0.9), Word("Yes", 0.2, 0.5, 0.8), Word("—", 0.5, 0.9, 0.3)]
    (token,) = plain(of_words(words))
    assert token.word == Word("yes", 0.0, 0.9, 0.3)
    assert plain(of_words(words[:1])) == []
