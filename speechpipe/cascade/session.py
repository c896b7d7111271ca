"""One session of the cascade. Upload, websocket and command line all walk `feed` and `finish`.

    samples -> frames -> VAD scores -> segmenter -> recognizer job -> utterance

A session belongs to one thread at a time; only its jobs' futures are resolved from elsewhere. Here is the audio and
the VAD; the recognizer's half is `recognition.py`.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.audio.features import FeatureAccumulator, frame_levels_db
from speechpipe.cascade.recognition import Listener, OnUtterance, OpenJob, PendingSegment, SegmentDecoder
from speechpipe.cascade.vad import Closed, Opened, Segmenting, Vad
from speechpipe.cascade.workers import Decoded
from speechpipe.errors import StageFailed
from speechpipe.types import SAMPLE_RATE_HZ, Accounting, Samples, SessionSummary, Utterance

VAD_BLOCK_FRAMES = 512


class Tap(Protocol):
    """Whoever keeps a session's audio; never raises."""

    def feed(self, samples: Samples) -> None:
        """Take (n,) samples."""
        ...

    def close(self) -> None:
        """Note that no more come."""
        ...


class Taps:
    """Several as one."""

    def __init__(self, taps: Sequence[Tap]) -> None:
        self._taps = taps

    def feed(self, samples: Samples) -> None:
        """Give (n,) samples to each."""
        for tap in self._taps:
            tap.feed(samples)

    def close(self) -> None:
        """Tell each."""
        for tap in self._taps:
            tap.close()


@dataclass(frozen=True)
class SessionOptions:
    """What a session is made of."""

    id: str
    vad: Vad
    segmenter: Segmenting
    open_job: OpenJob
    decode: DecodeOptions = DecodeOptions()
    max_pending_s: float = 120.0  # audio in closed segments that wait for a recognizer; then `feed` waits
    feed_step: int = 0  # samples that the recognizer is given at once, at least; fewer only at a segment's end
    listener: Listener | None = None
    tap: Tap | None = None  # is given all audio too


class Session:
    """One stream of audio through one bundle."""

    def __init__(self, options: SessionOptions, on_utterance: OnUtterance = lambda _: None) -> None:
        self.id = options.id
        self._options = options
        self._vad = options.vad.open()
        self._frame = options.vad.frame_samples
        self._segmenter = options.segmenter
        self._hearing = SegmentDecoder(options.id, options.open_job, options.decode, on_utterance, options.listener)
        self._features = FeatureAccumulator()
        self._audio: Samples = np.zeros(0, np.float32)  # received, still needed
        self._base = 0  # position of its first sample
        self._scored = 0
        self._received = 0
        self._vad_wall_s = self._vad_cpu_s = 0.0
        self._spoken_before = 0  # samples of speech found by segmenters that were replaced
        self._flips_before = 0
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
            if self._options.tap is not None:
                self._options.tap.feed(samples)
            self._audio = np.concatenate([self._audio, samples]) if len(self._audio) else samples
            self._score_whole_frames()
        utterances = self._hearing.completed()
        while self._hearing.waiting_s > self._options.max_pending_s:
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
            if self._options.tap is not None:
                self._options.tap.close()
        return self._hearing.completed()

    def flush(self) -> list[Utterance]:
        """End the open segment now, whatever may follow; its utterance comes as always."""
        self._act(self._segmenter.flush())
        self._forget()
        return self._hearing.completed()

    def segment_by(self, segmenter: Segmenting) -> list[Utterance]:
        """Go on with another segmenter, which must begin at `scored`; an open segment is ended.

        Returns what has become final meanwhile, as `flush` does.
        """
        utterances = self.flush()
        self._spoken_before += self._segmenter.speech_samples
        self._flips_before += self._segmenter.flips
        self._segmenter = segmenter
        return utterances

    @property
    def position(self) -> int:
        """Samples received."""
        return self._received

    @property
    def scored(self) -> int:
        """Samples that the VAD has seen."""
        return self._scored

    @property
    def is_open(self) -> bool:
        """Whether a segment is being spoken."""
        return self._hearing.open is not None

    def clear(self) -> None:
        """Forget the open segment: it will have no utterance."""
        self._hearing.drop()
        self._segmenter.clear()
        self._forget()

    def peek(self) -> bool:
        """Ask for a partial result of the open segment; the listener is told when it is there."""
        return self._hearing.open is not None and self._hearing.open.job.peek()

    def wait(self, timeout_s: float | None = None) -> list[Utterance]:
        """Block until the next utterance is final (or the time is up); return those that are, in order."""
        return self._hearing.wait(timeout_s)

    def completed(self) -> list[Utterance]:
        """Return the utterances that have become final since the last call of anything, in order."""
        return self._hearing.completed()

    def abort(self) -> None:
        """Drop everything in progress: whoever listened has gone."""
        self._hearing.abort()
        if self._options.tap is not None:
            self._options.tap.close()

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
                self._hearing.begin(event)
            elif self._hearing.open is not None:
                self._close(self._hearing.open, event)
        if (spoken := self._hearing.open) is not None:
            until = self._segmenter.certain_end
            if until - spoken.fed >= self._options.feed_step:
                self._feed(spoken, until, pausing=self._segmenter.is_pausing)

    def _close(self, spoken: PendingSegment, event: Closed) -> None:
        # The last frame is filled up with zeros: what was decided beyond the last sample never was audio.
        segment = event.segment
        end = min(segment.end, self._received)
        if end <= segment.start:
            self._hearing.drop()
            return
        self._feed(spoken, end)
        segment = replace(segment, end=end, speech_end=min(segment.speech_end, end))
        self._hearing.close(segment, min(event.at, self._received))

    def _feed(self, spoken: PendingSegment, until: int, *, pausing: bool = False) -> None:
        start, until = spoken.fed, min(until, self._received)
        if until > start:
            spoken.feed(self._audio[start - self._base : until - self._base], pausing=pausing)

    def _forget(self) -> None:
        """Drop audio that no segment can need any more."""
        spoken = self._hearing.open
        needed = min(spoken.fed if spoken is not None else self._segmenter.settled, self._scored)
        if needed > self._base:
            self._audio = self._audio[needed - self._base :]
            self._base = needed

    # ---- facts ----

    @property
    def done(self) -> bool:
        """Whether every utterance has been returned."""
        return self._finished and not self._hearing.closed

    def next_future(self) -> "Future[Decoded] | None":
        """The future that the next utterance waits for; None if none is on its way."""
        return self._hearing.next_future()

    @property
    def pending(self) -> list[PendingSegment]:
        """Segments that have no utterance yet, in order; the last may still be open."""
        return self._hearing.pending

    @property
    def backlog_s(self) -> float:
        """Seconds of speech that no recognizer has worked on yet."""
        return self._hearing.backlog_s

    @property
    def settled(self) -> int:
        """Samples up to here will never be part of another segment than those that were closed."""
        if self._finished:
            return self._received
        if self._hearing.open is not None:
            return self._hearing.open.start
        return min(self._segmenter.settled, self._received)

    @property
    def accounting(self) -> Accounting:
        """Where every received sample went; balanced at any moment."""
        decided, in_utterances = self.settled, self._hearing.in_utterances
        return Accounting(
            received=self._received,
            in_utterances=in_utterances,
            dropped_by_vad=decided - in_utterances,
            dropped_by_overload=0,
            pending=self._received - decided,
        )

    def summary(self) -> SessionSummary:
        """Return what the session did so far."""
        return SessionSummary(
            id=self.id,
            accounting=self.accounting,
            features=self._features.result(),
            utterances=self._hearing.returned,
            nulls=dict(self._hearing.nulls),
            speech_s=(self._spoken_before + self._segmenter.speech_samples) / SAMPLE_RATE_HZ,
            vad_wall_s=self._vad_wall_s,
            vad_cpu_s=self._vad_cpu_s,
            asr_cpu_s=self._hearing.cpu_s,
            flips=self._flips_before + self._segmenter.flips,
            recovered=self._hearing.recovered,
        )
