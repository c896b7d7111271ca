"""Comparison of probes: recordings with pinned results, compared stage by stage on the pinned input of each stage.

The models are deterministic (a test checks it), so a difference means that the stage has changed. The tolerances are
for rounding.
"""

from collections.abc import Sequence
from typing import NamedTuple

from speechpipe.types import SAMPLE_RATE_HZ, Utterance

BOUNDARY_S = 0.05
PROBABILITY = 0.02
CONFIDENCE = 0.05


class SegmentSeen(NamedTuple):
    """The VAD's result for a segment."""

    start_s: float
    end_s: float
    probability: float


class AnswerSeen(NamedTuple):
    """The recognizer's result for a segment; `outcome` is `ok` or the null cause."""

    text: str
    confidence: float
    outcome: str


def segment_seen(utterance: Utterance) -> SegmentSeen:
    """Return the pinned values of an utterance's segment."""
    segment = utterance.segment
    return SegmentSeen(segment.start / SAMPLE_RATE_HZ, segment.end / SAMPLE_RATE_HZ, segment.mean_probability)


def answer_seen(utterance: Utterance) -> AnswerSeen:
    """Return the pinned values of an utterance's transcript."""
    transcript = utterance.transcript
    outcome = "ok" if transcript.null_cause is None else transcript.null_cause.value
    return AnswerSeen(transcript.text, transcript.confidence or 0.0, outcome)


def segments_differ(pinned: Sequence[SegmentSeen], now: Sequence[SegmentSeen]) -> bool:
    """Whether a probe's segments differ from the pinned ones."""
    if len(pinned) != len(now):
        return True
    return any(
        abs(one.start_s - other.start_s) > BOUNDARY_S
        or abs(one.end_s - other.end_s) > BOUNDARY_S
        or abs(one.probability - other.probability) > PROBABILITY
        for one, other in zip(pinned, now, strict=True)
    )


def answers_differ(pinned: Sequence[AnswerSeen], now: Sequence[AnswerSeen]) -> bool:
    """Whether a probe's transcripts of the pinned segments differ from the pinned ones."""
    if len(pinned) != len(now):
        return True
    return any(
        one.text != other.text or one.outcome != other.outcome or abs(one.confidence - other.confidence) > CONFIDENCE
        for one, other in zip(pinned, now, strict=True)
    )
