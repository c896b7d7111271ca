"""A job: one segment on its way through the pool, with everything needed to begin it again elsewhere."""

import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

import numpy as np

from speechpipe.asr import DecodeOptions
from speechpipe.types import SAMPLE_RATE_HZ, DecodeStats, NullCause, Samples, Transcript
from speechpipe.workers import Decoded, RecognizerSpec
from speechpipe.workers.messages import Feed, Finish, Open, Request

if TYPE_CHECKING:
    from speechpipe.workers.pool import RecognizerPool


class Job:
    """Handed out by `RecognizerPool.open`; its methods may be called from any thread.

    `future` gets exactly one `Decoded`, never an exception: a failure is a null transcript with its cause.
    """

    def __init__(
        self, pool: "RecognizerPool", number: int, session: str, spec: RecognizerSpec, options: DecodeOptions
    ) -> None:
        self.number = number
        self.session = session
        self.spec = spec
        self.options = options
        self.future: Future[Decoded] = Future()
        self._pool = pool
        # Below: guarded by the pool's lock.
        self.audio: list[Samples] = []
        self.samples = 0
        self.finished = False
        self.attempts = 0
        self.outstanding = 0  # requests sent to the worker and not yet answered
        self.opened_at = time.monotonic()
        self.dispatched_at: float | None = None
        self.last_progress = self.opened_at

    def feed(self, samples: Samples) -> None:
        """Take (n,) float32 samples at 16 kHz."""
        self._pool.feed(self, samples)

    def finish(self) -> "Future[Decoded]":
        """End the segment; the future resolves when its transcript is final."""
        self._pool.finish(self)
        return self.future

    def cancel(self) -> None:
        """Drop the segment: nobody waits for it any more."""
        self._pool.cancel(self)

    @property
    def audio_s(self) -> float:
        """Seconds fed so far."""
        return self.samples / SAMPLE_RATE_HZ

    def begin(self) -> list[Request]:
        """Return the requests that bring a worker up to date, and count the attempt."""
        self.attempts += 1
        self.dispatched_at = self.last_progress = time.monotonic()
        requests: list[Request] = [Open(self.number, self.spec, self.options)]
        if self.audio:
            self.audio = [np.concatenate(self.audio)]
            requests.append(Feed(self.number, self.audio[0]))
        if self.finished:
            requests.append(Finish(self.number))
        self.outstanding = len(requests)
        return requests

    def overdue(self, now: float, limit_s: float) -> bool:
        """Whether the worker owes an answer for longer than `limit_s`."""
        return self.outstanding > 0 and now - self.last_progress > limit_s

    def decoded(self, transcript: Transcript, cpu_s: float = 0.0) -> Decoded:
        """Return the terminal answer, with how long it took."""
        now = time.monotonic()
        started = self.dispatched_at if self.dispatched_at is not None else now
        stats = DecodeStats(started - self.opened_at, now - started, cpu_s, self.attempts)
        return Decoded(transcript, stats)

    def failed(self, cause: NullCause, detail: str) -> Decoded:
        """Return the terminal answer of a job that has no text."""
        return self.decoded(Transcript.null(cause, detail))
