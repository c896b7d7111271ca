"""The figures: right on cases small enough to count by hand."""

import pytest

from speechpipe.cascade.evaluation.scores import (
    Errors,
    character_errors,
    normalise,
    rate,
    score_spans,
    vad_summary,
    word_errors,
)


def test_counting_by_hand() -> None:
    assert word_errors("the cat sat", "the cat sat") == Errors(0, 3)
    assert word_errors("the cat sat", "a cat sat down") == Errors(2, 3)
    assert word_errors("the cat sat", "") == Errors(3, 3)
    assert word_errors("", "out of nothing") == Errors(3, 0)
    assert character_errors("abc", "abd") == Errors(1, 3)


def test_normalising_is_the_same_on_both_sides() -> None:
    assert normalise("Mr. Dashwood's  HOUSE, isn’t it?") == "mister dashwood's house isn't it"


def test_rate_is_pooled_and_its_interval_holds_it() -> None:
    result = rate([Errors(1, 10), Errors(3, 10), Errors(0, 10)])
    assert result is not None
    assert result.value == pytest.approx(4 / 30)
    assert 0 <= result.low < result.value < result.high
    assert rate([]) is None
    assert rate([Errors(2, 0)]) is None


def test_vad_scores_by_hand() -> None:
    score = score_spans([(1.0, 2.0)], [(0.9, 1.5), (1.6, 2.2), (3.0, 3.1)], 4.0)
    assert (score.speech_frames, score.found_frames) == (100, 90)
    assert (score.silence_frames, score.false_frames) == (300, 40)
    assert score.boundary_errors_s == pytest.approx((0.1, 0.2))
    summary = vad_summary([score])
    assert summary["recall"] == pytest.approx(0.9)
    assert summary["false_alarm_rate"] == pytest.approx(40 / 300)
    assert vad_summary([score_spans([], [], 1.0)])["recall"] is None
