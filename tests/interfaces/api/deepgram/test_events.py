"""Deepgram's messages, written as the query asks: words with their times, partial results like finals."""

from typing import Any

import pytest
from starlette.datastructures import QueryParams

from speechpipe.cascade.audio.wire_format import WireFormat
from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.errors import InvalidParameter
from speechpipe.interfaces.api.deepgram.events import Deepgram
from speechpipe.interfaces.api.deepgram.query import parse
from speechpipe.serving.live import Ended, Final, LiveRequest, Partial
from speechpipe.serving.text.formatter import TextFormatter
from speechpipe.serving.text.profanity import ProfanityLists
from speechpipe.types import AudioFeatures, DecodeStats, Segment, Transcript, Utterance, Word

SAID = "Shit, that's Twenty five dollars."


def dialect(**query: str) -> Deepgram:
    bundle = Catalogue([shipped_models()]).bundle("scripted")
    request = LiveRequest(bundle, wire=WireFormat("linear16", 16_000), channel="listen", tenant="t", language="en")
    parsed, _, notices = parse(QueryParams({"encoding": "linear16", "sample_rate": "16000", **query}))
    assert notices == ()
    formatter = TextFormatter(parsed.text, bundle.languages, "en", ProfanityLists(), "t", "scripted")
    return Deepgram(parsed, request, formatter)


def final(made: Deepgram, text: str = SAID) -> dict[str, Any]:
    words = tuple(Word(word, at / 10, at / 10 + 0.1, 0.9 - at / 100) for at, word in enumerate(text.split()))
    features = AudioFeatures(1.0, -20.0, -10.0, 0.0, 0.0, 0.0, None, None, None, None)
    stats = DecodeStats(0.0, 0.1, 0.1, 1)
    utterance = Utterance("s-0", 0, Segment(0, 16_000, 0, 16_000, 0.9), Transcript(text, words, 0.8), features, stats)
    (message,) = made.render(Final(0, utterance, flushed=False, at_s=1.0, until_s=1.0, latency_s=0.1))
    found: dict[str, Any] = message["channel"]["alternatives"][0]
    return found


def test_nothing_asked_is_as_the_recognizer_writes() -> None:
    alternative = final(dialect())
    assert alternative["transcript"] == SAID
    assert [word["word"] for word in alternative["words"]] == ["shit", "that's", "twenty", "five", "dollars"]
    assert [word["punctuated_word"] for word in alternative["words"]] == SAID.split()


def test_plain_words() -> None:
    alternative = final(dialect(punctuate="false"))
    assert alternative["transcript"] == "shit that's twenty five dollars"
    assert [word["word"] for word in alternative["words"]] == alternative["transcript"].split()
    assert all("punctuated_word" not in word for word in alternative["words"])


def test_smart_format_merges_words_with_their_times() -> None:
    alternative = final(dialect(smart_format="true", profanity_filter="true"))
    assert alternative["transcript"] == "S***, that's $25."
    assert alternative["words"][-1] == {
        "word": "$25",
        "punctuated_word": "$25.",
        "start": 0.2,
        "end": 0.5,
        "confidence": 0.86,
    }


def test_partial_results_are_written_as_finals_and_keep_what_is_stable() -> None:
    made = dialect(numerals="true", profanity_filter="true")
    seen = ""
    for text, stable in (
        ("Shit, that's twenty", 12),
        ("Shit, that's twenty five", 19),
        ("Shit, that's twenty five cows", 29),
    ):
        (message,) = made.render(Partial(0, 0, text, 0.0, 1.0, 0.0, stable=stable))
        written = message["channel"]["alternatives"][0]["transcript"]
        assert written.startswith(seen)
        seen = written[: message["speechpipe"]["stable"]]
    assert seen == "S***, that's 25 cows"


def test_what_could_not_be_done_is_said_at_the_end() -> None:
    made = dialect(punctuate="true")
    (message,) = made.render(Ended("ok", 1.0, "", (), ()))
    (warning,) = message["speechpipe"]["warnings"]
    assert warning["code"] == "parameter_ignored"
    assert message["speechpipe"]["formatting"] == {"punctuate": True}
    (message,) = dialect().render(Ended("ok", 1.0, "", (), ()))
    assert message["speechpipe"]["warnings"] == []
    assert "formatting" not in message["speechpipe"]


@pytest.mark.parametrize("name", ["punctuate", "numerals", "smart_format", "profanity_filter"])
def test_they_are_true_or_false(name: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse(QueryParams({name: "perhaps"}))
    assert caught.value.param == name
