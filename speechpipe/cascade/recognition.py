"""The recognizer's half of a session: segments on their way through the workers, and the utterances they become."""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from speechpipe.cascade.asr import DecodeOptions
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
    """Whoever follows a live session: told at once, on the thread that feeds it (`on_change`: on any)."""

    def on_opened(self, index: int, event: Opened) -> None:
        """Note that the segment `index` begins."""
        ...

    def on_closed(self, index: int, segment: Segment, at: int) -> None:
        """Note that a segment is complete, decided at sample `at`; its utterance follows."""
        ...

    def on_change(self) -> None:
        """Note that an utterance may be final or a partial result is there."""
        ...


@dataclass
class PendingSegment:
    """One segment on its way. `segment` is set when it is closed."""

    index: int
    job: Job
    start: int  # its first sample
    fed: int  # samples up to here were given to the recognizer
    features: FeatureAccumulator = field(default_factory=FeatureAccumulator)
    segment: Segment | None = None
    hypothesis: Hypothesis | None = None

    def feed(self, samples: Samples, *, pausing: bool = False) -> None:
        """Give (n,) samples to the recognizer, ahead of others' if the speaker pauses."""
        if len(samples):
            self.features.feed(samples)
            self.job.feed(
                np.array(samples), pausing=pausing
            )  # copied: a view would keep the session's whole buffer alive
            self.fed += len(samples)


class SegmentDecoder:
    """Segments in, utterances out, in order."""

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
        self._last_job: Job | None = None
        self._begun = 0
        self.returned = 0
        self.in_utterances = 0  # samples
        self.nulls: Counter[NullCause] = Counter()
        self.recovered = 0
        self.cpu_s = 0.0

    # ---- segments in ----

    def begin(self, event: Opened) -> None:
        """Open a recognizer's stream for the speech that began."""
        # A live segment begins with what the one before has taught the recognizer; a whole one has no need to.
        before = None if self._decode.whole else self._last_job
        job = self._open_job(self._decode, before)
        self.open = spoken = PendingSegment(self._begun, job, event.start, event.start)
        self._last_job = job
        self._begun += 1
        if (listener := self._listener) is not None:
            job.tell_partials(lambda hypothesis: _heard(spoken, hypothesis, listener))
            job.future.add_done_callback(lambda _: listener.on_change())
            listener.on_opened(spoken.index, event)

    def close(self, segment: Segment, at: int) -> None:
        """End the open stream, which has been fed all of `segment`."""
        assert self.open is not None
        spoken, self.open = self.open, None
        spoken.job.finish()
        spoken.segment = segment
        self.closed.append(spoken)
        self.in_utterances += segment.end - segment.start
        if self._listener is not None:
            self._listener.on_closed(spoken.index, segment, at)

    def drop(self) -> None:
        """Forget the open segment: it will have no utterance."""
        if self.open is not None:
            self.open.job.cancel()
            self.open = None
            self._begun -= 1

    def abort(self) -> None:
        """Drop everything: whoever listened has gone."""
        for spoken in self.pending:
            spoken.job.cancel()
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
        """Block until the next utterance is final (or the time is up); return those that are."""
        if self.closed:
            wait([self.closed[0].job.future], timeout_s, FIRST_COMPLETED)
        return self.completed()

    def next_future(self) -> "Future[Decoded] | None":
        """The future that the next utterance waits for; None if none is on its way."""
        return self.closed[0].job.future if self.closed else None

    def _utterance(self, spoken: PendingSegment) -> Utterance:
        segment, decoded = spoken.segment, spoken.job.future.result()
        assert segment is not None
        transcript = on_session_clock(decoded.transcript, segment)
        utterance = Utterance(
            id=f"{self._session_id}-{spoken.index}",
            index=spoken.index,
            segment=segment,
            transcript=transcript,
            features=spoken.features.result(),
            stats=decoded.stats,
        )
        self.returned += 1
        self.cpu_s += decoded.stats.cpu_s
        if transcript.null_cause is not None:
            self.nulls[transcript.null_cause] += 1
        self.recovered += transcript.recovered
        self._on_utterance(utterance)
        return utterance

    # ---- facts ----

    @property
    def pending(self) -> list[PendingSegment]:
        """Segments that have no utterance yet, in order; the last may still be open."""
        return [*self.closed, *([self.open] if self.open is not None else [])]

    @property
    def waiting_s(self) -> float:
        """Seconds of audio in closed segments that have no utterance yet."""
        return sum(spoken.job.audio_s for spoken in self.closed)

    @property
    def backlog_s(self) -> float:
        """Seconds of speech that no recognizer has worked on yet."""
        return sum(spoken.job.backlog_s for spoken in self.pending)


def _heard(spoken: PendingSegment, hypothesis: Hypothesis, listener: Listener) -> None:
    spoken.hypothesis = hypothesis
    listener.on_change()


def on_session_clock(transcript: Transcript, segment: Segment) -> Transcript:
    """Move word times from the segment's clock to the session's; never outside the segment, never backwards."""
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
    """Return what a client should know of the texts of these sessions: which are missing, which are second best."""
    nulls: Counter[NullCause] = Counter()
    recovered = 0
    for summary in summaries:
        nulls.update(summary.nulls)
        recovered += summary.recovered
    notices = [
        Notice(f"segments_lost_{cause.value}", f"{nulls[cause]} segments have no text: {cause.value}")
        for cause in sorted(FAILURES)
        if nulls[cause]
    ]
    if count := nulls[NullCause.WITHDRAWN]:
        notices.append(Notice("text_withdrawn", f"{count} segments had words in partial results and none in the end"))
    if recovered:
        message = f"{recovered} segments: the recognizer's last pass failed, the text is from the pass before"
        notices.append(Notice("text_recovered", message))
    return notices
