"""Numbers in digits: what is written, and what is left in words because it may mean something else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechpipe.serving.text.numerals import VOCABULARY, numerals, settled
from speechpipe.serving.text.tokens import joined, of_text

BOTH = (
    ("I have twenty-five cows, twelve dogs", "I have 25 cows, 12 dogs"),
    ("one hundred and three of five", "103 of 5"),
    ("a hundred and five", "105"),
    ("one million two hundred thousand", "1,200,000"),
    ("nine thousand nine hundred ninety nine", "9999"),
    ("ninety nine point nine", "99.9"),
    ("three point one four one five", "3.1415"),
    ('"Twenty five," he said (thirty)', '"25," he said (30)'),
    ("twenty, thirty. Forty", "20, 30. 40"),
    ("in nineteen ninety five and nineteen oh five", "in 1995 and 1905"),
    ("twenty twenty four, two thousand and five, fourteen ninety two", "2024, 2005, 1492"),
    ("zero zero seven nine one one", "007911"),
    ("code four oh four", "code 404"),
    ("double five nine triple oh three", "5590003"),
    ("March third, the first of May", "March 3rd, the 1st of May"),
    ("March twenty second nineteen ninety nine", "March 22nd 1999"),
    ("the nineteenth century", "the 19th century"),
    ("three o'clock, one o'clock", "3 o'clock, 1 o'clock"),
    ("one or two, two to three", "1 or 2, 2 to 3"),
    ("one five", "1 5"),
    ("fifty and five", "50 and 5"),
)

IN_WORDS = (
    "one of them, no one",
    "wait a second",
    "a thirty second pause",
    "the first and the second",
    "it may first rain",
    "half a million",
    "a hundred people",
    "hundreds of thousands",
    "three quarters and two thirds and one third",
    "oh dear",
    "one tenth of the tenth floor",
    "twenty-five-year-old",
    "5 million people in 1995 at 10:30",
)

SMART = (
    ("five dollars and fifty cents", "$5.50"),
    ("five dollars five cents.", "$5.05."),
    ("a hundred dollars, a million dollars", "$100, $1,000,000"),
    ("two hundred thousand euros", "€200,000"),
    ("two point five dollars", "$2.50"),
    ("five dollars and two people", "$5 and 2 people"),
    ("one dollar", "$1"),
    ("nineteen ninety five dollars", "19 95 dollars"),  # it may be $19.95
    ("five pounds of apples", "5 pounds of apples"),  # it may be a weight
    ("half a million dollars", "half a million dollars"),
    ("ninety nine point nine percent, fifty per cent", "99.9%, 50%"),
    ("a hundred percent", "100%"),
    ("at ten thirty p.m., ten oh five am", "at 10:30 p.m., 10:05 am"),
    ("five pm", "5 pm"),
    ("ten thirty", "10 30"),
    ("call five five five eight six seven five three oh nine now", "call 555-867-5309 now"),
    ("call 5 5 5 8 6 7 five three oh nine now", "call 555-867-5309 now"),
    ("I have 2 dogs and 3 cats", "I have 2 dogs and 3 cats"),
    ("eight six seven five three oh nine", "867-5309"),
    ("one eight double oh five five five two three six eight", "1-800-555-2368"),
    (
        "five five five one two three four five six seven",
        "5551234567",
    ),  # no exchange begins with 1
)


def written(text: str, *, smart: bool = False) -> str:
    return joined(numerals(of_text(text), smart=smart))


@pytest.mark.parametrize(("said", "expected"), BOTH)
@pytest.mark.parametrize("smart", [False, True])
def test_numbers_become_digits(said: str, expected: str, *, smart: bool) -> None:
    if said == "double five nine triple oh three" and smart:
        expected = "559-0003"
    assert written(said, smart=smart) == expected


@pytest.mark.parametrize("said", IN_WORDS)
@pytest.mark.parametrize("smart", [False, True])
def test_what_may_mean_something_else_stays_in_words(said: str, *, smart: bool) -> None:
    assert written(said, smart=smart) == said


@pytest.mark.parametrize(("said", "expected"), SMART)
def test_smart_format_writes_amounts_as_people_do(said: str, expected: str) -> None:
    assert written(said, smart=True) == expected


def test_numerals_alone_change_no_units() -> None:
    assert written("five dollars, fifty percent, ten thirty p.m.") == "5 dollars, 50 percent, 10 30 p.m."


WORDS = st.sampled_from([*sorted(VOCABULARY), "twenty-five", "people", "the", "5", "$5", "1,000", "p.m.", "May", "—"])
TEXTS = st.lists(st.tuples(WORDS, st.sampled_from(["", "", "", "", ",", ".", "?"])), max_size=14).map(
    lambda pairs: " ".join(f"{word}{end}" for word, end in pairs)
)


@given(TEXTS, st.booleans())
def test_writing_again_changes_nothing(text: str, smart: bool) -> None:
    once = written(text, smart=smart)
    assert written(once, smart=smart) == once


@given(TEXTS, TEXTS, st.booleans())
def test_what_is_settled_is_written_the_same_whatever_follows(before: str, after: str, smart: bool) -> None:
    tokens = of_text(before)
    beginning = joined(numerals(tokens[: settled(tokens)], smart=smart))
    assert written(f"{before} {after}", smart=smart).startswith(beginning)


def test_ordinary_words_settle_a_text() -> None:
    assert settled(of_text("I saw twenty five people")) == 5
    assert settled(of_text("I saw twenty")) == 2
    assert settled(of_text("five dollars and")) == 0
