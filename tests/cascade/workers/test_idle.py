"""Which segment is decoded again while a worker is idle, and when it is not worth it. Literals, no clock."""

import math

import pytest

from speechpipe.cascade.workers.idle import (
    CHEAP_SHARE,
    EARLY,
    FIRST,
    LOADED,
    LOOK_AGAIN_S,
    NEWS,
    SPECULATE_AFTER,
    Duty,
    IdleWork,
    OpenSegment,
)
from speechpipe.types import NullCause, Transcript

TEXT = Transcript("some words")


def news(segment: OpenSegment) -> bool:
    return segment.has_news


def speaking(samples: int = FIRST) -> OpenSegment:
    segment = OpenSegment(buffered=True)
    segment.feed(samples, endpoint_near=False)
    return segment


def pausing(silent: int = SPECULATE_AFTER) -> OpenSegment:
    segment = speaking()
    segment.feed(silent, endpoint_near=True)
    return segment


def speculate(segment: OpenSegment, transcript: Transcript, now: float, cpu_s: float) -> None:
    segment.decoded(transcript.text, segment.samples, now, 0.1)
    segment.guessed(transcript, 0.1, cpu_s)


def work(*segments: OpenSegment, wanted: bool = True) -> IdleWork:
    found = IdleWork()
    for number, segment in enumerate(segments, 1):
        found.open(number, segment)
        if wanted:
            found.want(number)
    return found


def test_a_pause_is_decoded_once_and_the_decode_is_the_transcript_if_nothing_follows() -> None:
    segment = pausing(SPECULATE_AFTER - 1)
    idle = work(segment, wanted=False)
    assert idle.next(1.0) is None
    segment.feed(1, endpoint_near=True)
    assert idle.next(1.0) == 1
    speculate(segment, TEXT, 1.1, 0.08)
    assert idle.next(1.2) is None
    segment.feed(1000, endpoint_near=True)
    assert idle.next(1.2) is None
    assert segment.take_guess() == (TEXT, 0.1)
    assert segment.speculations == 1


def test_a_decode_in_a_pause_is_in_vain_if_the_speech_goes_on() -> None:
    segment = pausing()
    speculate(segment, TEXT, 1.1, 0.08)
    assert segment.feed(100, endpoint_near=False) == 0.08
    assert segment.take_guess() is None
    segment.feed(SPECULATE_AFTER, endpoint_near=True)
    assert segment.may_have_ended, "the next pause is decoded again"
    speculate(segment, Transcript.null(NullCause.EMPTY), 2.0, 0.07)
    assert segment.take_guess() == (Transcript.null(NullCause.EMPTY), 0.1)
    assert segment.speculations == 2


def test_the_first_decode_in_a_pause_is_the_speculative_one() -> None:
    """A partial result at its beginning would be under way when the speculative decode is due."""
    segment = pausing(SPECULATE_AFTER - 1)
    idle = work(segment)
    assert not news(segment)
    assert idle.next(1.0) is None
    segment.feed(1, endpoint_near=True)
    assert idle.next(1.0) == 1
    assert segment.may_have_ended


def test_there_is_no_partial_result_when_nothing_new_was_said() -> None:
    segment = speaking(FIRST - 1)
    idle = work(segment)
    assert idle.next(1.0) is None
    assert idle.wait_s(1.0) is None
    segment.feed(1, endpoint_near=False)
    assert idle.next(1.0) == 1
    segment.decoded("some", segment.samples, 1.0, 0.0)
    assert not news(segment)
    segment.feed(NEWS, endpoint_near=False)
    assert news(segment)
    segment.decoded("some words", segment.samples, 2.0, 0.0)
    segment.feed(10, endpoint_near=False)
    assert not news(segment)


def with_stable_text(at: float) -> OpenSegment:
    segment = speaking()
    for text in ("some", "some words"):
        segment.decoded(text, segment.samples, at, 0.1)
    segment.feed(NEWS, endpoint_near=False)
    assert segment.stable
    return segment


def test_until_some_text_is_stable_partial_results_follow_each_other() -> None:
    segment = speaking()
    idle = work(segment)
    segment.decoded("some", segment.samples, 10.0, 0.1)
    segment.feed(NEWS, endpoint_near=False)
    assert idle.next(10.0) == 1
    segment.feed(EARLY, endpoint_near=False)
    assert idle.next(10.05) is None, "nothing that is long without stable text may take all of the time"
    assert idle.next(10.11) == 1


def test_partial_results_keep_to_a_share_of_the_time() -> None:
    segment = with_stable_text(10.0)
    idle = work(segment)
    assert idle.next(10.05) is None
    assert idle.wait_s(10.05) == pytest.approx(0.05)
    assert idle.next(10.11) == 1, "half of the time for one stream"
    other = with_stable_text(9.0)
    idle.open(2, other)
    idle.want(2)
    assert idle.next(10.11) == 2, "a quarter for each of two, and the one that has waited longest is first"


def test_a_busy_worker_makes_neither_partial_results_nor_speculative_decodes() -> None:
    idle = work(pausing(), speaking())
    idle.duty.add(10.0, 3 * LOADED)
    assert idle.duty.share(10.0) == pytest.approx(LOADED)
    assert idle.next(10.0) is None
    assert 0 < (idle.wait_s(10.0) or 0) < 1, "and looks again soon"
    assert idle.next(12.0) == 1


def test_a_worker_that_was_busy_when_a_pause_began_looks_again_while_it_lasts() -> None:
    segment = pausing()
    idle = work(segment, wanted=False)
    idle.duty.add(10.0, 3 * LOADED)
    assert idle.next(10.0) is None
    assert idle.wait_s(10.0) == LOOK_AGAIN_S
    assert idle.next(10.0 + LOOK_AGAIN_S) == 1
    speculate(segment, TEXT, 10.2, 0.1)
    assert idle.wait_s(10.2) is None


def test_the_longest_pause_is_decoded_first_and_only_requested_partial_results_are_made() -> None:
    idle = work(pausing(), pausing(SPECULATE_AFTER + 5), wanted=False)
    assert idle.next(1.0) == 2
    idle.close(2)
    assert idle.next(1.0) == 1
    idle.close(1)
    idle.open(3, speaking())
    assert idle.next(1.0) is None
    idle.want(3)
    idle.want(9)  # not open yet
    assert idle.next(1.0) == 3
    assert idle.answered(3)
    assert not idle.answered(3)
    assert idle.next(1.0) is None


def test_a_recognizer_that_decodes_while_it_is_fed_gives_partial_results_at_its_own_price() -> None:
    segment = OpenSegment(buffered=False)
    segment.feed(10, endpoint_near=True)
    assert news(segment)
    assert not segment.may_have_ended
    segment.decoded("so far", segment.samples, 1.0, 0.1)
    assert (segment.text, segment.stable) == ("so far", 0)
    assert not news(segment)
    assert segment.due(0.0) == pytest.approx(1.0 + 0.1 / CHEAP_SHARE - 0.1)


def test_a_failed_segment_answers_at_once_and_is_not_decoded_again() -> None:
    segment = pausing()
    assert segment.fail() == 0.0
    assert news(segment)
    assert not segment.may_have_ended


def test_duty_is_forgotten_within_seconds() -> None:
    duty = Duty()
    assert duty.share(0.0) == 0.0
    for tick in range(100):
        duty.add(tick * 0.1, 0.05)
    assert duty.share(9.9) == pytest.approx(0.5, abs=0.05)
    assert duty.share(19.9) < 0.05
    assert speaking().due(0.0) == math.inf
