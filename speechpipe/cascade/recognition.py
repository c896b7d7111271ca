"""The recognizer's part of a session: sends segments to the workers and returns their utterances in order."""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from speechpipe.cascade.asr import HOTWORDS_LEFT, SHORTENED, DecodeOptions
from speechpipe.cascade.audio.features import FeatureAccumulator
from speechpipe.cascade.vad import Opened
from speechpipe.cascade.workers import Decoded, Hypothesis
from speechpipe.cascade.workers.job import Job
from speechpipe.types import (
    FAILURES,
    SAMPLE_RATE_HZ,
    Notice,
    NullCause,
    Samples,
    Segment,
    SessionSummary,
    Transcript,
    Utterance,
    Word,
)

OpenJob = Callable[[DecodeOptions, Job | None], Job]
OnUtterance = Callable[[Utterance], None]


class Listener(Protocol):
    """Callbacks of a live session, called on the thread that feeds it (`on_change`: on any thread)."""

    def on_opened(self, index: int, event: Opened) -> None:
        """The segment `index` begins."""
        ...

    def on_closed(self, index: int, segment: Segment, at: int) -> None:
        """A segment is complete, decided at sample `at`; its utterance follows."""
        ...

    def on_change(self) -> None:
        """An utterance may have become final, or a partial result has arrived."""
        ...


@dataclass
class PendingSegment:
    """A segment without an utterance yet. `segment` is set when it is closed."""

    index: int
    job: Job
    start: int  # position of its first sample
    fed: int  # position up to which samples were given to the recognizer
    features: FeatureAccumulator = field(default_factory=FeatureAccumulator)
    segment: Segment | None = None
    hypothesis: Hypothesis | None = None

    def feed(self, samples: Samples, *, endpoint_near: bool = False) -> None:
        """Give (n,) samples to the recognizer. `endpoint_near`: they are silence in a pause, see `Feed`."""
        if len(samples):
            self.features.feed(samples)
            self.job.feed(
                np.array(samples), endpoint_near=endpoint_near
            )  # copied: a view would keep the session's whole buffer alive
            self.fed += len(samples)


class SegmentDecoder:
    """Takes the segments of one session and returns their utterances in order. Used by one thread at a time."""

    def __init__(
        self,
        session_id: str,
        open_job: OpenJob,
        decode: DecodeOptions,
        on_utterance: OnUtterance,
        listener: Listener | None,
    ) -> None:
        self._session_id = session_id
        self._open_job = open_job
        self._decode = decode
        self._on_utterance = on_utterance
        self._listener = listener
        self.open: PendingSegment | None = None
        self.closed: deque[PendingSegment] = deque()
        self._ending: list[Job] = []  # jobs of closed segments, until `end_closed`
        self._last_job: Job | None = None
        self._begun = 0
        self.returned = 0
        self.in_utterances = 0  # samples
        self.nulls: Counter[NullCause] = Counter()
        self.recovered = self.shortened = 0
        self.hotwords_left = 0  # see `SessionSummary`
        self.cpu_s = self.spare_cpu_s = 0.0

    # ---- segments in ----

    def begin(self, event: Opened) -> None:
        """Open a job for a segment that begins."""
        # A live segment starts with the recognizer state of the previous one; an offline segment does not need it.
        before = None if self._decode.offline else self._last_job
        job = self._open_job(self._decode, before)
        self.open = pending = PendingSegment(self._begun, job, event.start, event.start)
        self._last_job = job
        self._begun += 1
        if (listener := self._listener) is not None:
            job.tell_partials(lambda hypothesis: _on_hypothesis(pending, hypothesis, listener))
            job.future.add_done_callback(lambda _: listener.on_change())
            listener.on_opened(pending.index, event)

    def close(self, segment: Segment, at: int) -> None:
        """Close the open segment, fed all of `segment` and decided at sample `at`. Then call `end_closed`."""
        assert self.open is not None
        pending, self.open = self.open, None
        self._ending.append(pending.job)
        pending.segment = segment
        self.closed.append(pending)
        self.in_utterances += segment.end - segment.start
        if self._listener is not None:
            self._listener.on_closed(pending.index, segment, at)

    def end_closed(self) -> None:
        """End the jobs of the segments that were closed since the last call, at once: they may be decoded together."""
        jobs, self._ending = self._ending, []
        if jobs:
            jobs[0].finish(*jobs[1:])

    def drop(self) -> None:
        """Cancel the open segment; it will have no utterance."""
        if self.open is not None:
            self.open.job.cancel()
            self.open = None
            self._begun -= 1

    def abort(self) -> None:
        """Cancel all segments: the client is gone."""
        for pending in self.pending:
            pending.job.cancel()
        self.closed.clear()
        self.open = None

    # ---- utterances out ----

    def completed(self) -> list[Utterance]:
        """Return the utterances that have become final, in order."""
        utterances = []
        while self.closed and self.closed[0].job.future.done():
            utterances.append(self._utterance(self.closed.popleft()))
        return utterances

    def wait(self, timeout_s: float | None = None) -> list[Utterance]:
        """Block until the next utterance is final, for `timeout_s` at most; return those that are final."""
        if self.closed:
            wait([self.closed[0].job.future], timeout_s, FIRST_COMPLETED)
        return self.completed()

    def next_future(self) -> "Future[Decoded] | None":
        """Return the future of the next utterance; None if no closed segment is waiting."""
        return self.closed[0].job.future if self.closed else None

    def _utterance(self, pending: PendingSegment) -> Utterance:
        segment, decoded = pending.segment, pending.job.future.result()
        assert segment is not None
        transcript = on_session_clock(decoded.transcript, segment)
        utterance = Utterance(
            id=f"{self._session_id}-{pending.index}",
            index=pending.index,
            segment=segment,
            transcript=transcript,
            features=pending.features.result(),
            stats=decoded.stats,
        )
        self.returned += 1
        self.cpu_s += decoded.stats.cpu_s
        self.spare_cpu_s += decoded.stats.spare_cpu_s
        if transcript.null_cause is not None:
            self.nulls[transcript.null_cause] += 1
        self.recovered += transcript.recovered
        self.shortened += bool(transcript.facts.get(SHORTENED))
        self.hotwords_left = max(self.hotwords_left, int(transcript.facts.get(HOTWORDS_LEFT, 0)))
        self._on_utterance(utterance)
        return utterance

    # ---- facts ----

    @property
    def pending(self) -> list[PendingSegment]:
        """Segments without an utterance, in order; the last may still be open."""
        return [*self.closed, *([self.open] if self.open is not None else [])]

    @property
    def waiting_s(self) -> float:
        """Seconds of audio in closed segments without an utterance."""
        return sum(pending.job.audio_s for pending in self.closed)

    @property
    def backlog_s(self) -> float:
        """Seconds of speech that no recognizer has taken yet."""
        return sum(pending.job.backlog_s for pending in self.pending)

    def late_s(self, now: float) -> float:
        """Return how far the recognizer is behind, in seconds: the backlog, or the longest wait for a decode."""
        return max([self.backlog_s, *(pending.job.late_s(now) for pending in self.pending)])


def _on_hypothesis(pending: PendingSegment, hypothesis: Hypothesis, listener: Listener) -> None:
    pending.hypothesis = hypothesis
    listener.on_change()


def on_session_clock(transcript: Transcript, segment: Segment) -> Transcript:
    """Return the transcript with word times on the session's clock, within the segment and not decreasing."""
    if not transcript.words:
        return transcript
    start, end = segment.start / SAMPLE_RATE_HZ, segment.end / SAMPLE_RATE_HZ
    words: list[Word] = []
    earliest = start
    for word in transcript.words:
        begin = min(max(start + word.start_s, earliest), end)
        finish = min(max(start + word.end_s, begin), end)
        words.append(replace(word, start_s=round(begin, 3), end_s=round(finish, 3)))
        earliest = finish
    return replace(transcript, words=tuple(words))


def text_notices(summaries: Iterable[SessionSummary]) -> list[Notice]:
    """Return notices about missing, recovered and shortened texts of these sessions."""
    nulls: Counter[NullCause] = Counter()
    recovered = shortened = left = 0
    for summary in summaries:
        left = max(left, summary.hotwords_left)
        nulls.update(summary.nulls)
        recovered += summary.recovered
        shortened += summary.shortened
    notices = [
        Notice(f"segments_lost_{cause.value}", f"{nulls[cause]} segments have no text: {cause.value}")
        for cause in sorted(FAILURES)
        if nulls[cause]
    ]
    if count := nulls[NullCause.WITHDRAWN]:
        message = f"{count} segments had words in partial results and none in the final result"
        notices.append(Notice("text_withdrawn", message))
    if recovered:
        message = f"{recovered} segments: the recognizer's last pass failed, the text is from the previous pass"
        notices.append(Notice("text_recovered", message))
    if shortened:
        message = f"{shortened} segments: the text repeated itself without end, and only its beginning was kept"
        notices.append(Notice("text_shortened", message))
    if left:
        notices.append(Notice("parameter_ignored", f"the recognizer has no room for {left} of the hotwords"))
    return notices
