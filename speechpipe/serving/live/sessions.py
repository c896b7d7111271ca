"""The sessions of one live stream: one for all channels together, or one for each."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.catalog.factories import segmenter
from speechpipe.cascade.recognition import Listener, text_notices
from speechpipe.cascade.request import SessionRequest
from speechpipe.cascade.session import Session
from speechpipe.errors import SpeechpipeError
from speechpipe.foundation.storage.record import Measure
from speechpipe.serving.assignment import MIRRORED
from speechpipe.serving.engine import Service
from speechpipe.serving.live import Change, Event, LiveRequest
from speechpipe.serving.live.emitter import ChannelEmitter
from speechpipe.serving.live.load import Level
from speechpipe.serving.recorder import SessionRecorder
from speechpipe.serving.telemetry.records import InputFacts, churn
from speechpipe.types import SAMPLE_RATE_HZ, Accounting, Notice, Samples, Utterance

FEED_SAMPLES = 1_600
"""A recognizer gets live audio in tenths of a second: more often would cost more in messages than it gains."""

PARTIAL_EVERY_S = {Level.NORMAL: 0.25, Level.THIN_PARTIALS: 1.0}


class StreamSessions:
    """Feeds sessions, asks for partial results, says and records finals. Used on a lane only, facts from anywhere."""

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
        self._peeked_at = 0.0
        self.counts: Counter[str] = Counter()  # of partial results
        self.followers: list[ChannelEmitter] = []
        self._recorders: list[SessionRecorder] = []
        self._kept: list[list[Utterance]] = [[] for _ in range(request.wire.sessions)]  # for whoever reviews them
        decode = DecodeOptions(language=request.language, prompt=request.prompt)
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
                return service.session(request.bundle, replace(asked, listener=listener))

            recorder = SessionRecorder(service, request, session_id)
            self._recorders.append(recorder)
            try:
                follower = ChannelEmitter(channel, emit, on_change, open_session, manual=request.manual)
            except SpeechpipeError as error:  # a stage broke before there was a session
                recorder.refused(error.cause, 0, service.clock())
                raise
            self.followers.append(follower)

    # ---- audio in ----

    def feed(self, blocks: list[Samples] | None) -> None:
        """Take (n,) samples for each channel."""
        for follower, samples in zip(self.followers, blocks or (), strict=False):
            self._say(follower, follower.session.feed(samples))
            follower.listen()
        if self._change is not None and not self.speaking:
            self._apply(self._change)

    def flush(self) -> None:
        """End what is open."""
        for follower in self.followers:
            self._say(follower, follower.flush())

    def pause(self, silent_s: float) -> None:
        """No audio has come for so long: end what is open, and say so. What comes later is new speech."""
        for follower in self.followers:
            self._say(follower, follower.pause(silent_s))

    def clear(self) -> None:
        """Forget what is open."""
        for follower in self.followers:
            follower.forget()

    def change(self, change: Change) -> None:
        """Cut by other parameters, from the end of what is open.

        What the client was to end by itself ends here if it will not be asked to any more.
        """
        self._change = change
        by_itself = any(follower.manual for follower in self.followers) and not change.manual
        if by_itself or not self.speaking:
            self._apply(change)

    def _apply(self, change: Change) -> None:
        self._change = None
        frame = self._service.vad(change.bundle.vad).frame_samples
        for follower in self.followers:
            start = follower.session.scored
            new = segmenter(change.bundle, frame, start=start, manual=change.manual)
            self._say(follower, follower.segment_by(new, manual=change.manual))

    def finish(self) -> None:
        """End the audio; finals follow until `done`."""
        for follower in self.followers:
            self._say(follower, follower.session.finish())

    def conclude(self) -> None:
        """Speak for the silence at the end, after the last final."""
        for follower in self.followers:
            follower.conclude()

    def abort(self) -> None:
        """Drop everything."""
        for follower in self.followers:
            follower.session.abort()

    # ---- text out ----

    def collect(self) -> None:
        """Say what has become final, and the newest partial results."""
        for follower in self.followers:
            self._say(follower, follower.session.completed())
            if self._request.interim and follower.partial():
                self.counts["sent"] += 1

    def _say(self, follower: ChannelEmitter, utterances: list[Utterance]) -> None:
        for utterance in utterances:
            partial = follower.last_partial(utterance.index)
            measures: dict[str, Measure] = {"live.endpoint_to_final_s": follower.final(utterance)}
            measures["live.churn"] = churn(partial, utterance.transcript.text)
            if (lag_s := follower.take_lag_s()) is not None:
                measures["live.partial_lag_s"] = lag_s
            if self._request.terms.followed:
                self._kept[follower.channel].append(utterance)
            self._recorders[follower.channel].utterance(utterance, measures)

    def peek(self, level: Level) -> None:
        """Ask for partial results: less often or not at all where the machine is late."""
        now = time.monotonic()
        if not self._request.interim or now - self._peeked_at < PARTIAL_EVERY_S[Level.NORMAL] or not self.speaking:
            return
        every_s = PARTIAL_EVERY_S.get(level)
        if every_s is None:
            self.counts["dropped"] += 1
        elif now - self._peeked_at < every_s:
            self.counts["thinned"] += 1
            return
        self._peeked_at = now
        if every_s is not None:
            for follower in self.followers:
                follower.session.peek()

    # ---- facts ----

    @property
    def speaking(self) -> bool:
        """Whether a segment is open on any channel."""
        return any(follower.session.is_open for follower in self.followers)

    @property
    def finals(self) -> int:
        """Segments that have had their final."""
        return sum(follower.finals for follower in self.followers)

    @property
    def texts(self) -> int:
        """Finals with a text."""
        return sum(follower.texts for follower in self.followers)

    @property
    def done(self) -> bool:
        """Whether every final has been said."""
        return all(follower.session.done for follower in self.followers)

    @property
    def audio_s(self) -> float:
        """Seconds of audio that went into the cascade."""
        return max(follower.session.position for follower in self.followers) / SAMPLE_RATE_HZ

    @property
    def backlog_s(self) -> float:
        """Seconds of speech given to recognizers and not worked on."""
        return max(follower.session.backlog_s for follower in self.followers)

    @property
    def accounting(self) -> tuple[Accounting, ...]:
        """Where every sample went, by channel."""
        return tuple(follower.session.accounting for follower in self.followers)

    @property
    def notices(self) -> list[Notice]:
        """What a client should know of the texts."""
        return text_notices(follower.session.summary() for follower in self.followers)

    def record(self, facts: InputFacts, outcome: str, wall_s: float, measures: dict[str, float]) -> None:
        """Emit the records of the sessions, which are over."""
        for recorder, follower in zip(self._recorders, self.followers, strict=True):
            recorder.ended(follower.session.summary(), facts, outcome, (self._service.clock(), wall_s), measures)
        self._review()

    def _review(self) -> None:
        request, reviewing = self._request, self._service.reviewing
        if reviewing is None or not request.terms.followed:
            return
        sessions = [
            recorder.completed(follower.session.position / SAMPLE_RATE_HZ, kept)
            for recorder, follower, kept in zip(self._recorders, self.followers, self._kept, strict=True)
            if follower.session.position
        ]
        reviewing.spoken(sessions, request.terms, shadowed=MIRRORED in request.route)
