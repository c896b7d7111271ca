"""The stream manager: admits, resumes and supervises all live streams of a server."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

from speechpipe.errors import Conflict, InvalidParameter, NotReady, Overloaded, RateLimited, StageFailed, TooSlow
from speechpipe.foundation.background import BackgroundTask
from speechpipe.monitor.exposition import GaugeRow
from speechpipe.serving.automation import Degree
from speechpipe.serving.live import Dialect, Fail, Finish, LiveRequest
from speechpipe.serving.live.budget import ByteBudget
from speechpipe.serving.live.executor import StepExecutor
from speechpipe.serving.live.load import RETRY_AFTER_S, Level, Load, Sample
from speechpipe.serving.live.stream import LiveStream
from speechpipe.serving.service import Service

TICK_S = 0.05
SAMPLE_EVERY_S = 0.5
WATCHDOG_FACTOR = 2.0
"""A final that is overdue by this many segment timeouts is given up; the pool should have answered long before."""

ATTACH_S = 10.0
"""Least time for the client of a new stream to attach."""

RATE_WINDOW_S = 3.0
DROPS = ("thinned", "dropped", "superseded")

log = logging.getLogger(__name__)


class StreamManager:
    """All live streams of a service. Thread-safe.

    A stream's outbox is the only source for whether its client is connected, and since when it is not.
    """

    def __init__(self, service: Service, threads: int = 2) -> None:
        self._service = service
        self._settings = service.settings
        self._executor = StepExecutor(threads)
        self._load = Load(service.settings.cores, service.settings.live_load_limit)
        self.budget = ByteBudget(service.settings.live_max_held_bytes)
        self._lock = threading.Lock()
        self._streams: dict[str, LiveStream] = {}  # in the order in which they were opened
        self._opening: Counter[str] = Counter()  # by tenant: admitted streams whose sessions are being opened
        self._opened_since = 0
        self._refusing = False
        self._ticker = BackgroundTask("live-tick", self._tick, every_s=TICK_S)
        self.tasks = [self._ticker, *self._executor.tasks]
        self._sampled_at = 0.0
        self._audio_of: dict[str, tuple[float, float]] = {}  # id -> (time, audio_s) a few seconds ago
        self._audio_done_s = 0.0  # of streams that have ended
        self.counts: Counter[str] = Counter()
        self.loop_lag_s = 0.0
        service.tasks.add(*self.tasks)
        service.exposition.add_gauges(self._gauges())

    def note_loop_lag(self, late_s: float) -> None:
        """Note how late the event loop was just now; the longest of the last seconds is kept, fading."""
        self.loop_lag_s = max(late_s, self.loop_lag_s * 0.98)

    # ---- life ----

    def start(self) -> None:
        """Start the executor and the tick."""
        self._executor.start()
        self._ticker.start()

    def close(self, drain_s: float = 0.0) -> None:
        """Finish all streams, wait up to `drain_s` seconds for their finals, and stop.

        Waiting audio of clients that are not connected is dropped, because they can no longer resume.
        """
        self._refusing = True
        with self._lock:
            streams = list(self._streams.values())
        for stream in streams:
            stream.hurry()
            if stream.outbox.detached_at is not None:
                self.counts["dropped_bytes"] += stream.drop_backlog()
            stream.command(Finish("shutdown"))
        until = time.monotonic() + drain_s
        while time.monotonic() < until and not all(stream.ended and self._delivered(stream) for stream in streams):
            time.sleep(0.02)
        self._ticker.close()
        self._executor.close()

    def _delivered(self, stream: LiveStream) -> bool:
        return stream.outbox.drained or stream.outbox.detached_at is not None

    # ---- streams ----

    def check(self, tenant: str) -> None:
        """Raise what `open` would raise for lack of room.

        Raises:
            NotReady, Overloaded, RateLimited: there is no room; with `retry_after_s`.
        """
        settings = self._settings
        if not self._service.readiness.started or self._refusing:
            raise NotReady("the recognizers are loading, or the server is shutting down")
        if not self._service.readiness.live:
            raise NotReady("no recognizer worker for live audio is ready")
        open_ = [stream.request.tenant for stream in self._streams.values() if not stream.ended]
        open_ += self._opening.elements()
        if len(open_) >= settings.live_max_sessions:
            raise Overloaded(f"{settings.live_max_sessions} live sessions are open", retry_after_s=RETRY_AFTER_S)
        if (reason := self._load.refusal(self._opened_since)) is not None:
            raise Overloaded(f"no room for another live session: {reason}", retry_after_s=RETRY_AFTER_S)
        limit = settings.live_max_per_key
        if limit and open_.count(tenant) >= limit:
            raise RateLimited(f"this key has {limit} live sessions open")

    def open(self, request: LiveRequest, dialect: Dialect) -> LiveStream:
        """Admit and open a new stream; `attach` connects its client. May load a VAD, so not for the event loop.

        Raises:
            NotReady, Overloaded, RateLimited: there is no room.
            Conflict: this tenant gets only texts by people, which are not available live.
        """
        if request.terms.degree in (Degree.HUMAN_ONLY, Degree.SHADOW):
            message = f"live texts are not reviewed, but this tenant is at {request.terms.degree}: upload the audio"
            raise Conflict(message, cause="person_required")
        with self._lock:
            self.check(request.tenant)
            self._opening[request.tenant] += 1
            self._opened_since += 1
        try:
            stream = LiveStream(self._service, request, dialect, self._executor.schedule, self._load, self.budget)
            with self._lock:
                self._streams[stream.id] = stream
        finally:
            with self._lock:
                self._opening[request.tenant] -= 1
        return stream

    def resume(self, token: str, tenant: str, channel: str | None = None, after: int | None = None) -> LiveStream:
        """Return the stream with this resume token; its state changes only at `attach`.

        Args:
            token: the token that the client was sent.
            tenant: the tenant that the stream must belong to.
            channel: the interface that it must have been opened over; None: any.
            after: the last message number that the client has received.

        Raises:
            InvalidParameter: there is no such stream (any more), it was opened over another interface, or the messages
                after `after` are not kept any more.
        """
        with self._lock:
            stream = next((item for item in self._streams.values() if item.token == token), None)
        if stream is None or stream.request.tenant != tenant:
            message = "there is no session with this resume token (any more)"
            raise InvalidParameter(message, param="resume", cause="resume_unknown")
        if channel is not None and stream.request.channel != channel:
            raise InvalidParameter("this session was opened over another interface", param="resume")
        if after is not None:
            stream.outbox.check(after)
        return stream

    def attach(self, stream: LiveStream, on_ready: Callable[[], None], after: int | None = None) -> int:
        """Make a connection the stream's reader, replacing an existing one; return the reader's number.

        Args:
            stream: from `open` or `resume`.
            on_ready: called on any thread when there is something to send, and when another reader takes over.
            after: as for `resume`; None for a new stream.

        Raises:
            InvalidParameter: the messages after `after` are not kept any more.
        """
        reader = stream.outbox.attach(on_ready, after)
        stream.attached(again=after is not None)
        if after is not None:
            self.counts["resumed"] += 1
        return reader

    def leave(self, stream: LiveStream) -> None:
        """Check a stream at once after its connection has closed."""
        self._look_after(stream, time.monotonic())

    def _forget(self, stream: LiveStream) -> None:
        with self._lock:
            if self._streams.pop(stream.id, None) is None:
                return
            self._audio_of.pop(stream.id, None)
            self._audio_done_s += stream.channels.audio_s
            self.counts["finals"] += stream.channels.finals
            self.counts["out_of_order"] += sum(emitter.out_of_order for emitter in stream.channels.emitters)
            self.counts["missing"] += sum(emitter.missing for emitter in stream.channels.emitters)
            self.counts["replayed"] += stream.outbox.replayed
            for name in ("thinned", "dropped"):
                self.counts[name] += stream.channels.counts[name]
            self.counts["superseded"] += stream.outbox.superseded

    # ---- the tick ----

    def _tick(self) -> None:
        now = time.monotonic()
        with self._lock:
            streams = list(self._streams.values())
        sampling = now - self._sampled_at >= SAMPLE_EVERY_S
        for stream in streams:
            try:
                self._look_after(stream, now)
                if sampling:
                    self._watch(stream, now)
            except Exception as error:  # a defect in one stream must not affect the others
                log.exception("the check of a live stream failed")
                self.counts["broken"] += 1
                stream.command(Fail(StageFailed("live", f"{type(error).__name__}: {error}")))
        if sampling:
            self._sampled_at = now
            self._sample(now, streams)
            self._keep_few(streams)

    def _look_after(self, stream: LiveStream, now: float) -> None:
        settings = self._settings
        detached_at = stream.outbox.detached_at
        gone_s = now - detached_at if detached_at is not None else 0.0
        if stream.ended:
            # The last messages may not have arrived, so they are kept for a client that resumes.
            grace_s = settings.live_resume_s + (settings.live_send_timeout_s if detached_at is None else 0.0)
            if stream.outbox.confirmed or now - max(stream.ended_at, detached_at or 0.0) > grace_s:
                self._forget(stream)
            return
        if stream.waits(self._load.step_s if detached_at is None else 1e-6):
            self._executor.schedule(stream)  # it may have been held back by its speed limit or the recognizers
        if gone_s > (settings.live_resume_s if stream.outbox.had_reader else max(settings.live_resume_s, ATTACH_S)):
            if stream.command(Finish("client_gone")):
                self.counts["abandoned"] += 1
            if gone_s > 2 * settings.live_resume_s + settings.segment_timeout_s and (size := stream.drop_backlog()):
                log.warning("%d bytes of audio of a session whose client is gone were dropped", size)
                self.counts["dropped_bytes"] += size
        elif now - stream.heard_at > settings.live_idle_timeout_s and stream.idle and detached_at is None:
            message = f"no audio and no KeepAlive for {settings.live_idle_timeout_s:g} s"
            stream.command(Fail(TooSlow(message, cause="idle_timeout")))
        if stream.outbox.overflowed:
            stream.command(Fail(TooSlow("the client does not read its messages", cause="client_not_reading")))

    def _watch(self, stream: LiveStream, now: float) -> None:
        """Detect that audio has stopped, and give up overdue finals, so that every segment gets one."""
        if not stream.ended and stream.paused(now):
            self._executor.schedule(stream)
        limit_s = self._settings.segment_timeout_s * WATCHDOG_FACTOR
        for emitter in stream.channels.emitters:
            if count := emitter.overdue(now, limit_s):
                self.counts["watchdog"] += count

    def _keep_few(self, streams: list[LiveStream]) -> None:
        """Keep at most `live_max_sessions` ended streams, the newest."""
        over = [stream for stream in streams if stream.ended]
        for stream in over[: max(0, len(over) - self._settings.live_max_sessions)]:
            self._forget(stream)

    def _sample(self, now: float, streams: list[LiveStream]) -> None:
        active = [stream for stream in streams if not stream.ended and stream.outbox.detached_at is None]
        rate = 0.0
        for stream in active:
            since, audio_s = self._audio_of.setdefault(stream.id, (now, stream.channels.audio_s))
            # A new session is assumed to send in real time.
            rate += (stream.channels.audio_s - audio_s) / (now - since) if now - since > RATE_WINDOW_S / 2 else 1.0
            if now - since > RATE_WINDOW_S:
                self._audio_of[stream.id] = (now - RATE_WINDOW_S / 2, (audio_s + stream.channels.audio_s) / 2)
        late = [late_s for stream in active if (late_s := stream.late_s(now)) is not None]
        # Not the CPU time of the process, which includes the VAD of uploads.
        cpu_s = self._executor.cpu_s + self._service.engine.pools.live_cpu_s
        with self._lock:
            audio_s = self._audio_done_s + sum(stream.channels.audio_s for stream in self._streams.values())
            self._load.expect(self._service.engine.pools.live_cost)
            self._load.update(Sample(now, cpu_s, audio_s, rate, late))
            self._opened_since = 0

    # ---- facts ----

    @property
    def level(self) -> Level:
        """The current level of degradation."""
        return self._load.level

    @property
    def load(self) -> Load:
        """The measured load."""
        return self._load

    def __len__(self) -> int:
        return sum(not stream.ended for stream in list(self._streams.values()))

    def _detached(self) -> int:
        return sum(
            not stream.ended and stream.outbox.detached_at is not None for stream in list(self._streams.values())
        )

    def _kept(self) -> int:
        return sum(stream.ended for stream in list(self._streams.values()))

    def stats(self) -> Mapping[str, float]:
        """Return figures for a status page."""
        load = self._load
        return {
            "sessions": len(self),
            "busy": round(load.busy, 3),
            "room": load.room,
            "late_s": round(load.late_s, 3),
            "level": int(load.level),
        }

    def facts(self) -> Mapping[str, float]:
        """Return measures for the system records."""
        return {
            "software.open_streams": float(len(self)),
            "software.load_share": self._load.busy,
            "software.loop_lag_s": self.loop_lag_s,
            "software.room": float(self._load.room),
        }

    def _total(self, name: str) -> float:
        streams = list(self._streams.values())
        if name == "superseded":
            return self.counts[name] + sum(stream.outbox.superseded for stream in streams)
        return self.counts[name] + sum(stream.channels.counts[name] for stream in streams)

    def _gauges(self) -> tuple[GaugeRow, ...]:
        def one(name: str, help_: str, read: object, *, counter: bool = False) -> GaugeRow:
            assert callable(read)
            return GaugeRow(name, help_, lambda: [((), float(read()))], counter=counter)

        def count(name: str, help_: str, key: str) -> GaugeRow:
            return one(f"live_{name}_total", help_, lambda: self.counts[key], counter=True)

        def buffered() -> float:
            return sum(stream.buffered_s for stream in list(self._streams.values()))

        return (
            one("live_sessions", "Live sessions, including those without a connection.", lambda: len(self)),
            one("live_detached", "Live sessions without a connection, which can be resumed.", self._detached),
            one("live_ended_kept", "Ended sessions, kept in case their last messages were lost.", self._kept),
            one(
                "live_held_bytes", "Bytes of messages and audio in memory, above 64 KiB each.", lambda: self.budget.held
            ),
            one("live_buffered_seconds", "Audio received and not processed yet.", buffered),
            one("live_late_seconds", "Delay of processing audio, 90th percentile.", lambda: self._load.late_s),
            one("live_busy_share", "Share of the CPU cores that live sessions need.", lambda: self._load.busy),
            one("live_room_sessions", "Further live sessions that would be admitted.", lambda: self._load.room),
            one(
                "live_degradation_level",
                "0: all partial results, 1: fewer, 2: none, 3: none and no new sessions.",
                lambda: int(self._load.level),
            ),
            one("loop_lag_seconds", "Longest recent delay of the event loop.", lambda: self.loop_lag_s),
            count("resumed", "Dropped connections that were resumed.", "resumed"),
            count("replayed", "Messages sent again after a resume.", "replayed"),
            count("abandoned", "Dropped connections that were not resumed in time.", "abandoned"),
            count("broken", "Live sessions ended because of a defect.", "broken"),
            count("dropped_bytes", "Bytes of audio dropped because its client was gone.", "dropped_bytes"),
            count("watchdog", "Finals that the watchdog gave up.", "watchdog"),
            count("missing_finals", "Segments without a terminal event; always 0.", "missing"),
            count("out_of_order_finals", "Terminal events twice or out of order; always 0.", "out_of_order"),
            GaugeRow(
                "live_partials_withheld_total",
                "Partial results not sent: thinned or dropped under load, superseded by a newer one.",
                lambda: [((reason,), self._total(reason)) for reason in DROPS],
                ("reason",),
                counter=True,
            ),
        )
