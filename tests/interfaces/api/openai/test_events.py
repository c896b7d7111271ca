"""Deltas of the Realtime protocol: stable text as it grows, the rest with the final, never taken back."""

from typing import Any

import pytest

from speechpipe.cascade.audio.wire_format import WireFormat
from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.interfaces.api.openai.events import Realtime
from speechpipe.interfaces.api.openai.session import Session
from speechpipe.serving.live import Event, Final, LiveRequest, Partial, SpeechEnded, SpeechStarted, StableText
from speechpipe.serving.text import TextOptions
from speechpipe.serving.text.formatter import TextFormatter
from speechpipe.serving.text.profanity import ProfanityLists
from speechpipe.types import AudioFeatures, DecodeStats, NullCause, Segment, Transcript, Utterance


def dialect_of(options: TextOptions, language: str | None = "en") -> Realtime:
    bundle = Catalogue([shipped_models()]).bundle("scripted")
    request = LiveRequest(bundle, wire=WireFormat("linear16", 16_000), channel="realtime", tenant="t")
    unused: Any = None
    return Realtime(request, Session(), unused, TextFormatter(options, ("*",), language, ProfanityLists(), "t"))


@pytest.fixture
def dialect() -> Realtime:
    return dialect_of(TextOptions())


def final(index: int, text: str, *, cut: bool = False) -> Final:
    transcript = Transcript(text) if text else Transcript.null(NullCause.EMPTY)
    features = AudioFeatures(1.0, -20.0, -10.0, 0.0, 0.0, 0.0, None, None, None, None)
    segment = Segment(0, 16_000, 0, 16_000, 0.9, cut)
    utterance = Utterance(f"s-{index}", index, segment, transcript, features, DecodeStats(0.0, 0.1, 0.1, 1))
    return Final(0, utterance, flushed=False, at_s=1.0, until_s=1.0, latency_s=0.1)


def started(index: int, *, continued: bool = False) -> SpeechStarted:
    return SpeechStarted(0, index, 0.0, 0.0, 0.1, manual=False, continued=continued)


def ended(index: int, *, cut: bool = False) -> SpeechEnded:
    return SpeechEnded(0, index, 1.0, 1.0, cut, flushed=False)


def said(dialect: Realtime, *events: Event) -> tuple[list[str], list[str]]:
    """The deltas, and the transcripts of completed items."""
    messages = [message for event in events for message in dialect.render(event)]
    deltas = [message["delta"] for message in messages if message["type"].endswith(".delta")]
    return deltas, [message["transcript"] for message in messages if message["type"].endswith(".completed")]


def test_without_stable_text_the_final_is_one_delta(dialect: Realtime) -> None:
    assert said(dialect, started(0), ended(0), final(0, "Yes, please.")) == (["Yes, please."], ["Yes, please."])


def test_stable_text_is_sent_as_it_grows_and_the_final_adds_the_rest(dialect: Realtime) -> None:
    events = (
        started(0),
        StableText(0, 0, "I want"),
        StableText(0, 0, " four"),
        ended(0),
        final(0, "I want four apples."),
    )
    deltas, transcripts = said(dialect, *events)
    assert deltas == ["I want", " four", " apples."]
    assert transcripts == ["".join(deltas)]


def test_a_final_that_says_nothing_more_needs_no_delta(dialect: Realtime) -> None:
    assert said(dialect, started(0), StableText(0, 0, "Yes"), ended(0), final(0, "Yes")) == (["Yes"], ["Yes"])


def test_what_was_sent_is_not_taken_back_and_the_transcript_is_right(dialect: Realtime) -> None:
    events = (started(0), StableText(0, 0, "I want for"), ended(0), final(0, "I want four apples."))
    assert said(dialect, *events) == (["I want for", " apples."], ["I want four apples."])


def test_the_parts_of_speech_that_was_cut_are_one_item(dialect: Realtime) -> None:
    events = (
        started(0),
        StableText(0, 0, "One two"),
        ended(0, cut=True),
        final(0, "One two three", cut=True),
        started(1, continued=True),
        StableText(0, 1, "four"),
        StableText(0, 1, " five"),
        ended(1),
        final(1, "four five six"),
    )
    deltas, transcripts = said(dialect, *events)
    assert deltas == ["One two", " three", " four", " five", " six"]
    assert transcripts == ["One two three four five six"] == ["".join(deltas)]


def test_a_part_that_came_to_nothing_leaves_no_gap(dialect: Realtime) -> None:
    events = (
        started(0),
        StableText(0, 0, "Um"),
        ended(0, cut=True),
        final(0, "", cut=True),
        started(1, continued=True),
        ended(1),
        final(1, "Hello."),
    )
    assert said(dialect, *events) == (["Um", " Hello."], ["Hello."])


def test_the_whole_text_is_an_event_of_its_own(dialect: Realtime) -> None:
    dialect.render(started(0))
    (message,) = dialect.render(Partial(0, 0, "I want for", 0.0, 1.0, 0.1, stable=6))
    assert message["type"] == "speechpipe.partial"
    assert (message["transcript"], message["stable"]) == ("I want for", 6)


def test_a_number_is_sent_once_no_later_word_can_change_it() -> None:
    dialect = dialect_of(TextOptions(numerals=True))
    growing = (StableText(0, 0, "I want twenty"), StableText(0, 0, " five"), StableText(0, 0, " apples"))
    deltas, transcripts = said(dialect, started(0), *growing, ended(0), final(0, "I want twenty five apples."))
    assert transcripts == ["I want 25 apples."]
    assert "".join(deltas) == transcripts[0]
    assert not any("twenty" in delta or "20" in delta for delta in deltas)
    assert len(deltas) > 1, "what is settled does not wait for the final"


def test_without_punctuation_deltas_and_transcript_have_none() -> None:
    dialect = dialect_of(TextOptions(punctuate=False))
    growing = (StableText(0, 0, "Yes,"), StableText(0, 0, " four"))
    deltas, transcripts = said(dialect, started(0), *growing, ended(0), final(0, "Yes, four apples."))
    assert ("".join(deltas), transcripts) == ("yes four apples", ["yes four apples"])


def test_what_cannot_be_written_as_asked_is_said_once() -> None:
    dialect = dialect_of(TextOptions(numerals=True), "fr")
    warned = []
    for index in (0, 1):
        said(dialect, started(index), ended(index))
        kinds = [message["type"] for message in dialect.render(final(index, "vingt"))]
        warned.append(kinds.count("speechpipe.warning"))
    assert warned == [1, 0]
