"""The worker process: `python -m speechpipe.cascade.workers.worker SOCKET INFLIGHT NICE`, started by `process.py`.

SOCKET and INFLIGHT are inherited descriptors. The worker reads requests until the socket closes, so it does not outlive
the server. It ignores SIGINT, SIGTERM and SIGHUP, which a terminal or service manager may send to all processes: the
server decides when its work in progress ends.
"""

import gc
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from speechpipe.cascade.asr import DecodeOptions, Recognizer, RecognizerStream, load_recognizer
from speechpipe.cascade.workers import RecognizerSpec
from speechpipe.cascade.workers.inflight import InFlight
from speechpipe.cascade.workers.messages import (
    Cancel,
    Cancelled,
    Feed,
    Final,
    Finish,
    Load,
    Loaded,
    Open,
    Partial,
    Progress,
    Request,
    RequestPartial,
    Step,
)
from speechpipe.cascade.workers.schedule import Schedule
from speechpipe.foundation import system
from speechpipe.types import SAMPLE_RATE_HZ, NullCause, Transcript

WARM_UP_S = 0.5
GENTLE_SHARE = 0.25
"""Share of a core that a gentle warm-up uses, for example of a candidate beside live audio."""

PARTIAL_SHARE = 0.2
"""Largest share of a worker's time for partial results of one stream; they are made only while it is idle."""


@dataclass
class _Running:
    stream: RecognizerStream | None  # None once it has failed
    cpu_s: float = 0.0
    samples: int = 0
    partial_after: float = 0.0  # monotonic time before which no partial result is made
    error: str = ""


class Worker:
    """Loaded recognizers by spec and open streams by number; handles one request at a time."""

    def __init__(self, connection: "Connection[Any, Any]", inflight: InFlight) -> None:
        self._connection = connection
        self._inflight = inflight
        self._recognizers: dict[object, Recognizer] = {}
        self._streams: dict[int, _Running] = {}
        self._schedule = Schedule()

    def serve(self) -> None:
        """Answer requests until the server closes the connection."""
        while True:
            try:
                self._take()
                if self._schedule:
                    self._answer(self._schedule.next())
            except (EOFError, ConnectionError):
                return

    def _take(self) -> None:
        """Schedule the requests that have arrived; wait for one if there is no work."""
        while not self._schedule or self._connection.poll(0):
            match request := self._receive():
                case Load():
                    self._connection.send(self._load(request))
                case Cancel(number):
                    self._schedule.add(request)
                    cancelled = self._streams.pop(number, None)
                    if cancelled is not None and cancelled.stream is not None:
                        cancelled.stream.cancel()
                    self._connection.send(Cancelled(number))
                case _:
                    self._schedule.add(request)

    def _receive(self) -> Request:
        """Wait for a request.

        Raises:
            EOFError: the server has closed the connection, perhaps within a request.
        """
        try:
            request: Request = self._connection.recv()
        except OSError as error:
            raise EOFError from error
        return request

    def _answer(self, request: Step | RequestPartial) -> None:
        number = request.stream
        self._inflight.set(number)
        started = time.thread_time()
        if isinstance(request, RequestPartial):
            self._send_partial(number)
        else:
            running = self._streams.setdefault(number, _Running(None))
            transcript = self._step(request, running)
            running.cpu_s += time.thread_time() - started
            if transcript is None:
                self._connection.send(Progress(number, running.samples))
            else:
                del self._streams[number]
                context = running.stream.context() if running.stream is not None else ""
                self._connection.send(Final(number, transcript, running.cpu_s, context))
        self._inflight.set(0)

    def _step(self, request: Step, running: _Running) -> Transcript | None:
        """Do one step of a stream. A failure is kept, and reported when the stream finishes."""
        try:
            match request:
                case Open(_, spec, options):
                    running.stream = self._recognizer(spec).open(options)
                case Feed(_, samples) if running.stream is not None:
                    running.stream.feed(samples)
                    running.samples += len(samples)
                case Finish() if running.stream is not None:
                    return running.stream.finish()
        except Exception as error:  # noqa: BLE001 - the worker loop: one segment's failure is that segment's result
            running.stream = None
            running.error = f"{type(error).__name__}: {error}"
        if isinstance(request, Finish):
            return Transcript.null(NullCause.ERROR, running.error or "no stream was open")
        return None

    def _send_partial(self, number: int) -> None:
        """Send the partial text; an empty one if there is none, or if it would exceed `PARTIAL_SHARE`."""
        running = self._streams.get(number)
        text = ""
        now = time.monotonic()
        if running is not None and running.stream is not None and now >= running.partial_after:
            try:
                text = running.stream.partial()
            except Exception as error:  # noqa: BLE001 - the worker loop: reported when the stream finishes
                running.stream = None
                running.error = f"{type(error).__name__}: {error}"
            took = time.monotonic() - now
            running.partial_after = now + took / PARTIAL_SHARE
            running.cpu_s += took
        self._connection.send(Partial(number, text, running.samples if running is not None else 0))

    def _recognizer(self, spec: RecognizerSpec) -> Recognizer:
        if spec.key not in self._recognizers:
            self._recognizers[spec.key] = load_recognizer(spec.implementation, spec.files, **spec.options)
        return self._recognizers[spec.key]

    def _load(self, request: Load) -> Loaded:
        try:
            with system.giving_way(request.gentle):
                _warm(self._recognizer(request.spec), request)
        except Exception as error:  # noqa: BLE001 - the worker loop: sent to the pool, which raises it
            return Loaded(request.spec, f"{type(error).__name__}: {error}")
        gc.collect()
        gc.freeze()  # models live as long as the process; exclude them from garbage collection
        return Loaded(request.spec)


def _warm(recognizer: Recognizer, request: Load) -> None:
    """Decode faint noise, so that the first real segment is not delayed by lazy initialisation and page faults."""
    noise = np.random.default_rng(0).normal(0, 1e-3, int(WARM_UP_S * SAMPLE_RATE_HZ)).astype(np.float32)
    pause = _Pause(request.gentle)
    opened = []
    for _ in range(request.streams):
        opened.append(recognizer.open(DecodeOptions(offline=request.offline)))
        pause.take()
    for stream in opened:
        for start in range(0, len(noise), len(noise) // 5):
            stream.feed(noise[start : start + len(noise) // 5])
            pause.take()
        stream.finish()
        pause.take()


class _Pause:
    """Sleeps after each piece of work, so that the CPU share stays at `GENTLE_SHARE`; does nothing if not `wanted`."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._cpu_s = time.thread_time()

    def take(self) -> None:
        if self._wanted:
            time.sleep((1 / GENTLE_SHARE - 1) * (time.thread_time() - self._cpu_s))
            self._cpu_s = time.thread_time()


def main(descriptor: int, inflight: int, nice: int) -> None:
    """Run a worker on inherited descriptors: of the socket and of the `InFlight` memory."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    system.give_way(nice)
    Worker(Connection(descriptor), InFlight(inflight)).serve()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
