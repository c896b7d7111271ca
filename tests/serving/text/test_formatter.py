"""The formatter of a session: no word's time is lost, partial and final texts agree, what cannot be done is said."""

import dataclasses
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from speechpipe.serving.text import TextOptions
from speechpipe.serving.text.formatter import TextFormatter
from speechpipe.serving.text.numerals import VOCABULARY
from speechpipe.serving.text.profanity import ProfanityLists
from speechpipe.types import NullCause, Transcript, Word

ALL = TextOptions(punctuate=False, smart_format=True, profanity_filter=True)


def formatter(
    options: TextOptions, languages: Sequence[str] = ("en",), language: str | None = None, unpunctuated: str = ""
) -> TextFormatter:
    return TextFormatter(options, languages, language, ProfanityLists(), "", unpunctuated)


def transcript(text: str, language: str = "") -> Transcript:
    words = tuple(Word(word, float(at), at + 0.75, 0.5 + 0.5 / (at + 1)) for at, word in enumerate(text.split()))
    return Transcript(text, words, 0.8, language=language)


def test_merged_words_keep_first_start_last_end_and_lowest_confidence() -> None:
    done = formatter(TextOptions(numerals=True)).transcript(transcript("I have twenty five cows."))
    assert done.text == "I have 25 cows."
    assert [word.text for word in done.words] == ["I", "have", "25", "cows."]
    number = done.words[2]
    assert (number.start_s, number.end_s) == (2.0, 3.75)
    assert number.confidence == 0.5 + 0.5 / 4
    assert done.confidence == 0.8


def test_a_word_without_confidence_does_not_hide_the_others() -> None:
    said = Transcript("twenty five", (Word("twenty", 0.0, 0.5, None), Word("five", 0.5, 1.0, 0.4)))
    assert formatter(TextOptions(numerals=True)).transcript(said).words == (Word("25", 0.0, 1.0, 0.4),)


def test_nothing_asked_is_nothing_changed() -> None:
    said = transcript("Twenty five, SHIT!")
    assert formatter(TextOptions()).transcript(said) is said
    assert formatter(TextOptions(punctuate=True)).transcript(said) is said
    assert formatter(TextOptions()).partial("Twenty five", 6) == ("Twenty five", 6)


def test_all_together() -> None:
    done = formatter(ALL).transcript(transcript("Shit, that's Twenty Five Dollars and fifty cents!"))
    assert done.text == "s*** that's $25.50"


def test_punctuation_alone_is_no_text() -> None:
    done = formatter(TextOptions(punctuate=False)).transcript(transcript("… —"))
    assert (done.text, done.words, done.null_cause) == ("", (), NullCause.EMPTY)


def test_words_that_are_not_the_text_are_written_apart() -> None:
    said = Transcript("Twenty five!", (Word("twenty-five", 0.0, 1.0, 0.4),))
    done = formatter(TextOptions(numerals=True)).transcript(said)
    assert (done.text, done.words) == ("25!", (Word("25", 0.0, 1.0, 0.4),))


def test_languages_without_spaces_keep_their_text_together() -> None:
    said = Transcript("你好。", (Word("你", 0.0, 0.2, 0.9), Word("好", 0.2, 0.4, 0.8), Word("。", 0.4, 0.5, 0.7)))
    done = formatter(TextOptions(punctuate=False), ["zh"]).transcript(said)
    assert done.text == "你好"
    assert done.words[-1] == Word("好", 0.2, 0.5, 0.7)


def test_english_numbers_only_where_english_is_spoken() -> None:
    options = TextOptions(numerals=True)
    assert formatter(options, ["*"]).transcript(transcript("two five", "en")).text == "2 5"
    assert formatter(options, ["en", "de"], "en").transcript(transcript("two five")).text == "2 5"
    other = formatter(options, ["*"])
    assert other.transcript(transcript("two five", "de")).text == "two five"
    (notice,) = other.notices
    assert notice.code == "parameter_ignored"
    assert "de" in notice.message
    assert formatter(options, ["de"]).notices
    assert not formatter(options, ["en"]).notices


def test_other_languages_have_only_the_operators_words_masked() -> None:
    options = TextOptions(profanity_filter=True)
    german = formatter(options, ["de"])
    assert german.transcript(transcript("die Bitch")).text == "die Bitch"
    assert "profanity_filter" in german.notices[0].message
    unknown = formatter(options, ["*"])
    assert unknown.text("shit") == "s***"
    assert not unknown.notices


def test_punctuation_that_a_recognizer_does_not_write_is_not_promised() -> None:
    for options in (TextOptions(punctuate=True), TextOptions(smart_format=True)):
        (notice,) = formatter(options, unpunctuated="pocketsphinx").notices
        assert "pocketsphinx" in notice.message
        assert not formatter(options).notices


def test_options_survive_a_document() -> None:
    assert TextOptions().document() == {}
    assert ALL.document() == {"punctuate": False, "smart_format": True, "profanity_filter": True}
    assert TextOptions.of(ALL.document()) == ALL


WORDS = st.one_of(
    st.sampled_from([*sorted(VOCABULARY), "people", "Shit", "bullshitter", "U.S.", "—", "...", "wait—what", "5", "$5"]),
    st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=6),
)
ENDS = st.sampled_from(["", "", "", ",", ".", "?!"])
TEXTS = st.lists(st.tuples(WORDS, ENDS), min_size=1, max_size=12).map(
    lambda pairs: " ".join(word + end for word, end in pairs)
)
OPTIONS = st.builds(TextOptions, st.sampled_from([None, True, False]), st.booleans(), st.booleans(), st.booleans())


@given(TEXTS, OPTIONS)
def test_no_words_time_is_lost(text: str, options: TextOptions) -> None:
    said = transcript(text)
    done = formatter(options).transcript(said)
    if not done.words:
        assert not done.text
        return
    for word in said.words:
        assert any(one.start_s <= word.start_s and word.end_s <= one.end_s for one in done.words), word
    starts = [word.start_s for word in done.words]
    assert starts == sorted(starts)
    assert done.words[0].start_s == said.words[0].start_s
    assert done.words[-1].end_s == said.words[-1].end_s
    lowest = min(word.confidence or 0.0 for word in said.words)
    assert min(word.confidence or 0.0 for word in done.words) == lowest
    assert " ".join(word.text for word in done.words) == done.text


@given(TEXTS, OPTIONS)
def test_a_partial_text_is_written_as_the_final_is(text: str, options: TextOptions) -> None:
    assert formatter(options).partial(text, 0)[0] == formatter(options).transcript(transcript(text)).text


@given(TEXTS, OPTIONS)
def test_writing_again_changes_nothing(text: str, options: TextOptions) -> None:
    # Without punctuation, "one, hundred" may be one number.
    for part in (dataclasses.replace(options, punctuate=None), TextOptions(punctuate=False, profanity_filter=True)):
        once = formatter(part).text(text)
        assert formatter(part).text(once) == once


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3), OPTIONS)
def test_stable_text_is_never_taken_back(stable: str, rests: list[str], options: TextOptions) -> None:
    written = formatter(options)
    seen = ""
    for rest in ("", *rests):
        text, count = written.partial(f"{stable} {rest}".strip(), len(stable))
        assert text.startswith(seen)
        assert count >= len(seen)
        seen = text[:count]
