"""One channel of a live stream: its session, and the events that its client should hear, in order."""

import time
from collections.abc import Callable

from speechpipe.cascade.recognition import Listener
from speechpipe.cascade.session import Session
from speechpipe.cascade.vad import Opened, Segmenting
from speechpipe.serving.live import ClockAdvanced, Event, Final, Partial, Paused, Settled, SpeechEnded, SpeechStarted
from speechpipe.types import SAMPLE_RATE_HZ, NullCause, Segment, Utterance

SETTLED_EVERY_S = 5.0
"""In long silence a client is told this often that nothing was said."""


def seconds(samples: int) -> float:
    """Return where a sample lies on the audio clock."""
    return samples / SAMPLE_RATE_HZ


class ChannelEmitter:
    """Listens to one session (`Listener`), and keeps the ledger: every segment ends in exactly one Final."""

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
        self.manual = manual
        self._committed = 0  # samples that finals have spoken for
        self._next = 0  # index of the next Final
        self._flushing = False
        self._said = ""
        self._said_last: dict[int, str] = {}  # index -> the last partial result of a segment that is closed
        self._heard = 0
        self._lag_s: float | None = None  # longest of the partial results since `take_lag_s`
        self.finals = 0
        self.texts = 0  # finals that have one
        self.out_of_order = 0  # always 0
        self.session = open_session(self)

    # ---- told by the session ----

    def on_opened(self, index: int, event: Opened) -> None:
        """Pass on that speech began."""
        self._said = ""
        times = (seconds(event.speech), seconds(event.start), seconds(event.at))
        self._emit(SpeechStarted(self.channel, index, *times, self.manual, event.continued))

    def on_closed(self, index: int, segment: Segment, at: int) -> None:
        """Pass on that a segment is complete."""
        self._ended[index] = (at, time.monotonic(), self._flushing)
        self._said_last[index] = self._said
        end_s = seconds(segment.speech_end)
        self._emit(SpeechEnded(self.channel, index, end_s, seconds(at), segment.cut, self._flushing))

    # ---- told by the stream ----

    def flush(self) -> list[Utterance]:
        """End the open segment; the answer is its Final, or that there is none. Returns what is final already."""
        pending = self.session.pending
        if not pending:
            self._settle(flushed=True)
        elif (last := self._ended.get(pending[-1].index)) is not None:  # its text is due: that is the answer
            self._ended[pending[-1].index] = (*last[:2], True)
        self._flushing = True
        utterances = self.session.flush()
        self._flushing = False
        return utterances

    def forget(self) -> None:
        """Drop the open segment."""
        self.session.clear()
        self._said = ""

    def last_partial(self, index: int) -> str:
        """Return the last partial result of a segment; ask once."""
        return self._said_last.pop(index, "")

    def final(self, utterance: Utterance) -> float:
        """Say a terminal event; return how long it took since the segment's end was decided."""
        at, decided, flushed = self._ended.pop(utterance.index)
        if utterance.index != self._next:
            self.out_of_order += 1
        self._next = utterance.index + 1
        self.finals += 1
        self.texts += bool(utterance.transcript.text)
        self._committed = max(self._committed, utterance.segment.end)
        took = time.monotonic() - decided
        self._emit(Final(self.channel, utterance, flushed, seconds(at), seconds(self._committed), took))
        return took

    def segment_by(self, segmenter: Segmenting, *, manual: bool) -> list[Utterance]:
        """Cut by another segmenter from here on; return what is final already."""
        utterances = self.session.segment_by(segmenter)
        self.manual = manual
        return utterances

    def take_lag_s(self) -> float | None:
        """Return by how many seconds partial results were late since the last call, at most; None: none came."""
        lag_s, self._lag_s = self._lag_s, None
        return lag_s

    def partial(self) -> bool:
        """Say the newest partial result if it says something new; return whether it did."""
        pending = self.session.pending
        if len(pending) != 1 or not self.session.is_open or (hypothesis := pending[0].hypothesis) is None:
            return False  # while a final is due, what follows it must wait
        if not hypothesis.text or hypothesis.text == self._said:
            return False
        self._said = hypothesis.text
        until = pending[0].start + hypothesis.samples
        lag_s = seconds(self.session.position - until)
        start_s = seconds(pending[0].start)
        self._emit(Partial(self.channel, pending[0].index, hypothesis.text, start_s, seconds(until), lag_s))
        self._lag_s = lag_s if self._lag_s is None else max(self._lag_s, lag_s)
        return True

    def listen(self) -> None:
        """Tell how far silence reaches."""
        session = self.session
        if session.pending:
            return
        if session.position - self._heard >= SAMPLE_RATE_HZ // 10:
            self._heard = session.position
            self._emit(ClockAdvanced(self.channel, seconds(session.position)))
        if session.settled - self._committed >= SETTLED_EVERY_S * SAMPLE_RATE_HZ:
            self._settle(flushed=False)

    def pause(self, silent_s: float) -> list[Utterance]:
        """End the open segment because no audio has come for `silent_s` seconds; return what is final already."""
        utterances = self.session.flush() if self.session.is_open and not self.manual else []
        self._emit(Paused(self.channel, seconds(self.session.position), silent_s))
        return utterances

    def conclude(self) -> None:
        """Speak for what is left at the end, once every final is said."""
        if self._committed < self.session.settled:
            self._settle(flushed=False)

    def _settle(self, *, flushed: bool) -> None:
        self._committed = max(self._committed, self.session.settled)
        position = seconds(self.session.position)
        self._emit(Settled(self.channel, seconds(self._committed), position, flushed))

    # ---- the watchdog ----

    def overdue(self, now: float, limit_s: float) -> int:
        """Give up segments whose text is due for longer than `limit_s`; return how many."""
        count = 0
        for spoken in self.session.pending:
            ended = self._ended.get(spoken.index)
            if ended is not None and now - ended[1] > limit_s and not spoken.job.future.done():
                spoken.job.give_up(NullCause.TIMEOUT, f"no answer for {limit_s:g} s")
                count += 1
        return count

    @property
    def missing(self) -> int:
        """Segments that ended and have no terminal event, once the session is done: always 0."""
        return len(self._ended)
