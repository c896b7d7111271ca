"""What a worker does while no step is waiting: speculative decodes and partial results of open segments.

Both are left out when the worker is busy with steps. A recognizer that needs the whole segment (`BufferedStream`)
decodes all audio so far for each of them, so they are bounded; for one that decodes while it is fed they cost nothing.
"""

import math
from collections.abc import Iterator

from speechpipe.cascade.workers.agreement import LocalAgreement
from speechpipe.types import SAMPLE_RATE_HZ, Transcript

SPECULATE_AFTER = round(0.08 * SAMPLE_RATE_HZ)
"""Silence, in samples, after which a segment is decoded in case it has ended. The endpoint follows after 0.5 s by
default, and a decode takes 0.1 to 0.3 s. If the speech goes on, the decode was still a partial result."""

FIRST = round(0.6 * SAMPLE_RATE_HZ)
"""Samples of a segment, 0.3 s of them pre-roll, before which there is no partial result."""

NEWS = round(0.2 * SAMPLE_RATE_HZ)
"""New samples that are worth another decode while a person speaks."""

PARTIAL_SHARE = 0.5
"""Largest share of a worker's time for partial results of all its streams together, when it has nothing else to do."""

CHEAP_SHARE = 0.2
"""The same for one stream of a recognizer that decodes while it is fed."""

EARLY = round(3 * SAMPLE_RATE_HZ)
"""Samples of a segment within which partial results may take all of that time until some text is stable."""

LOADED = 0.5
"""Share of a worker's time for steps from which on there are neither partial results nor speculative decodes."""

DUTY_S = 3.0
LOOK_AGAIN_S = 0.1


class Duty:
    """The share of the last seconds that a worker spent on steps."""

    def __init__(self) -> None:
        self._busy_s = 0.0
        self._at = 0.0

    def add(self, now: float, busy_s: float) -> None:
        """Steps took `busy_s` seconds until `now`."""
        self._busy_s = self._busy_s * math.exp(min(0.0, self._at - now) / DUTY_S) + busy_s
        self._at = now

    def share(self, now: float) -> float:
        """Return the share, an exponential mean over `DUTY_S`."""
        return min(1.0, self._busy_s * math.exp(min(0.0, self._at - now) / DUTY_S) / DUTY_S)


class OpenSegment:
    """The decodes of one open live segment besides its final one. Times are of one monotonic clock, in seconds."""

    def __init__(self, *, buffered: bool) -> None:
        """`buffered`: every decode is of all audio so far."""
        self.buffered = buffered
        self.failed = False
        self.samples = 0
        self.silent = 0  # samples at the end that are silence
        self.text, self.stable = "", 0  # the last partial result
        self.speculations = 0
        self._covered = 0  # samples of the last decode
        self._agreement = LocalAgreement()
        self._guess: Transcript | None = None
        self._guess_cpu_s = self._guess_s = 0.0
        self.decoded_at = -math.inf
        self._took_s = 0.0

    def feed(self, count: int, *, endpoint_near: bool) -> float:
        """Count samples; return the CPU seconds of a speculative decode that is now in vain."""
        self.samples += count
        if endpoint_near:
            self.silent += count
            return 0.0
        self.silent = 0
        return self.drop_guess()

    def fail(self) -> float:
        """A decode has failed: there are no others; return as `drop_guess`."""
        self.failed = True
        return self.drop_guess()

    def drop_guess(self) -> float:
        """Drop the speculative decode, if there is one; return its CPU seconds."""
        wasted_s, self._guess, self._guess_cpu_s = self._guess_cpu_s, None, 0.0
        return wasted_s

    @property
    def may_have_ended(self) -> bool:
        """Whether a speculative decode is worth its while."""
        return self.buffered and self._guess is None and self.silent >= SPECULATE_AFTER and not self.failed

    @property
    def has_news(self) -> bool:
        """Whether speech was fed that the last partial result does not cover.

        In a pause the speculative decode is the next partial result: another just before would delay it.
        """
        if self.failed or not self.buffered:
            return self.failed or self.samples > self._covered
        return not self.silent and self.samples >= FIRST and self.samples - self._covered >= NEWS

    def due(self, share: float) -> float:
        """Return the time from which on a partial result may be made, at a `share` of the worker's time.

        Text that is stable takes two of them, so a segment that has none yet may have more.
        """
        if not self.buffered:
            share = CHEAP_SHARE
        elif not self.stable and self.samples < EARLY:
            share = min(1.0, share / PARTIAL_SHARE)
        return self.decoded_at + self._took_s * (1 / share - 1) if share > 0 else math.inf

    @property
    def covered(self) -> int:
        """The samples of the last decode."""
        return self._covered

    def decoded(self, text: str, samples: int, now: float, took_s: float, stable: int = 0) -> None:
        """Take the text of the first samples, which was decoded until `now`.

        `stable`: the characters that its stream says are stable; those of buffered streams are found by comparison.
        """
        self._covered, self.decoded_at, self._took_s = samples, now, took_s
        self.text, self.stable = self._agreement.update(text) if self.buffered else (text, stable)

    def guessed(self, transcript: Transcript, took_s: float, cpu_s: float) -> None:
        """Take a speculative decode of all samples so far."""
        self._guess, self._guess_cpu_s, self._guess_s = transcript, cpu_s, took_s
        self.speculations += 1

    def take_guess(self) -> tuple[Transcript, float] | None:
        """Return the speculative decode and its wall seconds, if nothing was said since; the segment has ended."""
        return None if self._guess is None else (self._guess, self._guess_s)


class IdleWork:
    """The open segments of a worker, and which of them is decoded next while no step is waiting."""

    def __init__(self) -> None:
        self.duty = Duty()
        self._segments: dict[int, OpenSegment] = {}
        self._wanted: dict[int, None] = {}  # streams whose partial result was requested

    def open(self, number: int, segment: OpenSegment) -> None:
        """A stream has been opened."""
        self._segments[number] = segment

    def close(self, number: int) -> None:
        """A stream has ended or was dropped."""
        self._segments.pop(number, None)
        self._wanted.pop(number, None)

    def want(self, number: int) -> None:
        """A partial result of a stream is requested; the stream may still have to be opened."""
        self._wanted[number] = None

    def answered(self, number: int) -> bool:
        """A partial result was made; return whether it had been requested."""
        return number in self._wanted and self._wanted.pop(number) is None

    def next(self, now: float, *, only_pauses: bool = False) -> int | None:
        """Return the stream to decode now: in a pause first, then by the time of the last partial result.

        `only_pauses`: a partial result is being made already.
        """
        spare = self._spare(now)
        if spare > 0 and (
            ended := [(-one.silent, number) for number, one in self._segments.items() if one.may_have_ended]
        ):
            return min(ended)[1]
        if only_pauses:
            return None
        waiting = list(self._waiting())
        share = spare * PARTIAL_SHARE / max(1, len(waiting))
        due = [(not one.silent, one.decoded_at, number) for number, one in waiting if one.due(share) <= now]
        return min(due)[2] if due else None

    def wait_s(self, now: float) -> float | None:
        """Return the seconds after which `next` may return a stream although nothing has arrived; None: never."""
        waiting = list(self._waiting())
        if not waiting:  # in a pause it looks again, because the worker may be less busy then
            return LOOK_AGAIN_S if any(one.may_have_ended for one in self._segments.values()) else None
        share = self._spare(now) * PARTIAL_SHARE / len(waiting)
        return max(0.0, min(LOOK_AGAIN_S, *(one.due(share) - now for _, one in waiting)))

    def _spare(self, now: float) -> float:
        """Return 1 if the worker has no steps to do, 0 if it is loaded."""
        return max(0.0, 1 - self.duty.share(now) / LOADED)

    def _waiting(self) -> Iterator[tuple[int, OpenSegment]]:
        for number in self._wanted:
            if (segment := self._segments.get(number)) is not None and segment.has_news:
                yield number, segment
