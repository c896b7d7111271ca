"""One live connection's cascade: bytes and commands in, messages out. It outlives its connection for a while."""

import hashlib
import secrets
import time
from collections.abc import Callable

from speechpipe.audio.wire import RAW, WireDecoder
from speechpipe.errors import CLOSE_CODE, SpeechpipeError, StageFailed, error_row
from speechpipe.live import (
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
    Partial,
    Restart,
)
from speechpipe.live.channels import Channels
from speechpipe.live.inbox import Inbox
from speechpipe.live.lanes import State
from speechpipe.live.load import Load
from speechpipe.live.outbox import Goodbye, Outbox
from speechpipe.service import Service
from speechpipe.speech_metrics import InputFacts

QUANTUM_S = 0.5
"""Audio worked on in one step, at most: then it is the next stream's turn."""

CLOSED = {"shutdown": 1012}  # service restart
BURST_S = 10.0
"""Audio taken at any speed when a stream begins."""


class LiveStream:
    """An actor: `offer` and `command` from the event loop, `step` on a lane."""

    def __init__(
        self,
        service: Service,
        request: LiveRequest,
        dialect: Dialect,
        schedule: Callable[["LiveStream"], None],
        load: Load,
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
        self._service = service
        self._decoder: WireDecoder
        self.channels: Channels
        self._begin(request)
        self._inbox = Inbox()
        self._on_room: Callable[[], None] | None = None
        self._sha = hashlib.sha256()
        self.opened_at = time.monotonic()
        self.heard_at = self.opened_at  # last audio or KeepAlive
        self._finishing: Finish | Fail | None = None
        self.ended = False
        self.resumed = 0

    def _begin(self, request: LiveRequest) -> None:
        self.request = request
        self._decoder = WireDecoder(request.wire, lambda: self._schedule(self))
        self.channels = Channels(self._service, request, self._emit, lambda: self._schedule(self))

    # ---- from the event loop ----

    def offer(self, data: bytes) -> None:
        """Take audio as it came; look at `has_room` before the next."""
        self.heard_at = time.monotonic()
        if not data:
            return
        self._inbox.put_audio(data)
        if self.request.wire.encoding not in RAW or self.buffered_s >= self._load.step_s:
            self._schedule(self)

    def command(self, command: Command) -> None:
        """Have something done after the audio before it."""
        self.heard_at = time.monotonic()
        self._inbox.put(command)
        self._schedule(self)

    def keep_alive(self) -> None:
        """Note that the client is there."""
        self.heard_at = time.monotonic()

    @property
    def received_bytes(self) -> int:
        """Audio bytes taken from the client: where it goes on after a dropped connection."""
        return self._inbox.received_bytes

    @property
    def buffered_s(self) -> float:
        """Seconds received and not worked on."""
        return self._inbox.buffered_bytes / self._decoder.format.bytes_per_s

    @property
    def has_room(self) -> bool:
        """Whether more audio should be read from the client now."""
        return self.ended or self.buffered_s < self._settings.live_max_buffer_s

    def when_room(self, call: Callable[[], None]) -> None:
        """Have `call` called once, from any thread, when there is room."""
        self._on_room = call
        if self.has_room:
            self._tell_room()

    def _tell_room(self) -> None:
        call, self._on_room = self._on_room, None
        if call is not None:
            call()

    # ---- on a lane ----

    def step(self) -> bool:
        """Work on a bounded piece of what waits; return whether there is more to do at once."""
        more = False
        if not self.ended:
            try:
                self.channels.collect()
                more = self._work()
                self.channels.collect()
                self.channels.peek(self._load.level)
            except SpeechpipeError as error:
                self._give_up(error)
            if self._finishing and self.channels.done:
                self._end()
        if self.has_room:
            self._tell_room()
        return more and not self.ended

    def broken(self, error: Exception) -> None:
        """End at once: a step raised what it should not."""
        self._give_up(StageFailed("live", f"{type(error).__name__}: {error}"))

    def _work(self) -> bool:
        if self.request.wire.encoding not in RAW and not self._finishing:
            self.channels.feed(self._decoder.feed(b""))  # what FFmpeg has decoded meanwhile
        left = max(1, int(QUANTUM_S * self._decoder.format.bytes_per_s))
        while left > 0 and not self._finishing:
            if self._inbox.audio_is_next and not self._may_feed():
                return False  # the hub's tick comes back to it
            match item := self._inbox.take(left):
                case None:
                    return False
                case bytes():
                    left -= len(item)
                    self._sha.update(item)
                    self.channels.feed(self._decoder.feed(item))
                case _:
                    self._obey(item)
        return len(self._inbox) > 0

    def _may_feed(self) -> bool:
        """Whether audio may go on now: not faster than allowed, and not far ahead of the recognizers."""
        speed = self._settings.live_max_speed
        if speed and self.channels.audio_s > BURST_S + speed * (time.monotonic() - self.opened_at):
            return False
        return not self._decoder.full and self.channels.backlog_s < self._settings.live_max_buffer_s

    def _obey(self, command: Command) -> None:
        match command:
            case Flush():
                self.channels.flush()
            case Clear():
                self.channels.clear()
                self._emit(Cleared())
            case Change():
                self.channels.change(command)
            case Restart():
                self._begin(command.request)
            case Finish() | Fail():
                self._finishing = command
                self.channels.feed(self._decoder.finish())
                self.channels.finish()

    def _give_up(self, error: SpeechpipeError) -> None:
        """An error ends the stream; what was said before it is still transcribed, unless a stage broke."""
        again, self._finishing = self._finishing is not None, Fail(error)
        self._decoder.abort()
        if again or isinstance(error, StageFailed):
            self.channels.abort()
            self._end()
        else:
            self.channels.finish()

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
        self.ended = True
        finishing = self._finishing or Finish("aborted")
        error = finishing.error if isinstance(finishing, Fail) else None
        outcome = finishing.error.cause if isinstance(finishing, Fail) else finishing.outcome
        channels = self.channels
        notices = (*self.request.notices, *self._decoder.notices, *channels.notices)
        channels.conclude()
        self._emit(Ended(outcome, channels.audio_s, self._sha.hexdigest(), channels.accounting, notices, error))
        wire = self._decoder
        facts = InputFacts(
            bytes=self.received_bytes,
            rate_hz=wire.rate_hz,
            channels=wire.format.channels,
            codec=f"{wire.container or 'raw'}/{wire.format.encoding or '?'}",
            notices=len(notices),
        )
        channels.record(facts, outcome, time.monotonic() - self.opened_at, self.measures)
        code = error_row(error, CLOSE_CODE) if error is not None else CLOSED.get(outcome, 1000)
        self.outbox.close(Goodbye(code, error.message[:120] if error is not None else outcome))

    # ---- facts ----

    @property
    def measures(self) -> dict[str, float]:
        """How a live session fared beyond what any session has."""
        counts = self.channels.counts
        return {
            "live.partials": counts["sent"],
            "live.partials_withheld": counts["thinned"] + counts["dropped"] + self.outbox.superseded,
            "live.resumed": self.resumed,
            "live.replayed": self.outbox.replayed,
            "live.buffered_s": self.buffered_s,
        }

    def late_s(self, now: float) -> float | None:
        """Return how late audio is worked on; None where it came faster than real time and waits by choice."""
        if self.channels.audio_s + self.buffered_s > now - self.opened_at + 1.0:
            return None
        return self._inbox.waiting_s(now) + self.channels.backlog_s
