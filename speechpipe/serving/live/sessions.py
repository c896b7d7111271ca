"""The sessions of one live stream: one for the mix, or one for each channel."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from speechpipe.cascade.catalog.factories import segmenter
from speechpipe.cascade.recognition import Listener, text_notices
from speechpipe.cascade.request import SessionRequest
from speechpipe.cascade.session import Session
from speechpipe.errors import SpeechpipeError
from speechpipe.serving.assignment import MIRRORED
from speechpipe.serving.live import Change, Event, LiveRequest
from speechpipe.serving.live.emitter import ChannelEmitter
from speechpipe.serving.live.load import Level
from speechpipe.serving.recorder import SessionRecorder
from speechpipe.serving.service import Service
from speechpipe.serving.telemetry.records import InputFacts, churn
from speechpipe.types import SAMPLE_RATE_HZ, Accounting, Notice, Samples, Utterance

FEED_SAMPLES = 1_600
"""Live audio is passed to a recognizer in tenths of a second; smaller pieces would cost more in messages."""

PARTIAL_EVERY_S = {Level.NORMAL: 0.25, Level.THIN_PARTIALS: 1.0}


class StreamSessions:
    """Feeds the sessions, requests partial results, and emits and records finals.

    Methods are called on the executor's threads, by one at a time. Properties may be read on any thread.
    """

    def __init__(
        self,
        service: Service,
        request: LiveRequest,
        emit: Callable[[Event], None],
        on_change: Callable[[], None],
    ) -> None:
        self._service = service
        self._request = request
        self._change: Change | None = None
        self._requested_at = 0.0
        self.counts: Counter[str] = Counter()  # of partial results
        self.emitters: list[ChannelEmitter] = []
        self._recorders: list[SessionRecorder] = []
        self._kept: list[list[Utterance]] = [[] for _ in range(request.wire.sessions)]  # for reviews
        decode = request.decode(offline=False)
        for channel, session_id in enumerate(request.session_ids(request.wire.sessions)):
            asked = SessionRequest(
                decode,
                manual=request.manual,
                feed_step=FEED_SAMPLES,
                session_id=session_id,
                route=request.route,
                held=request.terms.followed,
            )

            def open_session(listener: Listener, asked: SessionRequest = asked) -> Session:
                return service.engine.session(request.bundle, replace(asked, listener=listener))

            recorder = SessionRecorder(service, request, session_id)
            self._recorders.append(recorder)
            try:
                emitter = ChannelEmitter(channel, emit, on_change, open_session, manual=request.manual)
            except SpeechpipeError as error:  # a stage failed before the session was opened
                recorder.refused(error.cause, 0, service.clock())
                raise
            self.emitters.append(emitter)

    # ---- audio in ----

    def feed(self, blocks: list[Samples] | None) -> None:
        """Take (n,) samples for each channel."""
        for emitter, samples in zip(self.emitters, blocks or (), strict=False):
            self._say(emitter, emitter.session.feed(samples))
            emitter.listen()
        if self._change is not None and not self.speaking:
            self._apply(self._change)

    def flush(self) -> None:
        """End the open segments."""
        for emitter in self.emitters:
            self._say(emitter, emitter.flush())

    def pause(self, silent_s: float) -> None:
        """No audio has arrived for `silent_s` seconds: end the open segments and emit `Paused`."""
        for emitter in self.emitters:
            self._say(emitter, emitter.pause(silent_s))

    def clear(self) -> None:
        """Drop the open segments."""
        for emitter in self.emitters:
            emitter.forget()

    def change(self, change: Change) -> None:
        """Use other segmenter parameters after the open segments; at once if segments change from manual to VAD."""
        self._change = change
        ends_manual = any(emitter.manual for emitter in self.emitters) and not change.manual
        if ends_manual or not self.speaking:
            self._apply(change)

    def _apply(self, change: Change) -> None:
        self._change = None
        frame = self._service.engine.vad(change.bundle.vad).frame_samples
        for emitter in self.emitters:
            start = emitter.session.scored
            new = segmenter(change.bundle, frame, start=start, manual=change.manual)
            self._say(emitter, emitter.segment_by(new, manual=change.manual))

    def finish(self) -> None:
        """End the audio; finals follow until `done`."""
        for emitter in self.emitters:
            self._say(emitter, emitter.finish())

    def conclude(self) -> None:
        """Emit `Settled` for silence at the end, after the last final."""
        for emitter in self.emitters:
            emitter.conclude()

    def abort(self) -> None:
        """Cancel all sessions."""
        for emitter in self.emitters:
            emitter.session.abort()

    # ---- text out ----

    def collect(self) -> None:
        """Emit utterances that have become final, and the newest partial results."""
        for emitter in self.emitters:
            self._say(emitter, emitter.session.completed())
            if self._request.interim and emitter.partial():
                self.counts["sent"] += 1

    def _say(self, emitter: ChannelEmitter, utterances: list[Utterance]) -> None:
        for utterance in utterances:
            partial, stable = emitter.last_partial(utterance.index)
            measures = emitter.final(utterance)
            measures["live.churn"] = churn(partial, utterance.transcript.text)
            measures["live.stable_churn"] = churn(stable, utterance.transcript.text)
            if (lag_s := emitter.take_lag_s()) is not None:
                measures["live.partial_lag_s"] = lag_s
            if self._request.terms.followed:
                self._kept[emitter.channel].append(utterance)
            self._recorders[emitter.channel].utterance(utterance, measures)

    def request_partials(self, level: Level) -> None:
        """Request partial results, less often or not at all if the machine is overloaded."""
        now = time.monotonic()
        recently = now - self._requested_at < PARTIAL_EVERY_S[Level.NORMAL]
        if not self._request.interim or recently or not self.speaking:
            return
        every_s = PARTIAL_EVERY_S.get(level)
        if every_s is None:
            self.counts["dropped"] += 1
        elif now - self._requested_at < every_s:
            self.counts["thinned"] += 1
            return
        self._requested_at = now
        if every_s is not None:
            for emitter in self.emitters:
                emitter.session.request_partial()

    # ---- facts ----

    @property
    def speaking(self) -> bool:
        """Whether a segment is open on any channel."""
        return any(emitter.session.is_open for emitter in self.emitters)

    @property
    def finals(self) -> int:
        """Number of finals emitted."""
        return sum(emitter.finals for emitter in self.emitters)

    @property
    def texts(self) -> int:
        """Number of finals with a text."""
        return sum(emitter.texts for emitter in self.emitters)

    @property
    def done(self) -> bool:
        """Whether all finals were emitted."""
        return all(emitter.session.done for emitter in self.emitters)

    @property
    def audio_s(self) -> float:
        """Seconds of audio fed to the sessions."""
        return max(emitter.session.position for emitter in self.emitters) / SAMPLE_RATE_HZ

    @property
    def backlog_s(self) -> float:
        """Seconds of speech that no recognizer has taken yet; the maximum of the channels."""
        return max(emitter.session.backlog_s for emitter in self.emitters)

    @property
    def waiting_s(self) -> float:
        """Seconds of audio in ended segments without a final; the maximum of the channels."""
        return max(emitter.session.waiting_s for emitter in self.emitters)

    def late_s(self, now: float) -> float:
        """Return how far the recognizers are behind, in seconds; the maximum of the channels."""
        return max(emitter.session.late_s(now) for emitter in self.emitters)

    @property
    def accounting(self) -> tuple[Accounting, ...]:
        """The accounting of each channel."""
        return tuple(emitter.session.accounting for emitter in self.emitters)

    @property
    def notices(self) -> list[Notice]:
        """Notices about missing and recovered texts."""
        return text_notices(emitter.session.summary() for emitter in self.emitters)

    def record(self, facts: InputFacts, outcome: str, wall_s: float, measures: dict[str, float]) -> None:
        """Emit the session records, and pass the sessions to the review service; called at the end."""
        for recorder, emitter in zip(self._recorders, self.emitters, strict=True):
            summary = emitter.session.summary()
            more = {**measures, **emitter.endpoints.of_session(summary.accounting.received)}
            recorder.ended(summary, facts, outcome, (self._service.clock(), wall_s), more)
        self._review()

    def _review(self) -> None:
        request, reviewing = self._request, self._service.reviews
        if reviewing is None or not request.terms.followed:
            return
        sessions = [
            recorder.completed(emitter.session.position / SAMPLE_RATE_HZ, kept)
            for recorder, emitter, kept in zip(self._recorders, self.emitters, self._kept, strict=True)
            if emitter.session.position
        ]
        reviewing.spoken(sessions, request.terms, shadowed=MIRRORED in request.route)
