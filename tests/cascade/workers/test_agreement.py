"""Stable text: what two decodes agree on, never taken back, and what a final adds to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechpipe.cascade.workers.agreement import LocalAgreement, rest_after


def shown(*decodes: str) -> list[tuple[str, str]]:
    """(the text to show, its stable part) after each decode."""
    agreement = LocalAgreement()
    found = []
    for decode in decodes:
        text, stable = agreement.update(decode)
        found.append((text, text[:stable]))
    return found


def test_what_two_decodes_in_a_row_agree_on_is_stable() -> None:
    assert shown("I want", "I want for", "I want four apples", "I want four apples and") == [
        ("I want", ""),
        ("I want for", "I want"),
        ("I want four apples", "I want"),
        ("I want four apples and", "I want four apples"),
    ]


def test_half_a_word_is_no_agreement_with_the_whole_word() -> None:
    assert shown("to mor", "to morrow", "to morrow")[1:] == [("to morrow", "to"), ("to morrow", "to morrow")]


def test_punctuation_at_the_end_is_not_stable_yet() -> None:
    decodes = ("I want apples.", "I want apples.", "I want apples, and pears.")
    assert [stable for _, stable in shown(*decodes)] == ["", "I want apples", "I want apples"]
    assert [stable for _, stable in shown("Yes. I do", "Yes. I do")] == ["", "Yes. I do"]


def test_a_word_is_agreed_on_though_the_punctuation_behind_it_is_another() -> None:
    assert [stable for _, stable in shown("Bring.", "Bring another chair.", "Bring another, please")] == [
        "",
        "Bring",
        "Bring another",
    ]
    assert shown("Yes", "Yes, please")[1] == ("Yes, please", "Yes")
    assert shown("I think ...", "I think ...", "I think so too.")[1:] == [
        ("I think ...", "I think"),
        ("I think so too.", "I think"),
    ]
    assert shown("...", "-- and so")[1] == ("-- and so", "")


def test_what_is_stable_stays_though_a_later_decode_says_something_else() -> None:
    said = shown("the four", "the four men", "the five men ran", "the five men ran off")
    assert said[2] == ("the four men ran", "the four")
    assert said[3] == ("the four men ran off", "the four")
    assert shown("yes", "yes", "") == [("yes", ""), ("yes", "yes"), ("yes", "yes")]


def test_characters_are_compared_where_there_are_no_spaces() -> None:
    assert [stable for _, stable in shown("今日は雨", "今日は晴れ", "今日は晴れです")] == ["", "今日は", "今日は晴れ"]


@pytest.mark.parametrize(
    ("stable", "final", "rest"),
    [
        ("", "Hello there.", "Hello there."),
        ("Hello", "Hello there.", " there."),
        ("Hello there", "Hello there.", "."),
        ("Hello there", "Hello, there.", "."),
        ("I want for", "I want four apples.", " apples."),
        ("every one", "Everyone is here.", " is here."),
        ("one two three", "One three four", " four"),
        ("um", "Hello there", " Hello there"),
        ("a b", "a b", ""),
        ("don", "don't go", " go"),
        ("well", "", ""),
        ("Yes.", "Yes, of course", " of course"),
    ],
)
def test_the_final_adds_what_follows_the_words_that_were_sent(stable: str, final: str, rest: str) -> None:
    assert rest_after(stable, final) == rest


TEXTS = st.lists(st.sampled_from(["a", "b", "ab", "a.", "b,", "don't"]), max_size=6).map(" ".join)


@given(st.lists(TEXTS, max_size=8))
def test_the_stable_text_only_grows_and_begins_every_text_that_is_shown(decodes: list[str]) -> None:
    before = ""
    for text, stable in shown(*decodes):
        assert stable.startswith(before)
        assert text.startswith(stable)
        before = stable


@given(TEXTS, TEXTS)
def test_the_rest_is_the_end_of_the_final_or_all_of_it(stable: str, final: str) -> None:
    rest = rest_after(stable, final)
    assert final.endswith(rest) or rest == f" {final}"
    assert rest_after("", final) == final
    assert rest_after(final, final) == ""
