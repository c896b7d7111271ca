"""A job: one segment on its way through the pool, with everything needed to begin it again elsewhere."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Protocol

import numpy as np

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.workers import Decoded, Hypothesis, RecognizerSpec
from speechpipe.cascade.workers.messages import Feed, Finish, Open, Request
from speechpipe.types import SAMPLE_RATE_HZ, DecodeStats, NullCause, Samples, Transcript

AGAIN_S = 1.0
"""Audio that is fed again goes in pieces of this length, so that the streams beside it get their turns."""


def _ignore(_: Hypothesis) -> None:
    return None


class JobOwner(Protocol):
    """The pool as its jobs see it; every method may be called from any thread."""

    def feed(self, job: "Job", samples: Samples, *, pausing: bool) -> None:
        """Take (n,) float32 samples of a job."""
        ...

    def finish(self, job: "Job") -> None:
        """Note that the segment has ended."""
        ...

    def peek(self, job: "Job") -> bool:
        """Ask for a partial result; False if none can be had now."""
        ...

    def cancel(self, job: "Job") -> None:
        """Drop a job."""
        ...

    def give_up(self, job: "Job", cause: NullCause, detail: str) -> None:
        """End a job without a text if it has no terminal answer yet."""
        ...


class Job:
    """Handed out by `RecognizerPool.open`; its methods may be called from any thread.

    `future` gets exactly one `Decoded`, never an exception: a failure is a null transcript with its cause.
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
        self.worked_on = 0  # samples that the worker has said it is done with
        self.finished = False
        self.peeking = False
        self.said = False  # a partial result had words
        self.answered = False  # its future is resolved, or about to be
        self.attempts = 0
        self.strikes = 0  # workers that died or hung with this segment in hand
        self.outstanding = 0  # steps sent to the worker and not yet answered
        self.opened_at = time.monotonic()
        self.dispatched_at: float | None = None
        self.finished_at: float | None = None

    def tell_partials(self, on_partial: Callable[[Hypothesis], None]) -> None:
        """Have `on_partial` called with each partial result, on the thread that reads the worker's answers."""
        self.on_partial = on_partial

    def feed(self, samples: Samples, *, pausing: bool = False) -> None:
        """Take (n,) float32 samples at 16 kHz; `pausing`: the segment may end soon, so that they are urgent."""
        self._pool.feed(self, samples, pausing=pausing)

    def finish(self) -> "Future[Decoded]":
        """End the segment; the future resolves when its transcript is final."""
        self._pool.finish(self)
        return self.future

    def peek(self) -> bool:
        """Ask for a partial result, told to `on_partial`; False if none can be had now."""
        return self._pool.peek(self)

    def cancel(self) -> None:
        """Drop the segment: nobody waits for it any more."""
        self._pool.cancel(self)

    def give_up(self, cause: NullCause, detail: str) -> None:
        """End the segment without a text if it has no terminal answer yet."""
        self._pool.give_up(self, cause, detail)

    @property
    def audio_s(self) -> float:
        """Seconds fed so far."""
        return self.samples / SAMPLE_RATE_HZ

    @property
    def backlog_s(self) -> float:
        """Seconds fed and not yet worked on."""
        return 0.0 if self.future.done() else (self.samples - self.worked_on) / SAMPLE_RATE_HZ

    def carry_on(self, before: "Job") -> None:
        """Begin with what the session's segment before ended with; where that failed, with what it began with."""
        carried = before.options.carried
        if not before.future.cancelled():
            carried = before.future.result().carried or carried
        self.options = replace(self.options, carried=carried)

    def begin(self) -> list[Request]:
        """Return the requests that bring a worker up to date, and count the attempt."""
        self.attempts += 1
        self.worked_on, self.peeking = 0, False
        self.dispatched_at = time.monotonic()
        requests: list[Request] = [Open(self.number, self.spec, self.options)]
        if self.audio:
            self.audio = [np.concatenate(self.audio)]
            step = self.samples if self.options.whole else round(AGAIN_S * SAMPLE_RATE_HZ)
            requests += [
                Feed(self.number, self.audio[0][start : start + step]) for start in range(0, self.samples, step)
            ]
        if self.finished:
            requests.append(Finish(self.number))
        self.outstanding = len(requests)
        return requests

    def decoded(self, transcript: Transcript, cpu_s: float = 0.0, carried: str = "") -> Decoded:
        """Return the terminal answer, with how long it took."""
        now = time.monotonic()
        started = self.dispatched_at if self.dispatched_at is not None else now
        final_s = now - self.finished_at if self.finished_at is not None else 0.0
        stats = DecodeStats(started - self.opened_at, now - started, cpu_s, self.attempts, final_s)
        return Decoded(transcript, stats, carried)

    def failed(self, cause: NullCause, detail: str) -> Decoded:
        """Return the terminal answer of a job that has no text."""
        return self.decoded(Transcript.null(cause, detail))
