"""The decision machine, with literals and with properties. Frames here are 512 samples (32 ms)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechpipe.cascade.vad import Closed, Opened
from speechpipe.cascade.vad.fixed import FixedSegments
from speechpipe.cascade.vad.segmenter import BOUNDS, Segmenter, SegmenterOptions
from speechpipe.errors import InvalidParameter
from speechpipe.types import Segment

FRAME = 512
OPTIONS = SegmenterOptions(
    min_speech_s=0.064, min_silence_s=0.16, pre_roll_s=0.064, padding_s=0.064, max_segment_s=2.0
)  # 2, 5, 2, 2 and 62 frames


def run(scores: list[float], options: SegmenterOptions = OPTIONS, levels: list[float] | None = None) -> list[Segment]:
    segmenter = Segmenter(options, FRAME)
    events = segmenter.push(np.array(scores, np.float32), np.array(levels or [0.0] * len(scores), np.float32))
    events += segmenter.finish(len(scores) * FRAME)
    return [event.segment for event in events if isinstance(event, Closed)]


def spans(segments: list[Segment]) -> list[tuple[float, float]]:
    return [(segment.start / FRAME, segment.end / FRAME) for segment in segments]


def test_a_stretch_of_speech_gets_pre_roll_and_padding() -> None:
    (segment,) = run([0.0] * 10 + [0.9] * 10 + [0.0] * 10)
    assert (segment.start, segment.end) == (8 * FRAME, 22 * FRAME)
    assert (segment.speech_start, segment.speech_end) == (10 * FRAME, 20 * FRAME)
    assert segment.mean_probability == pytest.approx(0.9)
    assert not segment.cut


def test_a_click_shorter_than_minimum_speech_is_dropped() -> None:
    assert run([0.0] * 10 + [0.9] + [0.0] * 10) == []


def test_a_pause_shorter_than_minimum_silence_does_not_split() -> None:
    assert spans(run([0.9] * 5 + [0.0] * 4 + [0.9] * 5 + [0.0] * 9)) == [(0, 16)]


def test_a_pause_of_minimum_silence_splits_and_segments_do_not_overlap() -> None:
    assert spans(run([0.9] * 5 + [0.0] * 5 + [0.9] * 5 + [0.0] * 9)) == [(0, 7), (8, 17)]


def test_pre_roll_never_reaches_into_the_segment_before() -> None:
    options = SegmenterOptions(min_speech_s=0.0, min_silence_s=0.096, pre_roll_s=0.32, padding_s=0.064)
    assert spans(run([0.9] * 4 + [0.0] * 4 + [0.9] * 4, options)) == [(0, 6), (6, 12)]


def test_hysteresis_keeps_what_hovers_between_the_thresholds() -> None:
    assert spans(run([0.0] * 4 + [0.9, 0.9] + [0.4] * 20 + [0.0] * 9)) == [(2, 28)]
    assert run([0.4] * 30) == []


def test_speech_at_the_end_is_flushed() -> None:
    assert spans(run([0.0] * 5 + [0.9] * 5)) == [(3, 10)]


def test_a_long_segment_is_cut_where_it_is_quietest() -> None:
    levels = [-20.0] * 100
    levels[49:52] = [-50.0] * 3
    segments = run([0.9] * 100, levels=levels)
    assert [segment.cut for segment in segments] == [True, False]
    assert segments[0].end == segments[1].start == 50 * FRAME + FRAME // 2
    assert segments[1].end == 100 * FRAME


def test_a_cut_that_falls_into_silence_ends_the_segment() -> None:
    scores, levels = [0.9] * 60 + [0.1] * 4 + [0.9] * 20, [-20.0] * 60 + [-60.0] * 4 + [-20.0] * 20
    segments = run(scores, levels=levels)
    assert spans(segments) == [(0, 62), (62, 84)]
    assert not segments[0].cut


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_every_parameter_is_bounded(name: str) -> None:
    low, high = BOUNDS[name]
    for value in (low - 0.01, high + 0.01, float("nan"), True, "0.5"):
        with pytest.raises(InvalidParameter) as caught:
            SegmenterOptions().changed({name: value})  # type: ignore[dict-item]
        assert caught.value.param == f"vad.{name}"


def test_an_unknown_parameter_is_refused_and_the_known_ones_listed() -> None:
    with pytest.raises(InvalidParameter, match=r"vad\.treshold; known: .*threshold"):
        SegmenterOptions().changed({"treshold": 0.5})


def test_an_exit_threshold_above_the_entry_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="above"):
        SegmenterOptions(threshold=0.5, negative_threshold=0.6)


OPTION_SETS = st.builds(
    SegmenterOptions,
    threshold=st.floats(0.3, 0.9),
    min_speech_s=st.sampled_from([0.0, 0.1, 0.5]),
    min_silence_s=st.sampled_from([0.03, 0.1, 0.5]),
    pre_roll_s=st.sampled_from([0.0, 0.1, 0.5]),
    padding_s=st.sampled_from([0.0, 0.1, 0.5]),
    max_segment_s=st.sampled_from([2.0, 3.0, 20.0]),
)
SCORES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.45, 0.8, 1.0]), st.integers(1, 60)), min_size=1, max_size=12
).map(lambda runs: [score for score, length in runs for _ in range(length)])


@given(OPTION_SETS, SCORES, st.integers(0, FRAME - 1), st.integers(1, 40), st.integers(0, 2**31))
def test_what_always_holds(options: SegmenterOptions, scores: list[float], short: int, group: int, seed: int) -> None:
    """Segments are ordered, disjoint, within the audio and the maximum; certain ends are never taken back; and
    how the scores are grouped into calls changes nothing."""
    levels = np.random.default_rng(seed).uniform(-60, -10, len(scores)).astype(np.float32)
    received = len(scores) * FRAME - short
    array = np.array(scores, np.float32)
    results = []
    for size in (len(scores), group):
        segmenter = Segmenter(options, FRAME)
        segments, opened, fed = [], None, 0
        for at in range(0, len(scores), size):
            events = segmenter.push(array[at : at + size], levels[at : at + size])
            if at + size >= len(scores):
                events += segmenter.finish(received)
            for event in events:
                if isinstance(event, Opened):
                    assert opened is None
                    opened, fed = event.start, event.start
                else:
                    assert event.segment.start == opened
                    assert event.segment.end >= fed or event.segment.end >= received
                    segments.append(event.segment)
                    opened = None
            if opened is not None:
                fed = max(fed, segmenter.certain_end)
            assert segmenter.is_open == (opened is not None)
        assert opened is None
        results.append(segments)
    assert results[0] == results[1]
    end = 0
    for segment in results[0]:
        assert end <= segment.start
        assert segment.speech_start <= segment.speech_end
        end = segment.end
        assert (segment.end - segment.start) / 16_000 <= options.max_segment_s + 2 * FRAME / 16_000


def test_fixed_segments_are_given_back_as_they_were_told() -> None:
    told = FixedSegments([(100, 2000), (5000, 20_000)], FRAME)
    events = told.push(np.zeros(10, np.float32), np.zeros(10, np.float32)) + told.finish(9000)
    found = [(event.segment.start, event.segment.end) for event in events if isinstance(event, Closed)]
    assert found == [(100, 2000), (5000, 9000)]
