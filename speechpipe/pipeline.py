"""THE HEART: one session of the cascade. Upload, websocket and command line all walk `feed` and `finish`.

    samples -> frames -> VAD scores -> segmenter -> recognizer job -> utterance

A session belongs to one thread at a time; only its jobs' futures are resolved from elsewhere.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace

import numpy as np

from speechpipe.asr import DecodeOptions
from speechpipe.audio.features import FeatureAccumulator, frame_levels_db
from speechpipe.errors import StageFailed
from speechpipe.types import (
    SAMPLE_RATE_HZ,
    Accounting,
    NullCause,
    Samples,
    Segment,
    SessionSummary,
    Transcript,
    Utterance,
    Word,
)
from speechpipe.vad import Vad
from speechpipe.vad.segmenter import Closed, FixedSegments, Opened, Segmenter
from speechpipe.workers import Decoded
from speechpipe.workers.job import Job

VAD_BLOCK_FRAMES = 512

OpenJob = Callable[[DecodeOptions], Job]
OnUtterance = Callable[[Utterance], None]


@dataclass(frozen=True)
class SessionOptions:
    """What a session is made of."""

    id: str
    vad: Vad
    segmenter: Segmenter | FixedSegments
    open_job: OpenJob
    decode: DecodeOptions = DecodeOptions()
    max_pending_s: float = 120.0  # audio in closed segments that wait for a recognizer; then `feed` waits


class _Spoken:
    """A segment on its way: its job, its features, how far it was fed."""

    def __init__(self, job: Job, start: int) -> None:
        self.job = job
        self.fed = start
        self.features = FeatureAccumulator()

    def feed(self, samples: Samples) -> None:
        if len(samples):
            self.features.feed(samples)
            self.job.feed(samples)
            self.fed += len(samples)


class Session:
    """One stream of audio through one bundle."""

    def __init__(self, options: SessionOptions, on_utterance: OnUtterance = lambda _: None) -> None:
        self.id = options.id
        self._options = options
        self._on_utterance = on_utterance
        self._vad = options.vad.open()
        self._frame = options.vad.frame_samples
        self._segmenter = options.segmenter
        self._features = FeatureAccumulator()
        self._audio: Samples = np.zeros(0, np.float32)  # received, still needed
        self._base = 0  # position of its first sample
        self._scored = 0
        self._received = 0
        self._open: _Spoken | None = None
        self._closed: deque[tuple[Segment, _Spoken]] = deque()
        self._index = 0
        self._in_utterances = 0
        self._nulls: Counter[NullCause] = Counter()
        self._vad_wall_s = self._vad_cpu_s = self._asr_cpu_s = 0.0
        self._finished = False

    # ---- audio in ----

    def feed(self, samples: Samples) -> list[Utterance]:
        """Take (n,) float32 samples at 16 kHz; return the utterances that have become final, in order.

        Waits only while more than `max_pending_s` seconds wait for a recognizer.

        Raises:
            StageFailed: the VAD broke.
        """
        assert not self._finished, "feed after finish"
        if len(samples):
            self._received += len(samples)
            self._features.feed(samples)
            self._audio = np.concatenate([self._audio, samples]) if len(self._audio) else samples
            self._score_whole_frames()
        utterances = self._completed()
        while self._pending_s() > self._options.max_pending_s:
            utterances += self.wait()
        return utterances

    def finish(self) -> list[Utterance]:
        """End the audio: score what is left, close what is open. Then `wait` until `done`."""
        if not self._finished:
            rest = self._received - self._scored
            if rest:
                last = np.zeros(self._frame, np.float32)
                last[:rest] = self._audio[self._scored - self._base :]
                self._score(last.reshape(1, -1))
            self._act(self._segmenter.finish(self._received))
            self._finished = True
        return self._completed()

    def wait(self, timeout_s: float | None = None) -> list[Utterance]:
        """Block until the next utterance is final (or the time is up); return those that are, in order."""
        if self._closed:
            wait([self._closed[0][1].job.future], timeout_s, FIRST_COMPLETED)
        return self._completed()

    def abort(self) -> None:
        """Drop everything in progress: whoever listened has gone."""
        jobs = [spoken.job for _, spoken in self._closed]
        if self._open is not None:
            jobs.append(self._open.job)
        for job in jobs:
            job.cancel()
        self._closed.clear()
        self._open = None

    # ---- the walk ----

    def _score_whole_frames(self) -> None:
        block = VAD_BLOCK_FRAMES * self._frame
        while self._received - self._scored >= self._frame:
            start = self._scored - self._base
            count = min(block, (self._received - self._scored) // self._frame * self._frame)
            self._score(self._audio[start : start + count].reshape(-1, self._frame))
            self._forget()

    def _score(self, frames: Samples) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            scores = self._vad.probabilities(frames)
        except Exception as error:
            raise StageFailed("vad", f"{type(error).__name__}: {error}") from error
        if scores.shape != (len(frames),) or not np.isfinite(scores).all():
            raise StageFailed("vad", f"scores of shape {scores.shape} for {len(frames)} frames, or not finite")
        events = self._segmenter.push(scores, frame_levels_db(frames))
        self._vad_wall_s += time.perf_counter() - wall
        self._vad_cpu_s += time.thread_time() - cpu
        self._scored = min(self._scored + frames.size, self._received)
        self._act(events)

    def _act(self, events: list[Opened | Closed]) -> None:
        for event in events:
            if isinstance(event, Opened):
                self._open = _Spoken(self._options.open_job(self._options.decode), event.start)
            elif self._open is not None:
                self._close(self._open, event.segment)
                self._open = None
        if self._open is not None:
            self._feed_open(self._segmenter.certain_end)

    def _close(self, spoken: _Spoken, segment: Segment) -> None:
        # The last frame is filled up with zeros: what was decided beyond the last sample never was audio.
        end = min(segment.end, self._received)
        if end <= segment.start:
            spoken.job.cancel()
            return
        self._feed_open(end)
        spoken.job.finish()
        self._closed.append((replace(segment, end=end, speech_end=min(segment.speech_end, end)), spoken))
        self._in_utterances += end - segment.start

    def _feed_open(self, until: int) -> None:
        assert self._open is not None
        start, until = self._open.fed, min(until, self._received)
        if until > start:
            self._open.feed(self._audio[start - self._base : until - self._base])

    def _forget(self) -> None:
        """Drop audio that no segment can need any more."""
        needed = min(self._open.fed if self._open is not None else self._segmenter.settled, self._scored)
        if needed > self._base:
            self._audio = self._audio[needed - self._base :]
            self._base = needed

    # ---- utterances out ----

    @property
    def done(self) -> bool:
        """Whether every utterance has been returned."""
        return self._finished and not self._closed

    def next_future(self) -> "Future[Decoded] | None":
        """The future that the next utterance waits for; None if none is on its way."""
        return self._closed[0][1].job.future if self._closed else None

    def _pending_s(self) -> float:
        return sum(segment.duration_s for segment, _ in self._closed)

    def _completed(self) -> list[Utterance]:
        utterances = []
        while self._closed and self._closed[0][1].job.future.done():
            segment, spoken = self._closed.popleft()
            utterances.append(self._utterance(segment, spoken))
        return utterances

    def _utterance(self, segment: Segment, spoken: _Spoken) -> Utterance:
        decoded = spoken.job.future.result()
        transcript = _on_session_clock(decoded.transcript, segment)
        utterance = Utterance(
            id=f"{self.id}-{self._index}",
            index=self._index,
            segment=segment,
            transcript=transcript,
            features=spoken.features.result(),
            stats=decoded.stats,
        )
        self._index += 1
        self._asr_cpu_s += decoded.stats.cpu_s
        if transcript.null_cause is not None:
            self._nulls[transcript.null_cause] += 1
        self._on_utterance(utterance)
        return utterance

    # ---- facts ----

    @property
    def accounting(self) -> Accounting:
        """Where every received sample went; balanced at any moment."""
        if self._finished:
            decided = self._received
        elif self._segmenter.is_open and self._open is not None:
            decided = self._open_start()
        else:
            decided = min(self._segmenter.settled, self._received)
        return Accounting(
            received=self._received,
            in_utterances=self._in_utterances,
            dropped_by_vad=decided - self._in_utterances,
            dropped_by_overload=0,
            pending=self._received - decided,
        )

    def _open_start(self) -> int:
        assert self._open is not None
        return self._open.fed - self._open.job.samples

    def summary(self) -> SessionSummary:
        """Return what the session did so far."""
        return SessionSummary(
            id=self.id,
            accounting=self.accounting,
            features=self._features.result(),
            utterances=self._index,
            nulls=dict(self._nulls),
            speech_s=self._segmenter.speech_samples / SAMPLE_RATE_HZ,
            vad_wall_s=self._vad_wall_s,
            vad_cpu_s=self._vad_cpu_s,
            asr_cpu_s=self._asr_cpu_s,
        )


def _on_session_clock(transcript: Transcript, segment: Segment) -> Transcript:
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
