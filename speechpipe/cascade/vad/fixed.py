"""Segmenters with given boundaries: known spans, or commits of the client. They ignore the VAD's scores."""

from speechpipe.cascade.vad import Closed, Opened
from speechpipe.types import SAMPLE_RATE_HZ, Samples, Segment


class FixedSegments:
    """Segments at known spans, for oracle figures in `evaluate` and for probes."""

    flips = 0
    endpoint_near = False  # unknown without scores

    def __init__(self, spans: list[tuple[int, int]], frame_samples: int) -> None:
        """Take (start, end) spans in samples, sorted and not overlapping."""
        self._spans = list(spans)
        self._frame = frame_samples
        self._now = 0
        self.is_open = False
        self.settled = 0
        self.certain_end = self.speech_end = 0
        self.speech_samples = sum(end - start for start, end in spans)

    def push(self, scores: Samples, levels_db: Samples) -> list[Opened | Closed]:
        """Advance by (n,) frames; the scores are ignored."""
        del levels_db
        self._now += len(scores) * self._frame
        return self._advance()

    def flush(self) -> list[Opened | Closed]:
        """Do nothing: the spans are fixed."""
        return []

    def clear(self) -> None:
        """Do nothing: the spans are fixed."""

    def finish(self, received: int) -> list[Opened | Closed]:
        """End at sample `received`; spans that reach beyond it end there."""
        self._now = received
        self._spans = [(start, min(end, received)) for start, end in self._spans if start < received]
        return self._advance()

    def _advance(self) -> list[Opened | Closed]:
        events: list[Opened | Closed] = []
        while self._spans and self._spans[0][1] <= self._now:
            start, end = self._spans.pop(0)
            events += [Opened(start, self._now, start), Closed(Segment(start, end, start, end, 1.0), self._now)]
        self.settled = min(self._spans[0][0], self._now) if self._spans else self._now
        return events


class ManualSegments:
    """One segment from each commit to the next, cut only at the maximum length."""

    flips = 0
    endpoint_near = False  # unknown without scores

    def __init__(self, frame_samples: int, max_segment_s: float, start: int = 0) -> None:
        self._frame = frame_samples
        self._max = round(max_segment_s * SAMPLE_RATE_HZ)
        self._now = start
        self._start: int | None = None
        self._was_cut = False
        self.settled = start
        self.speech_samples = 0

    @property
    def is_open(self) -> bool:
        """Whether audio has arrived since the last commit."""
        return self._start is not None

    @property
    def certain_end(self) -> int:
        """The current position: all audio belongs to the segment."""
        return self._now

    @property
    def speech_end(self) -> int:
        """The current position: silence is not told from speech."""
        return self._now

    def push(self, scores: Samples, levels_db: Samples) -> list[Opened | Closed]:
        """Advance by (n,) frames; the scores are ignored."""
        del levels_db
        events: list[Opened | Closed] = []
        for _ in range(len(scores)):
            if self._start is None:
                self._start = self._now
                events.append(Opened(self._start, self._now, self._start, self._was_cut))
            self._now += self._frame
            if self._now - self._start >= self._max:
                self._close(events, cut=True)
        self.settled = self._now
        return events

    def flush(self) -> list[Opened | Closed]:
        """End the segment (a commit)."""
        events: list[Opened | Closed] = []
        self._close(events)
        return events

    def clear(self) -> None:
        """Drop the audio since the last commit."""
        self._start, self._was_cut = None, False

    def finish(self, received: int) -> list[Opened | Closed]:
        """End the session at sample `received`."""
        self._now = min(self._now, received)
        return self.flush()

    def _close(self, events: list[Opened | Closed], *, cut: bool = False) -> None:
        if self._start is None:
            return
        self.speech_samples += self._now - self._start
        segment = Segment(self._start, self._now, self._start, self._now, 1.0, cut)
        events.append(Closed(segment, self._now))
        self._start, self._was_cut = None, cut
