"""A job: one segment in the pool, with everything needed to restart it on another worker."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, replace
from typing import Protocol

import numpy as np

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.workers import Decoded, Hypothesis, RecognizerSpec
from speechpipe.cascade.workers.messages import NO_EFFORT, Effort, Feed, Finish, Open, Step
from speechpipe.types import SAMPLE_RATE_HZ, DecodeStats, NullCause, Samples, Transcript

AGAIN_S = 1.0
"""Audio of a restarted live segment is sent in pieces of this length, so that other streams get their turns."""


def _ignore(_: Hypothesis) -> None:
    return None


class JobOwner(Protocol):
    """The pool as its jobs see it; every method may be called from any thread."""

    def feed(self, job: "Job", samples: Samples, *, endpoint_near: bool) -> None:
        """Take (n,) float32 samples of a job."""
        ...

    def finish(self, *jobs: "Job") -> None:
        """The segments have ended; they may be decoded together."""
        ...

    def request_partial(self, job: "Job") -> bool:
        """Ask for a partial result; False if that is not possible now."""
        ...

    def cancel(self, job: "Job") -> None:
        """Drop a job."""
        ...

    def give_up(self, job: "Job", cause: NullCause, detail: str) -> None:
        """Resolve a job without a text, unless it is resolved already."""
        ...


class Job:
    """One segment, returned by `RecognizerPool.open`. Thread-safe.

    `future` resolves to one `Decoded` and never to an exception: a failure is a null transcript with its cause.
    """

    def __init__(self, pool: JobOwner, number: int, session: str, spec: RecognizerSpec, options: DecodeOptions) -> None:
        self.number = number
        self.session = session
        self.spec = spec
        self.options = options
        self.future: Future[Decoded] = Future()
        self.on_partial: Callable[[Hypothesis], None] = _ignore  # see `tell_partials`
        self._pool = pool
        # Below: guarded by the pool's lock.
        self.audio: list[Samples] = []
        self.samples = 0
        self.worked_on = 0  # samples that the worker has processed
        self.finished = False
        self.partial_requested = False
        self.had_words = False  # a partial result had words
        self.buffered = False  # the recognizer decodes it at its end
        self.alone = False  # a worker died while it decoded this segment with others: the next decodes it alone
        self.answered = False  # its future is resolved, or about to be
        self.attempts = 0
        self.deaths = 0  # of workers that died while decoding this segment
        self.outstanding = 0  # steps sent to the worker and not yet answered
        self.opened_at = time.monotonic()
        self.dispatched_at: float | None = None
        self.finished_at: float | None = None

    def tell_partials(self, on_partial: Callable[[Hypothesis], None]) -> None:
        """Have `on_partial` called with each partial result, on the worker's reader thread."""
        self.on_partial = on_partial

    def feed(self, samples: Samples, *, endpoint_near: bool = False) -> None:
        """Take (n,) float32 samples at 16 kHz; with `endpoint_near` they are decoded before those of other segments."""
        self._pool.feed(self, samples, endpoint_near=endpoint_near)

    def finish(self, *others: "Job") -> "Future[Decoded]":
        """End the segment; the future resolves when its transcript is final.

        `others`: further segments of the session that end at the same moment, so that one worker can decode them
        together.
        """
        self._pool.finish(self, *others)
        return self.future

    def request_partial(self) -> bool:
        """Ask for a partial result, which is passed to `on_partial`; False if that is not possible now."""
        return self._pool.request_partial(self)

    def cancel(self) -> None:
        """Drop the segment; its future is cancelled."""
        self._pool.cancel(self)

    def give_up(self, cause: NullCause, detail: str) -> None:
        """Resolve the segment without a text, unless it is resolved already."""
        self._pool.give_up(self, cause, detail)

    @property
    def audio_s(self) -> float:
        """Seconds of audio fed so far."""
        return self.samples / SAMPLE_RATE_HZ

    @property
    def backlog_s(self) -> float:
        """Seconds of audio fed and not taken by the recognizer yet."""
        return 0.0 if self.future.done() else (self.samples - self.worked_on) / SAMPLE_RATE_HZ

    @property
    def undecoded_s(self) -> float:
        """Seconds of audio that wait for a decode: of a buffered segment all of it, once it has ended."""
        return self.backlog_s if not (self.buffered and self.finished) or self.future.done() else self.audio_s

    def late_s(self, now: float) -> float:
        """Return how far the recognizer is behind, in seconds; `now` is of time.monotonic().

        It is the backlog, or of a buffered segment the time since its end, because its audio is taken at once.
        """
        if not self.buffered or self.finished_at is None or self.future.done():
            return self.backlog_s
        return max(self.backlog_s, now - self.finished_at)

    def take_context(self, before: "Job") -> None:
        """Start with the recognizer state after the previous segment; if that failed, with the state before it."""
        context = before.options.context
        if not before.future.cancelled():
            context = before.future.result().context or context
        self.options = replace(self.options, context=context)

    def begin(self) -> list[Step]:
        """Count an attempt, and return the requests that start the segment on a worker with all audio so far."""
        self.attempts += 1
        self.worked_on, self.partial_requested = 0, False
        self.dispatched_at = time.monotonic()
        requests: list[Step] = [Open(self.number, self.spec, self.options)]
        if self.audio:
            self.audio = [np.concatenate(self.audio)]
            step = self.samples if self.options.offline else round(AGAIN_S * SAMPLE_RATE_HZ)
            requests += [
                Feed(self.number, self.audio[0][start : start + step]) for start in range(0, self.samples, step)
            ]
        if self.finished:
            requests.append(Finish(self.number))
        self.outstanding = len(requests)
        return requests

    def decoded(self, transcript: Transcript, effort: Effort = NO_EFFORT, context: str = "") -> Decoded:
        """Return the final result, with its times."""
        now = time.monotonic()
        started = self.dispatched_at if self.dispatched_at is not None else now
        final_s = now - self.finished_at if self.finished_at is not None else 0.0
        stats = DecodeStats(
            queue_s=started - self.opened_at,
            wall_s=now - started,
            attempts=self.attempts,
            final_s=final_s,
            **asdict(effort),
        )
        return Decoded(transcript, stats, context)

    def failed(self, cause: NullCause, detail: str) -> Decoded:
        """Return the final result of a job without a text."""
        return self.decoded(Transcript.null(cause, detail))
