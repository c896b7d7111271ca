"""The normalizers for scoring: what counts as the same, and which one a bundle gets."""

import pytest

from speechpipe.cascade.evaluation.normalizers import default_for, normalizer
from speechpipe.cascade.evaluation.scores import Errors, word_errors

SAID = "Mr. Smith said: it's twenty-one dollars, um, in colour."
HEARD = "mister smith said it is $21 in color"


def test_the_english_normalizer_forgives_spelling_and_no_word() -> None:
    by = normalizer("english")
    assert by is not None
    assert word_errors(SAID, HEARD, by).edits == 0
    assert word_errors(SAID, HEARD).edits > 4
    assert word_errors("the cat sat", "the cat sang", by) == Errors(1, 3)


def test_the_basic_normalizer_forgives_case_and_punctuation_alone() -> None:
    by = normalizer("basic")
    assert by is not None
    assert word_errors("Ist das gut? Ja!", "ist das gut ja", by) == Errors(0, 4)
    assert word_errors("einundzwanzig", "21", by).edits == 1


def test_what_only_hesitates_has_no_words() -> None:
    by = normalizer("english")
    assert by is not None
    assert word_errors("hmm, um", "", by) == Errors(0, 0)
    assert word_errors("hmm", "yes", by) == Errors(1, 0)


@pytest.mark.parametrize(
    ("languages", "name"),
    [
        (("en",), "english"),
        (("en-GB", "en"), "english"),
        (("de",), "basic"),
        (("en", "de"), "basic"),
        (("*",), "basic"),
        ((), "basic"),
    ],
)
def test_a_bundle_gets_the_normalizer_of_its_languages(languages: tuple[str, ...], name: str) -> None:
    assert default_for(languages) == name


def test_none_is_none() -> None:
    assert normalizer("none") is None
