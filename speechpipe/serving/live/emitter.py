"""The emitter of one channel of a live stream: turns what its session does into events, in order."""

import time
from collections.abc import Callable

from speechpipe.cascade.recognition import Listener
from speechpipe.cascade.session import Session
from speechpipe.cascade.vad import Opened, Segmenting
from speechpipe.cascade.workers.agreement import rest_after
from speechpipe.foundation.storage.record import Measure
from speechpipe.serving.live import (
    ClockAdvanced,
    Event,
    Final,
    Partial,
    Paused,
    Settled,
    SpeechEnded,
    SpeechStarted,
    StableText,
)
from speechpipe.serving.telemetry.endpoints import Endpoints
from speechpipe.types import SAMPLE_RATE_HZ, NullCause, Segment, Utterance

SETTLED_EVERY_S = 5.0
"""Interval of `Settled` events during long silence."""


def seconds(samples: int) -> float:
    """Return a position on the audio clock in seconds."""
    return samples / SAMPLE_RATE_HZ


class ChannelEmitter:
    """The `Listener` of one session; emits its events, with exactly one Final for each segment."""

    def __init__(
        self,
        channel: int,
        emit: Callable[[Event], None],
        on_change: Callable[[], None],
        open_session: Callable[[Listener], Session],
        *,
        manual: bool,
    ) -> None:
        """Open the channel's session.

        Args:
            channel: its number.
            emit: takes the events.
            on_change: called when an utterance may be final or a partial result is there, on any thread.
            open_session: makes the session that this listens to; what it raises is passed on.
            manual: the client ends segments, not the VAD.
        """
        self.channel = channel
        self._emit = emit
        self.on_change = on_change
        self._ended: dict[int, tuple[int, float, bool]] = {}  # index -> decided at sample, at monotonic time, flushed
        self._without_silence: set[int] = set()  # segments that end because no more audio comes, or no VAD decides
        self.manual = manual
        self._committed = 0  # position up to which the text is final
        self._next = 0  # index of the next Final
        self._flushing = False
        self._no_more_audio = False
        self._last_text = ""
        self._stable = ""  # the stable text of the open segment
        self._last_texts: dict[int, tuple[str, str]] = {}  # of closed segments by index, see `last_partial`
        self._clock_at = 0
        self._lag_s: float | None = None  # longest of the partial results since `take_lag_s`
        self.finals = 0
        self.texts = 0  # finals with a text
        self.out_of_order = 0  # always 0
        self.endpoints = Endpoints()
        self.session = open_session(self)

    # ---- called by the session ----

    def on_opened(self, index: int, event: Opened) -> None:
        """Emit `SpeechStarted`."""
        self._last_text = self._stable = ""
        times = (seconds(event.speech), seconds(event.start), seconds(event.at))
        self._emit(SpeechStarted(self.channel, index, *times, self.manual, event.continued))

    def on_closed(self, index: int, segment: Segment, at: int) -> None:
        """Emit `SpeechEnded`."""
        self._ended[index] = (at, time.monotonic(), self._flushing)
        if self._flushing or self._no_more_audio or self.manual:
            self._without_silence.add(index)
        self._last_texts[index] = self._last_text, self._stable
        end_s = seconds(segment.speech_end)
        self._emit(SpeechEnded(self.channel, index, end_s, seconds(at), segment.cut, self._flushing))

    # ---- called by the stream ----

    def flush(self) -> list[Utterance]:
        """End the open segment. The answer to the client is its Final, or `Settled`. Returns utterances now final."""
        pending = self.session.pending
        if not pending:
            self._settle(flushed=True)
        elif (last := self._ended.get(pending[-1].index)) is not None:  # its Final is the answer
            self._ended[pending[-1].index] = (*last[:2], True)
        self._flushing = True
        utterances = self.session.flush()
        self._flushing = False
        return utterances

    def forget(self) -> None:
        """Drop the open segment."""
        self.session.clear()
        self._last_text = self._stable = ""

    def finish(self) -> list[Utterance]:
        """End the audio; return utterances now final."""
        self._no_more_audio = True
        return self.session.finish()

    def last_partial(self, index: int) -> tuple[str, str]:
        """Remove and return the last partial text of a closed segment, and the stable part of it."""
        return self._last_texts.pop(index, ("", ""))

    def final(self, utterance: Utterance) -> dict[str, Measure]:
        """Emit a `Final`; return measures of the segment's end: among others the seconds since it was decided."""
        at, decided, flushed = self._ended.pop(utterance.index)
        if utterance.index != self._next:
            self.out_of_order += 1
        self._next = utterance.index + 1
        self.finals += 1
        self.texts += bool(utterance.transcript.text)
        self._committed = max(self._committed, utterance.segment.end)
        took = time.monotonic() - decided
        self._emit(Final(self.channel, utterance, flushed, seconds(at), seconds(self._committed), took))
        by_silence = utterance.index not in self._without_silence
        self._without_silence.discard(utterance.index)
        ends = self.endpoints.of(utterance.segment, at, by_silence=by_silence, manual=self.manual)
        return {"live.endpoint_to_final_s": took, **ends}

    def segment_by(self, segmenter: Segmenting, *, manual: bool) -> list[Utterance]:
        """Continue with another segmenter; return utterances now final."""
        utterances = self.session.segment_by(segmenter)
        self.manual = manual
        return utterances

    def take_lag_s(self) -> float | None:
        """Return the largest lag of partial results since the last call, in seconds; None without any."""
        lag_s, self._lag_s = self._lag_s, None
        return lag_s

    def partial(self) -> bool:
        """Emit the newest partial result, and what it made stable, if they are new; return whether a text was emitted.

        Stable text stays, even if the segment has begun again on another worker and its text is another there.
        """
        pending = self.session.pending
        if len(pending) != 1 or not self.session.is_open or (hypothesis := pending[0].hypothesis) is None:
            return False  # a final that is due must come first
        stable = hypothesis.text[: hypothesis.stable]
        if stable.startswith(self._stable) and stable != self._stable:
            self._emit(StableText(self.channel, pending[0].index, stable[len(self._stable) :]))
            self._stable = stable
        text = self._stable + rest_after(self._stable, hypothesis.text)
        if not text or text == self._last_text:
            return False
        self._last_text = text
        until = pending[0].start + hypothesis.samples
        lag_s = seconds(self.session.position - until)
        start_s = seconds(pending[0].start)
        self._emit(
            Partial(self.channel, pending[0].index, text, start_s, seconds(until), lag_s, stable=len(self._stable))
        )
        self._lag_s = lag_s if self._lag_s is None else max(self._lag_s, lag_s)
        return True

    def listen(self) -> None:
        """Emit the progress of the clock during silence."""
        session = self.session
        if session.pending:
            return
        if session.position - self._clock_at >= SAMPLE_RATE_HZ // 10:
            self._clock_at = session.position
            self._emit(ClockAdvanced(self.channel, seconds(session.position)))
        if session.settled - self._committed >= SETTLED_EVERY_S * SAMPLE_RATE_HZ:
            self._settle(flushed=False)

    def pause(self, silent_s: float) -> list[Utterance]:
        """End the open segment because no audio has arrived for `silent_s` seconds; return utterances now final."""
        self._no_more_audio = True
        utterances = self.session.flush() if self.session.is_open and not self.manual else []
        self._no_more_audio = False
        self._emit(Paused(self.channel, seconds(self.session.position), silent_s))
        return utterances

    def conclude(self) -> None:
        """Emit `Settled` for the rest of the audio, after the last final."""
        if self._committed < self.session.settled:
            self._settle(flushed=False)

    def _settle(self, *, flushed: bool) -> None:
        self._committed = max(self._committed, self.session.settled)
        position = seconds(self.session.position)
        self._emit(Settled(self.channel, seconds(self._committed), position, flushed))

    # ---- the watchdog ----

    def overdue(self, now: float, limit_s: float) -> int:
        """Give up segments that ended more than `limit_s` seconds ago and have no text; return how many."""
        count = 0
        for pending in self.session.pending:
            ended = self._ended.get(pending.index)
            if ended is not None and now - ended[1] > limit_s and not pending.job.future.done():
                pending.job.give_up(NullCause.TIMEOUT, f"no answer for {limit_s:g} s")
                count += 1
        return count

    @property
    def missing(self) -> int:
        """Segments that ended without a Final; always 0 once the session is done."""
        return len(self._ended)
