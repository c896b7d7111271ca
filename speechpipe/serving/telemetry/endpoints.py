"""How the segments of a live channel end: too early, late, at the maximum, or never. Positions are audio samples."""

from collections.abc import Mapping, Sequence

from speechpipe.foundation.storage.record import Measure
from speechpipe.types import SAMPLE_RATE_HZ, Segment, Word

RESUMED = round(0.3 * SAMPLE_RATE_HZ)
"""Samples: who goes on speaking so soon after an endpoint had not finished."""

LEAST_WORDS = 4
"""Words of a text of which the first and the last are compared with those between."""


class Endpoints:
    """The ends of one channel's segments. Used on the session's thread."""

    def __init__(self) -> None:
        self._last: Segment | None = None
        self._manual = False
        self._endpoint: int | None = None  # where the last segment's end was decided; None: not by silence

    def of(self, segment: Segment, at: int, *, by_silence: bool, manual: bool = False) -> Mapping[str, Measure]:
        """Return measures of the next segment, whose end was decided at sample `at`.

        Args:
            segment: the segment.
            at: see above.
            by_silence: the VAD ended it. Otherwise the client did, or no more audio came.
            manual: the client ends all segments.
        """
        self._manual = manual
        measures: dict[str, Measure] = {}
        if self._endpoint is not None:
            measures["live.resumed"] = int(segment.speech_start - self._endpoint <= RESUMED)
        by_silence &= not segment.cut
        if by_silence:
            measures["live.endpoint_delay_s"] = (at - segment.speech_end) / SAMPLE_RATE_HZ
        self._last, self._endpoint = segment, at if by_silence else None
        return measures

    def of_session(self, received: int) -> Mapping[str, Measure]:
        """Return measures of the session, which has ended after `received` samples."""
        if self._last is None or self._manual:
            return {}
        return {"live.unended": int(self._last.end >= received)}


def edge_confidence(words: Sequence[Word]) -> float | None:
    """Return the mean confidence of the first and last word, less that of the others; None if they are too few.

    It falls when segments begin or end within words, which moves no mean confidence of a long text.
    """
    known = [word.confidence for word in words if word.confidence is not None]
    if len(known) < len(words) or len(known) < LEAST_WORDS:
        return None
    return (known[0] + known[-1]) / 2 - sum(known[1:-1]) / (len(known) - 2)
