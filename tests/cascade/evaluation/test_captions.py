"""Captions: cues a person can read, at the time the words are said."""

from speechpipe.cascade.audio.features import FeatureAccumulator
from speechpipe.cascade.evaluation.captions import MAX_CHARACTERS, MAX_S, cues, srt, vtt
from speechpipe.types import DecodeStats, NullCause, Segment, Transcript, Utterance, Word


def utterance(words: list[tuple[str, float, float]], index: int = 0) -> Utterance:
    said = tuple(Word(text, start, end, 0.9) for text, start, end in words)
    text = " ".join(word.text for word in said)
    transcript = Transcript(text, said, 0.9) if said else Transcript.null(NullCause.EMPTY)
    start, end = (round(words[0][1] * 16_000), round(words[-1][2] * 16_000)) if words else (0, 16_000)
    stats = DecodeStats(0.0, 0.0, 0.0, 1)
    segment = Segment(start, end, start, end, 0.9)
    return Utterance(f"u{index}", index, segment, transcript, FeatureAccumulator().result(), stats)


def test_the_formats_to_the_letter() -> None:
    said = [utterance([("hello", 3661.0415, 3661.5), ("there", 3661.5, 3662.0)])]
    assert srt(cues(said)) == "1\n01:01:01,042 --> 01:01:02,000\nhello there\n\n"
    assert vtt(cues(said)) == "WEBVTT\n\n01:01:01.042 --> 01:01:02.000\nhello there\n\n"
    assert srt([]) == ""
    assert vtt([]) == "WEBVTT\n\n"


def test_long_speech_becomes_several_cues_and_no_word_is_lost() -> None:
    words = [(f"word{number}", number * 0.4, number * 0.4 + 0.35) for number in range(60)]
    made = list(cues([utterance(words)]))
    assert len(made) > 3
    assert " ".join(cue.text for cue in made) == " ".join(word for word, _, _ in words)
    for cue in made:
        assert len(cue.text) <= MAX_CHARACTERS
        assert cue.end_s - cue.start_s <= MAX_S


def test_a_pause_starts_a_new_cue_and_nulls_have_none() -> None:
    said = [utterance([("one", 0.0, 0.5), ("two", 3.0, 3.5)]), utterance([], 1)]
    assert [(cue.start_s, cue.text) for cue in cues(said)] == [(0.0, "one"), (3.0, "two")]
