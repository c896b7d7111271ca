"""A live stream: takes bytes and commands, produces messages. It outlives its connection, so that it can be resumed."""

import hashlib
import secrets
import time
from collections.abc import Callable

from speechpipe.cascade.audio.stream_decoder import WireDecoder
from speechpipe.cascade.audio.wire_format import RAW
from speechpipe.errors import CLOSE_CODE, SpeechpipeError, StageFailed, error_row
from speechpipe.serving.live import (
    Change,
    Clear,
    Cleared,
    Command,
    Dialect,
    Ended,
    Event,
    Fail,
    Final,
    Finish,
    Flush,
    LiveRequest,
    Noticed,
    Partial,
    Restart,
)
from speechpipe.serving.live.arrivals import Arrivals
from speechpipe.serving.live.budget import FREE_BYTES, ByteBudget
from speechpipe.serving.live.drain import Drain
from speechpipe.serving.live.executor import State
from speechpipe.serving.live.inbox import Inbox
from speechpipe.serving.live.load import Load
from speechpipe.serving.live.outbox import Goodbye, Outbox
from speechpipe.serving.live.sessions import StreamSessions
from speechpipe.serving.service import Service
from speechpipe.serving.telemetry.records import InputFacts
from speechpipe.types import SAMPLE_RATE_HZ, Notice

QUANTUM_S = 0.5
"""Most audio processed in one step; then it is the next stream's turn."""

CLOSED = {"shutdown": 1012}  # service restart
BURST_S = 10.0
"""Audio that is accepted at any speed at the beginning of a stream."""

MOST_WAITING_S = 60.0
"""Most audio in ended segments that wait for their finals, three segments of the greatest length by default."""

MOST_BYTES = 2**20
"""Most unprocessed bytes, for any number of channels and any rate; beyond it the socket is not read."""

MOST_ITEMS = 1000
"""Most waiting commands and pieces of audio; beyond it the socket is not read."""


class LiveStream:
    """One live stream, an `Actor`: `offer` and `command` are called on the event loop, `step` by the executor."""

    def __init__(
        self,
        service: Service,
        request: LiveRequest,
        dialect: Dialect,
        schedule: Callable[["LiveStream"], None],
        load: Load,
        budget: ByteBudget,
    ) -> None:
        """Open the sessions.

        Raises:
            SpeechpipeError: the bundle's VAD cannot be loaded.
        """
        self.id = request.id
        self.token = secrets.token_urlsafe(18)
        self.dialect = dialect
        self.outbox = Outbox()
        self.state = State.IDLE
        self._settings = service.settings
        self._schedule = schedule
        self._load = load
        self._budget = budget
        self._held = budget.holder()
        self._service = service
        self._decoder: WireDecoder
        self.channels: StreamSessions
        self._begin(request)
        self._inbox = Inbox()
        self._on_room: Callable[[], None] | None = None
        self._sha = hashlib.sha256()
        self.opened_at = time.monotonic()
        self.heard_at = self.opened_at  # last audio or KeepAlive
        self._arrivals = Arrivals(service.settings.live_pause_s)
        self._finishing: Finish | Fail | None = None
        self._waiting: Command | None = None  # waits until the audio before it is decoded
        self._closed = False  # the audio has ended; finals are still expected
        self._hurry = False
        self._noticed = 0
        self.ended = False
        self.ended_at = 0.0
        self.resumed = 0

    def _begin(self, request: LiveRequest) -> None:
        self.request = request
        self._decoder = WireDecoder(request.wire, lambda: self._schedule(self))
        self._drain = Drain(self._decoder)
        self.channels = StreamSessions(self._service, request, self._emit, lambda: self._schedule(self))

    # ---- from the event loop ----

    def offer(self, data: bytes) -> None:
        """Take audio; check `has_room` before the next call."""
        self.heard_at = time.monotonic()
        if not data or not self._inbox.put_audio(data):
            return
        self._arrivals.note(self.heard_at)
        if self.request.wire.encoding not in RAW or self.buffered_s >= self._load.step_s:
            self._schedule(self)

    def command(self, command: Command) -> bool:
        """Queue a command behind the audio; return False if the stream's end was requested before."""
        self.heard_at = time.monotonic()
        accepted = self._inbox.put(command)
        self._schedule(self)
        return accepted

    def keep_alive(self) -> None:
        """The client has sent a sign of life."""
        self.heard_at = time.monotonic()

    def attached(self, *, again: bool) -> None:
        """A client has connected; `again`: after its connection had dropped."""
        self.heard_at = time.monotonic()
        if again:
            self.resumed += 1
            self._arrivals.restart(self.heard_at)

    @property
    def received_bytes(self) -> int:
        """Audio bytes received; a client continues here after a dropped connection."""
        return self._inbox.received_bytes

    @property
    def buffered_s(self) -> float:
        """Seconds of audio received and not processed yet."""
        return self._inbox.buffered_bytes / self._decoder.format.bytes_per_s

    @property
    def has_room(self) -> bool:
        """Whether more audio should be read from the client now."""
        held = self._inbox.buffered_bytes
        return self.ended or (
            self.buffered_s < self._settings.live_max_buffer_s
            and held < MOST_BYTES
            and len(self._inbox) < MOST_ITEMS
            and (held < FREE_BYTES or not self._budget.exhausted)
        )

    def when_room(self, call: Callable[[], None]) -> None:
        """Have `call` called once, on any thread, when there is room."""
        self._on_room = call
        if self.has_room:
            self._notify_room()

    def _notify_room(self) -> None:
        call, self._on_room = self._on_room, None
        if call is not None:
            call()

    def hurry(self) -> None:
        """Process waiting audio without a speed limit, because the server is stopping."""
        self._hurry = True

    def drop_backlog(self) -> int:
        """Drop the unprocessed audio, because the client is gone; return its bytes."""
        dropped = self._inbox.drop_audio() + self._decoder.abort()
        self._schedule(self)
        return dropped

    # ---- on the executor ----

    def step(self) -> bool:
        """Process a bounded amount of waiting audio and commands; return whether more can be done at once."""
        more = False
        if not self.ended:
            try:
                self.channels.collect()
                more = self._work()
                self._look_for_pause()
                self.channels.collect()
                self.channels.request_partials(self._load.level)
            except SpeechpipeError as error:
                self._give_up(error)
            self._emit_notices()
            if self._closed and self.channels.done:
                self._end()
        self._held.set(0 if self.ended else self._inbox.buffered_bytes + self._decoder.held_bytes)
        if self.has_room:
            self._notify_room()
        return more and not self.ended

    def broken(self, error: Exception) -> None:
        """End the stream at once after an unexpected exception in a step."""
        self._give_up(StageFailed("live", f"{type(error).__name__}: {error}"))
        self._held.set(0)
        self._notify_room()

    def _work(self) -> bool:
        left_s = QUANTUM_S
        if self._decoder.has_samples and self._may_feed():
            blocks = self._decoder.take(left_s)
            self.channels.feed(blocks)
            left_s -= len(blocks[0]) / SAMPLE_RATE_HZ if blocks else 0.0
        if (command := self._waiting) is not None:
            if not self._drain.done():
                return self._decoder.has_samples and self._may_feed()
            self._waiting = None
            self._obey(command)
        while left_s > 0 and not self._finishing:
            if self._inbox.audio_is_next and (not self._may_feed() or self._decoder.full):
                return False  # the manager's tick schedules it again
            match item := self._inbox.take(max(1, int(left_s * self._decoder.format.bytes_per_s))):
                case None:
                    return False
                case bytes():
                    left_s -= len(item) / self._decoder.format.bytes_per_s
                    self._sha.update(item)
                    self._drain.feeding()
                    self.channels.feed(self._decoder.feed(item))
                case Flush() | Clear() | Change() if not self._drain.done():
                    self._waiting = item
                    return self._decoder.has_samples and self._may_feed()
                case _:
                    self._obey(item)
        if self._finishing and not self._closed and self._decoder.exhausted:
            self.channels.feed(self._decoder.flush())
            self._close()
        waits = self._decoder.has_samples if self._finishing else self.waits(self._load.step_s)
        return waits and self._may_feed()

    def _may_feed(self) -> bool:
        """Whether more audio may be fed now: within the speed limit, and not far ahead of the recognizers."""
        speed = 0 if self._hurry else self._settings.live_max_speed
        if speed and self.channels.audio_s > BURST_S + speed * (time.monotonic() - self.opened_at):
            return False
        return self.channels.backlog_s < self._settings.live_max_buffer_s and self.channels.waiting_s < MOST_WAITING_S

    def _obey(self, command: Command) -> None:
        match command:
            case Flush():
                self.channels.flush()
            case Clear():
                self.channels.clear()
                self._emit(Cleared(self.channels.audio_s))
            case Change():
                self.channels.change(command)
            case Restart():
                self.channels.abort()
                self._begin(command.request)
            case Finish() | Fail():
                self._finishing = command
                self.channels.feed(self._decoder.finish())

    def _close(self) -> None:
        self._closed = True
        self.channels.finish()

    def _look_for_pause(self) -> None:
        """End the open segment if a connected client has sent nothing for a while."""
        if self._finishing or self.outbox.detached_at is not None or len(self._inbox) or self._decoder.has_samples:
            return
        if (silent_s := self._arrivals.pause_s(time.monotonic())) and self._waiting is None and self._drain.done():
            self.channels.pause(silent_s)

    def _give_up(self, error: SpeechpipeError) -> None:
        """End the stream because of an error; earlier audio is still transcribed, unless a stage failed."""
        over = self._closed
        self._finishing = Fail(error)
        self._waiting = None
        self._decoder.abort()
        self._inbox.close()
        try:
            if not over and not isinstance(error, StageFailed):
                self._close()
                return
            self.channels.abort()
        except SpeechpipeError as another:
            self._finishing = Fail(another)
            self.channels.abort()
        self._end()

    def _emit_notices(self) -> None:
        notices = self._decoder.notices
        while self._noticed < len(notices):
            self._emit(Noticed(notices[self._noticed]))
            self._noticed += 1

    def _emit(self, event: Event) -> None:
        if isinstance(event, Final):
            self.outbox.forget_partial(event.channel)
        for message in self.dialect.render(event):
            message.setdefault("speechpipe", {})["received_bytes"] = self._decoder.received_bytes
            if isinstance(event, Partial):
                self.outbox.put_partial(event.channel, message)
            else:
                self.outbox.put(message)

    # ---- the end ----

    def _end(self) -> None:
        if self.ended:
            return
        self.ended, self.ended_at = True, time.monotonic()
        goodbye = Goodbye(CLOSE_CODE[SpeechpipeError], "internal error")
        try:
            goodbye = self._conclude()
        finally:  # the connection must be closed in any case
            self.outbox.close(goodbye)

    def _conclude(self) -> Goodbye:
        finishing = self._finishing or Finish("aborted")
        error = finishing.error if isinstance(finishing, Fail) else None
        outcome = finishing.error.cause if isinstance(finishing, Fail) else finishing.outcome
        channels, wire = self.channels, self._decoder
        asked = self.request
        notices = [*asked.notices, *asked.not_honoured, *wire.notices, *channels.notices]
        if error is None and channels.audio_s > 0 and not channels.texts:
            what = f"no word was recognised in {channels.finals} segments" if channels.finals else "no speech was found"
            notices.append(Notice("no_text", f"{what} in {channels.audio_s:.1f} s of audio"))
        channels.conclude()
        ended = Ended(outcome, channels.audio_s, self._sha.hexdigest(), channels.accounting, tuple(notices), error)
        self._emit(ended)
        facts = InputFacts(
            bytes=self.received_bytes,
            rate_hz=wire.rate_hz,
            channels=wire.format.channels,
            codec=f"{wire.container or 'raw'}/{wire.format.encoding or '?'}",
            notices=len(notices),
        )
        channels.record(facts, outcome, time.monotonic() - self.opened_at, self.measures)
        code = error_row(error, CLOSE_CODE) if error is not None else CLOSED.get(outcome, 1000)
        return Goodbye(code, error.message if error is not None else outcome)

    # ---- facts ----

    @property
    def ending(self) -> bool:
        """Whether its end was requested, by the client or by the manager."""
        return self._inbox.ended

    def waits(self, least_s: float) -> bool:
        """Whether there is enough work for a step: a command, or at least `least_s` seconds of audio."""
        if self._waiting is not None:
            return self._decoder.has_samples or self._drain.settled
        commands = len(self._inbox) > 0 and (self.ending or not self._inbox.audio_is_next)
        return commands or self.buffered_s >= least_s or self._decoder.has_samples

    def paused(self, now: float) -> bool:
        """Whether a connected client has stopped sending audio."""
        return self.outbox.detached_at is None and self._arrivals.pause_s(now) > 0

    @property
    def idle(self) -> bool:
        """Whether everything received has been processed."""
        return self._inbox.buffered_bytes == 0 and not self._decoder.has_samples and self._waiting is None

    @property
    def measures(self) -> dict[str, float]:
        """The `live.*` measures of the session record."""
        counts = self.channels.counts
        return {
            "live.partials": counts["sent"],
            "live.partials_withheld": counts["thinned"] + counts["dropped"] + self.outbox.superseded,
            "live.resumed": self.resumed,
            "live.replayed": self.outbox.replayed,
            "live.buffered_s": self.buffered_s,
        }

    def late_s(self, now: float) -> float | None:
        """Return the delay of processing in seconds; None if audio came faster than real time, so that it must wait."""
        if self.channels.audio_s + self.buffered_s > now - self.opened_at + 1.0:
            return None
        return max(self._inbox.waiting_s(now), self._decoder.waiting_s(now)) + self.channels.late_s(now)
