"""Segmenters that do not decide: they are told where segments are, by known spans or by a person with a button."""

from speechpipe.cascade.vad import Closed, Opened
from speechpipe.types import SAMPLE_RATE_HZ, Samples, Segment


class FixedSegments:
    """Told the truth beforehand: spans instead of scores (for oracle figures in `evaluate`)."""

    flips = 0
    is_pausing = False  # nothing here says that the speaker does

    def __init__(self, spans: list[tuple[int, int]], frame_samples: int) -> None:
        """Take spans in samples, sorted, not overlapping."""
        self._spans = list(spans)
        self._frame = frame_samples
        self._now = 0
        self.is_open = False
        self.settled = 0
        self.certain_end = 0
        self.speech_samples = sum(end - start for start, end in spans)

    def push(self, scores: Samples, levels_db: Samples) -> list[Opened | Closed]:
        """Advance by (n,) frames; the scores are not looked at."""
        del levels_db
        self._now += len(scores) * self._frame
        return self._advance()

    def flush(self) -> list[Opened | Closed]:
        """Do nothing: the spans are known."""
        return []

    def clear(self) -> None:
        """Do nothing: the spans are known."""

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
    """Told while it goes: everything between two commits is one segment, cut only where it becomes too long."""

    flips = 0
    is_pausing = False  # nothing here says that the speaker does

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
        """Whether something was said since the last commit."""
        return self._start is not None

    @property
    def certain_end(self) -> int:
        """Everything belongs to the segment."""
        return self._now

    def push(self, scores: Samples, levels_db: Samples) -> list[Opened | Closed]:
        """Advance by (n,) frames; the scores are not looked at."""
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
        """End the segment: a commit."""
        events: list[Opened | Closed] = []
        self._close(events)
        return events

    def clear(self) -> None:
        """Forget what was said since the last commit."""
        self._start, self._was_cut = None, False

    def finish(self, received: int) -> list[Opened | Closed]:
        """End the session."""
        self._now = min(self._now, received)
        return self.flush()

    def _close(self, events: list[Opened | Closed], *, cut: bool = False) -> None:
        if self._start is None:
            return
        self.speech_samples += self._now - self._start
        segment = Segment(self._start, self._now, self._start, self._now, 1.0, cut)
        events.append(Closed(segment, self._now))
        self._start, self._was_cut = None, cut
