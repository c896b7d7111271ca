"""Metrics of endpoints: on the arithmetic, and on a live session through the service."""

import pytest

from speechpipe.serving.telemetry.endpoints import Endpoints, edge_confidence
from speechpipe.types import SAMPLE_RATE_HZ, Segment, Word


def segment(begins_s: float, ends_s: float, *, cut: bool = False) -> Segment:
    begin, end = round(begins_s * SAMPLE_RATE_HZ), round(ends_s * SAMPLE_RATE_HZ)
    return Segment(max(0, begin - 1600), end + 1600, begin, end, 0.9, cut)


def at(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE_HZ)


def test_who_goes_on_within_300_ms_after_an_endpoint_was_cut_too_early() -> None:
    ends = Endpoints()
    assert ends.of(segment(1, 2), at(2.5), by_silence=True) == {"live.endpoint_delay_s": pytest.approx(0.5)}
    assert ends.of(segment(2.7, 4), at(4.5), by_silence=True)["live.resumed"] == 1
    assert ends.of(segment(6, 7), at(7.5), by_silence=True)["live.resumed"] == 0


def test_what_the_client_ended_or_was_cut_says_nothing_about_endpoints() -> None:
    ends = Endpoints()
    assert ends.of(segment(1, 2), at(2.1), by_silence=False) == {}
    assert ends.of(segment(2.2, 32.2, cut=True), at(32.2), by_silence=True) == {}
    assert "live.resumed" not in ends.of(segment(32.2, 33), at(33.5), by_silence=True)


def test_a_session_that_ends_within_a_segment() -> None:
    ends = Endpoints()
    assert ends.of_session(at(9)) == {}
    ends.of(segment(1, 2), at(2.5), by_silence=True)
    assert ends.of_session(at(9)) == {"live.unended": 0}
    ends.of(segment(8, 9), at(9), by_silence=False)
    assert ends.of_session(at(9)) == {"live.unended": 1}


@pytest.mark.parametrize(
    ("confidences", "expected"),
    [([0.5, 0.9, 0.9, 0.7], -0.3), ([0.9] * 6, 0.0), ([0.5, 0.9, 0.7], None), ([0.5, None, 0.9, 0.7], None)],
)
def test_the_confidence_of_first_and_last_words(confidences: list[float | None], expected: float | None) -> None:
    words = [Word("a", 0.0, 0.1, one) for one in confidences]
    found = edge_confidence(words)
    assert found == (None if expected is None else pytest.approx(expected))
