"""The decodes of a worker: steps of streams, complete segments together, and work on idle capacity.

Used by one thread, which does one piece of work at a time, so the CPU time of the process is that of this piece,
whatever threads the recognizer's library works on. Only a partial result may be underway beside it (`underway.py`), so
that the end of a segment needs not wait for it; what both take is divided between them roughly, and counted once.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from speechpipe.cascade.asr import (
    BatchRecognizer,
    BufferedStream,
    DecodeOptions,
    GrowingStream,
    Piece,
    Recognizer,
    RecognizerStream,
    StreamWithSteps,
)
from speechpipe.cascade.workers import RecognizerSpec
from speechpipe.cascade.workers.idle import IdleWork, OpenSegment
from speechpipe.cascade.workers.inflight import MOST, InFlight
from speechpipe.cascade.workers.messages import (
    Effort,
    Feed,
    Final,
    Finish,
    Open,
    Opened,
    Partial,
    Progress,
    Reply,
    RequestPartial,
    Step,
    Together,
)
from speechpipe.cascade.workers.schedule import Schedule
from speechpipe.cascade.workers.spent import CpuCounter
from speechpipe.cascade.workers.underway import Underway
from speechpipe.types import SAMPLE_RATE_HZ, NullCause, Transcript

LOOK_S = 0.005
"""How often a worker looks whether a partial result that is underway is there."""


def batch_s_of(recognizer: Recognizer | None) -> float:
    """Return the seconds of audio that a recognizer decodes together; 0 if it decodes one segment at a time."""
    return recognizer.batch_s if isinstance(recognizer, BatchRecognizer) else 0.0


@dataclass
class _Running:
    """A stream. `stream` is None before it is opened and once it has failed."""

    stream: RecognizerStream | None = None
    recognizer: Recognizer | None = None
    options: DecodeOptions = field(default_factory=DecodeOptions)
    segment: OpenSegment = field(default_factory=lambda: OpenSegment(buffered=False))
    cpu_s: float = 0.0
    work_s: float = 0.0
    spare_cpu_s: float = 0.0
    error: str = ""

    def fail(self, error: Exception) -> float:
        """Keep the failure of a decode; it is reported when the stream finishes. Return the CPU seconds in vain."""
        self.stream, self.error = None, f"{type(error).__name__}: {error}"
        return self.segment.fail()

    @property
    def batch_s(self) -> float:
        """Seconds of complete segments to decode at once; 0: this one is decoded alone."""
        waits = self.options.offline and isinstance(self.stream, BufferedStream)
        return batch_s_of(self.recognizer) if waits else 0.0


class Decoder:
    """Open streams by number, and the work that waits for them."""

    def __init__(
        self,
        recognizer: Callable[[RecognizerSpec], Recognizer],
        inflight: InFlight,
        send: Callable[[Reply], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a decoder without streams.

        Args:
            recognizer: returns the recognizer of a spec, loaded if need be; what it raises is the segment's failure.
            inflight: says what is being decoded.
            send: takes the replies.
            clock: wall time in seconds.
        """
        self._recognizer = recognizer
        self._inflight = inflight
        self._send = send
        self._clock = clock
        self._counter = CpuCounter(clock)
        self._decoding: tuple[int, ...] = ()
        self._streams: dict[int, _Running] = {}
        self._schedule = Schedule()
        self._idle = IdleWork()
        self._ended: deque[int] = deque()  # complete segments that are decoded together
        self._alone: deque[int] = deque()  # complete segments whose batch raised
        self._underway: Underway | None = None
        self._spare_cpu_s = 0.0

    # ---- requests ----

    def take(self, request: Step | Together | RequestPartial) -> None:
        """Schedule a request."""
        match request:
            case Together(steps):
                for step in steps:
                    self._schedule.add(step)
            case RequestPartial(number):
                self._idle.want(number)
            case _:
                self._schedule.add(request)

    def cancel(self, number: int) -> None:
        """Drop a stream and its waiting requests."""
        self._schedule.drop(number)
        self._idle.close(number)
        for waiting in (self._ended, self._alone):
            if number in waiting:
                waiting.remove(number)
        self._give_up(number)
        running = self._streams.pop(number, None)
        if running is not None:
            self._spare_cpu_s += running.segment.drop_guess()
            if running.stream is not None:
                running.stream.cancel()

    # ---- work ----

    def work(self) -> bool:
        """Do the most urgent piece of work and send its reply; return False if there is none now."""
        if self._schedule and not self._batch_is_full:
            self._step(self._schedule.next())
        elif self._alone:
            self._decode_together([self._alone.popleft()])
        elif self._ended:
            self._decode_together(self._next_batch())
        elif (number := self._idle.next(self._clock(), only_pauses=self._underway is not None)) is not None:
            self._decode_unfinished(number)
        else:
            return self._look()
        return True

    @property
    def waits(self) -> bool:
        """Whether there is work other than that on idle capacity."""
        return bool(self._schedule or self._ended or self._alone)

    @property
    def wait_s(self) -> float | None:
        """Seconds after which there may be work although no request has arrived; None: never."""
        if self.waits:
            return 0.0
        return self._idle.wait_s(self._clock()) if self._underway is None else LOOK_S

    def _step(self, step: Step) -> None:
        number = step.stream
        running = self._streams.setdefault(number, _Running())
        self._mark(number)
        spent = self._counter.begin()
        transcript = self._done(step, running)
        cpu_s, work_s = spent.take()
        running.cpu_s += cpu_s
        running.work_s += work_s
        self._idle.duty.add(self._clock(), work_s)
        match step:
            case Open():
                buffered = isinstance(running.stream, BufferedStream)
                self._send(Opened(number, buffered, batch_s_of(running.recognizer)))
            case Feed():
                self._send(Progress(number, running.segment.samples))
            case Finish() if transcript is not None:
                self._finish(number, running, transcript)
        self._mark()

    def _mark(self, *numbers: int) -> None:
        """Say what is being decoded."""
        self._decoding = numbers
        beside = () if self._underway is None or self._underway.number in numbers else (self._underway.number,)
        self._inflight.set(*numbers[: MOST - len(beside)], *beside)

    def _done(self, step: Step, running: _Running) -> Transcript | None:
        """Do one step of a stream; return the transcript of a Finish, or None if it is decoded later."""
        try:
            match step:
                case Open(number, spec, options):
                    running.options, running.recognizer = options, self._recognizer(spec)
                    running.stream = running.recognizer.open(options)
                    live_buffered = isinstance(running.stream, BufferedStream) and not options.offline
                    running.segment = OpenSegment(buffered=live_buffered)
                    self._idle.open(number, running.segment)
                case Feed(_, samples, endpoint_near):
                    self._waste(running, running.segment.feed(len(samples), endpoint_near=endpoint_near))
                    if running.stream is not None:
                        running.stream.feed(samples)
                case Finish(number) if running.stream is not None:
                    return self._ended_transcript(number, running, running.stream)
        except Exception as error:  # noqa: BLE001 - the worker loop: one segment's failure is that segment's result
            self._waste(running, running.fail(error))
        if isinstance(step, Finish):
            return Transcript.null(NullCause.ERROR, running.error or "no stream was open")
        return None

    def _ended_transcript(self, number: int, running: _Running, stream: RecognizerStream) -> Transcript | None:
        """Return the transcript of an ended stream, or None if it waits to be decoded with others."""
        if (guess := running.segment.take_guess()) is not None:
            self._idle.duty.add(self._clock(), guess[1])
            return guess[0]
        if running.batch_s:
            self._ended.append(number)
            return None
        return stream.finish()

    def _finish(self, number: int, running: _Running, transcript: Transcript) -> None:
        """Send the final result of a stream."""
        self._give_up(number)
        del self._streams[number]
        self._idle.close(number)
        context = running.stream.context() if running.stream is not None else ""
        segment = running.segment
        effort = Effort(
            cpu_s=running.cpu_s,
            work_s=running.work_s,
            spare_cpu_s=running.spare_cpu_s,
            speculations=segment.speculations,
            speculated=segment.take_guess() is not None,
        )
        self._send(Final(number, transcript, effort, context, self._spare_cpu_s))

    # ---- complete segments ----

    @property
    def _batch_is_full(self) -> bool:
        if not self._ended:
            return False
        limit_s = self._streams[self._ended[0]].batch_s
        return sum(self._streams[number].segment.samples for number in self._ended) >= limit_s * SAMPLE_RATE_HZ

    def _next_batch(self) -> list[int]:
        """Remove and return the segments to decode together: of one recognizer, at most `batch_s` seconds."""
        first = self._streams[self._ended[0]]
        left = first.batch_s * SAMPLE_RATE_HZ
        batch: list[int] = []
        for number in tuple(self._ended):
            running = self._streams[number]
            left -= running.segment.samples
            if running.recognizer is first.recognizer and (left >= 0 or not batch) and len(batch) < MOST:
                batch.append(number)
                self._ended.remove(number)
        return batch

    def _decode_together(self, numbers: list[int]) -> None:
        """Decode complete segments and send their finals. If that raises, each of several is decoded alone later."""
        streams = [self._streams[number] for number in numbers]
        recognizer = streams[0].recognizer
        assert isinstance(recognizer, BatchRecognizer)
        self._mark(*numbers)
        spent = self._counter.begin()
        try:
            transcripts = recognizer.transcribe([_piece(running) for running in streams])
            if len(transcripts) != len(streams):
                raise ValueError(f"{len(transcripts)} transcripts of {len(streams)} segments")
        except Exception as error:  # noqa: BLE001 - the worker loop: one segment's failure is that segment's result
            transcripts = []
            if len(streams) == 1:
                streams[0].fail(error)
                transcripts = [Transcript.null(NullCause.ERROR, streams[0].error)]
        cpu_s, work_s = spent.take()
        self._idle.duty.add(self._clock(), work_s)
        samples = sum(running.segment.samples for running in streams)
        for running in streams:
            share = running.segment.samples / samples if samples else 1 / len(streams)
            running.cpu_s += share * cpu_s
            running.work_s += share * work_s
        if not transcripts:
            self._alone += numbers
        for number, running, transcript in zip(numbers, streams, transcripts, strict=False):
            self._finish(number, running, transcript)
        self._mark()

    # ---- idle capacity ----

    def _decode_unfinished(self, number: int) -> None:
        """Decode an open segment and send a partial result; a speculative decode is kept for its end."""
        running = self._streams[number]
        segment, stream = running.segment, running.stream
        self._mark(number)
        spent, text = self._counter.begin(), ""
        guess: Transcript | None = None
        try:
            if segment.may_have_ended and isinstance(stream, StreamWithSteps):
                guess = stream.decode_looking(self._look)
            elif segment.may_have_ended and isinstance(stream, BufferedStream):
                guess = stream.decode(stream.samples())
            elif isinstance(stream, StreamWithSteps):
                self._underway = Underway(number, segment.samples, stream.partial_in_steps(), spent)
                self._look()
                return
            elif stream is not None:
                text = stream.partial()
        except Exception as error:  # noqa: BLE001 - the worker loop: reported when the stream finishes
            running.fail(error)
        cpu_s, work_s = spent.take()
        if guess is not None:
            text = guess.text
            segment.guessed(guess, work_s, cpu_s)
        self._partial(number, text, segment.samples, (cpu_s, work_s), wasted=guess is None)
        self._mark()

    def _look(self) -> bool:
        """Send the partial result that is underway, if it is there; return whether it was."""
        underway = self._underway
        if underway is None:
            return False
        running = self._streams[underway.number]
        try:
            if not underway.is_done():
                return False
        except Exception as error:  # noqa: BLE001 - the worker loop: reported when the stream finishes
            running.fail(error)
        self._underway = None
        if underway.samples > running.segment.covered:  # else a pause was decoded meanwhile, which knows more
            self._partial(underway.number, underway.text, underway.samples, underway.spent.take(), wasted=True)
        else:
            self._account(running, *underway.spent.take())
        self._mark(*self._decoding)
        return True

    def _give_up(self, number: int) -> None:
        """Drop what is underway of a stream."""
        if self._underway is not None and self._underway.number == number:
            self._underway.give_up()
            self._account(self._streams[number], *self._underway.spent.take())
            self._underway = None

    def _partial(self, number: int, text: str, samples: int, spent: tuple[float, float], *, wasted: bool) -> None:
        """Send the text of the first samples of a stream. `wasted`: its CPU time serves no final result."""
        running = self._streams[number]
        segment, stream = running.segment, running.stream
        stable = stream.stable if text and isinstance(stream, GrowingStream) else 0
        segment.decoded(text, samples, self._clock(), spent[1], stable)
        if wasted:
            self._account(running, *spent)
        else:
            running.cpu_s += spent[0]
            running.work_s += spent[1]
        requested = self._idle.answered(number)
        self._send(Partial(number, segment.text, samples, segment.stable, self._spare_cpu_s, requested))

    def _account(self, running: _Running, cpu_s: float, work_s: float) -> None:
        """Count time that serves no final result."""
        running.cpu_s += cpu_s
        running.work_s += work_s
        self._waste(running, cpu_s)

    def _waste(self, running: _Running, cpu_s: float) -> None:
        running.spare_cpu_s += cpu_s
        self._spare_cpu_s += cpu_s


def _piece(running: _Running) -> Piece:
    assert isinstance(running.stream, BufferedStream)
    return Piece(running.stream.samples(), running.options)
