"""The worker process: `python -m speechpipe.workers.worker FD NICE`.

It reads requests from the inherited socket until that closes, so it never outlives the server. Signals that
a terminal or a service manager sends to the whole group are the parent's to handle: work in progress is drained.
"""

import gc
import os
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np

from speechpipe.asr import DecodeOptions, Recognizer, RecognizerStream, load_recognizer
from speechpipe.types import SAMPLE_RATE_HZ, NullCause, Transcript
from speechpipe.workers import RecognizerSpec
from speechpipe.workers.messages import Cancel, Feed, Final, Finish, Load, Loaded, Open, Progress, Request

WARM_UP_S = 0.5


@dataclass
class _Running:
    stream: RecognizerStream | None  # None once it has failed
    cpu_s: float = 0.0
    error: str = ""


class Worker:
    """Recognizers by spec and streams by number, one request at a time."""

    def __init__(self, connection: "Connection[object, object]") -> None:
        self._connection = connection
        self._recognizers: dict[object, Recognizer] = {}
        self._streams: dict[int, _Running] = {}

    def serve(self) -> None:
        """Answer requests until the other end closes."""
        while True:
            try:
                request = self._connection.recv()
                self._answer(request)  # type: ignore[arg-type]
            except (EOFError, ConnectionError):
                return

    def _answer(self, request: Request) -> None:
        match request:
            case Load(spec):
                self._connection.send(self._load(spec))
            case Cancel(number):
                cancelled = self._streams.pop(number, None)
                if cancelled is not None and cancelled.stream is not None:
                    cancelled.stream.cancel()
            case Open(number) | Feed(number) | Finish(number):
                started = time.thread_time()
                running = self._streams.setdefault(number, _Running(None))
                transcript = self._step(request, running)
                running.cpu_s += time.thread_time() - started
                if transcript is None:
                    self._connection.send(Progress(number))
                else:
                    del self._streams[number]
                    self._connection.send(Final(number, transcript, running.cpu_s))

    def _step(self, request: Open | Feed | Finish, running: _Running) -> Transcript | None:
        """Do one step of a stream; a failure is kept and told when the stream finishes."""
        try:
            match request:
                case Open(_, spec, options):
                    running.stream = self._recognizer(spec).open(options)
                case Feed(_, samples) if running.stream is not None:
                    running.stream.feed(samples)
                case Finish() if running.stream is not None:
                    return running.stream.finish()
        except Exception as error:  # noqa: BLE001 - the worker loop: one segment's failure is that segment's result
            running.stream = None
            running.error = f"{type(error).__name__}: {error}"
        if isinstance(request, Finish):
            return Transcript.null(NullCause.ERROR, running.error or "no stream was open")
        return None

    def _recognizer(self, spec: RecognizerSpec) -> Recognizer:
        if spec.key not in self._recognizers:
            recognizer = load_recognizer(spec.implementation, **spec.options)
            _warm(recognizer)
            self._recognizers[spec.key] = recognizer
            gc.collect()
            gc.freeze()  # models live as long as the process; collections need not walk them
        return self._recognizers[spec.key]

    def _load(self, spec: RecognizerSpec) -> Loaded:
        try:
            self._recognizer(spec)
        except Exception as error:  # noqa: BLE001 - the worker loop: told to the pool, which raises it
            return Loaded(spec, f"{type(error).__name__}: {error}")
        return Loaded(spec)


def _warm(recognizer: Recognizer) -> None:
    """Decode faint noise once, so that the first person does not wait for lazy tables and page faults."""
    noise = np.random.default_rng(0).normal(0, 1e-3, int(WARM_UP_S * SAMPLE_RATE_HZ)).astype(np.float32)
    stream = recognizer.open(DecodeOptions(whole=True))
    stream.feed(noise)
    stream.finish()


def main(descriptor: int, nice: int) -> None:
    """Run a worker on an inherited socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(nice)
    Worker(Connection(descriptor)).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
