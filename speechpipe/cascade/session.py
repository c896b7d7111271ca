"""One session of the cascade, used by uploads, websockets and the command line alike through `feed` and `finish`.

    samples -> frames -> VAD scores -> segmenter -> recognizer job -> utterance

A session is used by one thread at a time; the futures of its jobs are resolved on other threads. This module has the
audio and the VAD; `recognition.py` has the recognizer's part.
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
    """Receives a copy of a session's audio, on the session's thread; must not raise."""

    def feed(self, samples: Samples) -> None:
        """Take (n,) samples at 16 kHz."""
        ...

    def close(self) -> None:
        """The audio has ended."""
        ...


class Taps:
    """Several taps as one."""

    def __init__(self, taps: Sequence[Tap]) -> None:
        self._taps = taps

    def feed(self, samples: Samples) -> None:
        """Give (n,) samples to each tap."""
        for tap in self._taps:
            tap.feed(samples)

    def close(self) -> None:
        """Close each tap."""
        for tap in self._taps:
            tap.close()


@dataclass(frozen=True)
class SessionOptions:
    """Parts and limits of a session."""

    id: str
    vad: Vad
    segmenter: Segmenting
    open_job: OpenJob
    decode: DecodeOptions = DecodeOptions()
    max_pending_s: float = 120.0  # `feed` waits while more audio than this waits for a recognizer
    feed_step: int = 0  # least samples given to the recognizer at once, except at a segment's end
    listener: Listener | None = None
    tap: Tap | None = None  # receives a copy of all audio


class Session:
    """One stream of audio through one bundle. Used by one thread at a time."""

    def __init__(self, options: SessionOptions, on_utterance: OnUtterance = lambda _: None) -> None:
        self.id = options.id
        self._options = options
        self._vad = options.vad.open()
        self._frame = options.vad.frame_samples
        self._segmenter = options.segmenter
        self._decoder = SegmentDecoder(options.id, options.open_job, options.decode, on_utterance, options.listener)
        self._features = FeatureAccumulator()
        self._audio: Samples = np.zeros(0, np.float32)  # received audio that is still needed
        self._base = 0  # position of the first sample of `_audio`
        self._scored = 0
        self._received = 0
        self._vad_wall_s = self._vad_cpu_s = 0.0
        self._speech_before = 0  # samples of speech found by earlier segmenters, see `segment_by`
        self._flips_before = 0
        self._finished = False

    # ---- audio in ----

    def feed(self, samples: Samples) -> list[Utterance]:
        """Take (n,) float32 samples at 16 kHz; return the utterances that have become final, in order.

        Blocks only while more than `max_pending_s` seconds of audio wait for a recognizer.

        Raises:
            StageFailed: the VAD raised, or returned invalid scores.
        """
        assert not self._finished, "feed after finish"
        if len(samples):
            self._received += len(samples)
            self._features.feed(samples)
            if self._options.tap is not None:
                self._options.tap.feed(samples)
            self._audio = np.concatenate([self._audio, samples]) if len(self._audio) else samples
            self._score_whole_frames()
        utterances = self._decoder.completed()
        while self._decoder.waiting_s > self._options.max_pending_s:
            utterances += self.wait()
        return utterances

    def finish(self) -> list[Utterance]:
        """End the audio: score the remaining samples and close the open segment. Then call `wait` until `done`.

        Raises:
            StageFailed: as `feed`.
        """
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
        return self._decoder.completed()

    def flush(self) -> list[Utterance]:
        """End the open segment now, without waiting for silence; return the utterances that have become final."""
        self._act(self._segmenter.flush())
        self._forget()
        return self._decoder.completed()

    def segment_by(self, segmenter: Segmenting) -> list[Utterance]:
        """End the open segment and continue with another segmenter, which must begin at `scored`.

        Returns the utterances that have become final, as `flush` does.
        """
        utterances = self.flush()
        self._speech_before += self._segmenter.speech_samples
        self._flips_before += self._segmenter.flips
        self._segmenter = segmenter
        return utterances

    @property
    def position(self) -> int:
        """Samples received."""
        return self._received

    @property
    def scored(self) -> int:
        """Samples that the VAD has scored."""
        return self._scored

    @property
    def is_open(self) -> bool:
        """Whether a segment is open."""
        return self._decoder.open is not None

    def clear(self) -> None:
        """Cancel the open segment; it will have no utterance."""
        self._decoder.drop()
        self._segmenter.clear()
        self._forget()

    def request_partial(self) -> bool:
        """Ask for a partial result of the open segment, announced by `Listener.on_change`; False if not possible."""
        return self._decoder.open is not None and self._decoder.open.job.request_partial()

    def wait(self, timeout_s: float | None = None) -> list[Utterance]:
        """Block until the next utterance is final, for `timeout_s` at most; return those that are final, in order."""
        return self._decoder.wait(timeout_s)

    def completed(self) -> list[Utterance]:
        """Return the utterances that have become final and were not returned yet, in order."""
        return self._decoder.completed()

    def abort(self) -> None:
        """Cancel everything in progress: the client is gone."""
        self._decoder.abort()
        if self._options.tap is not None:
            self._options.tap.close()

    # ---- VAD and segmentation ----

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
                self._decoder.begin(event)
            elif self._decoder.open is not None:
                self._close(self._decoder.open, event)
        self._decoder.end_closed()
        if (pending := self._decoder.open) is not None:
            self._feed_certain(pending)

    def _feed_certain(self, pending: PendingSegment) -> None:
        """Feed what certainly belongs to the open segment: at least `feed_step` samples, or when a live pause begins.

        Silence in a pause is fed apart from speech, so that the recognizer knows whether anything was said since.
        """
        until, speech_end = self._segmenter.certain_end, self._segmenter.speech_end
        pauses = self._segmenter.endpoint_near and not self._options.decode.offline
        if until - pending.fed < self._options.feed_step and not (pauses and pending.fed <= speech_end):
            return
        if pauses:
            self._feed(pending, min(until, speech_end))
        self._feed(pending, until, endpoint_near=pauses)

    def _close(self, pending: PendingSegment, event: Closed) -> None:
        # The last frame is padded with zeros, so a segment may end beyond the last received sample.
        segment = event.segment
        end = min(segment.end, self._received)
        if end <= segment.start:
            self._decoder.drop()
            return
        self._feed(pending, end, endpoint_near=pending.fed >= segment.speech_end)
        segment = replace(segment, end=end, speech_end=min(segment.speech_end, end))
        self._decoder.close(segment, min(event.at, self._received))

    def _feed(self, pending: PendingSegment, until: int, *, endpoint_near: bool = False) -> None:
        start, until = pending.fed, min(until, self._received)
        if until > start:
            pending.feed(self._audio[start - self._base : until - self._base], endpoint_near=endpoint_near)

    def _forget(self) -> None:
        """Drop audio that no segment needs any more."""
        pending = self._decoder.open
        needed = min(pending.fed if pending is not None else self._segmenter.settled, self._scored)
        if needed > self._base:
            self._audio = self._audio[needed - self._base :]
            self._base = needed

    # ---- facts ----

    @property
    def done(self) -> bool:
        """Whether every utterance has been returned."""
        return self._finished and not self._decoder.closed

    def next_future(self) -> "Future[Decoded] | None":
        """Return the future of the next utterance; None if no closed segment is waiting."""
        return self._decoder.next_future()

    @property
    def pending(self) -> list[PendingSegment]:
        """Segments without an utterance, in order; the last may still be open."""
        return self._decoder.pending

    @property
    def backlog_s(self) -> float:
        """Seconds of speech that no recognizer has taken yet."""
        return self._decoder.backlog_s

    @property
    def waiting_s(self) -> float:
        """Seconds of audio in ended segments whose utterance was not returned yet."""
        return self._decoder.waiting_s

    def late_s(self, now: float) -> float:
        """Return how far the recognizer is behind, in seconds (see `Job.late_s`)."""
        return self._decoder.late_s(now)

    @property
    def settled(self) -> int:
        """Position before which no further segment can begin."""
        if self._finished:
            return self._received
        if self._decoder.open is not None:
            return self._decoder.open.start
        return min(self._segmenter.settled, self._received)

    @property
    def accounting(self) -> Accounting:
        """Where every received sample went; always balanced."""
        decided, in_utterances = self.settled, self._decoder.in_utterances
        return Accounting(
            received=self._received,
            in_utterances=in_utterances,
            dropped_by_vad=decided - in_utterances,
            dropped_by_overload=0,
            pending=self._received - decided,
        )

    def summary(self) -> SessionSummary:
        """Return the totals of the session so far."""
        return SessionSummary(
            id=self.id,
            accounting=self.accounting,
            features=self._features.result(),
            utterances=self._decoder.returned,
            nulls=dict(self._decoder.nulls),
            speech_s=(self._speech_before + self._segmenter.speech_samples) / SAMPLE_RATE_HZ,
            vad_wall_s=self._vad_wall_s,
            vad_cpu_s=self._vad_cpu_s,
            asr_cpu_s=self._decoder.cpu_s,
            asr_spare_cpu_s=self._decoder.spare_cpu_s,
            flips=self._flips_before + self._segmenter.flips,
            recovered=self._decoder.recovered,
            shortened=self._decoder.shortened,
            hotwords_left=self._decoder.hotwords_left,
        )
