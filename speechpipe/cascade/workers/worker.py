"""The worker process: `python -m speechpipe.cascade.workers.worker SOCKET INFLIGHT NICE`, started by `process.py`.

SOCKET and INFLIGHT are inherited descriptors. The worker reads requests until the socket closes, so it does not outlive
the server. It ignores SIGINT, SIGTERM and SIGHUP, which a terminal or service manager may send to all processes: the
server decides when its work in progress ends.
"""

import gc
import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from speechpipe.cascade.asr import DecodeOptions, Recognizer, load_recognizer
from speechpipe.cascade.workers import RecognizerSpec
from speechpipe.cascade.workers.decoding import Decoder, batch_s_of
from speechpipe.cascade.workers.inflight import InFlight
from speechpipe.cascade.workers.messages import Cancel, Cancelled, Load, Loaded, Request
from speechpipe.foundation import system
from speechpipe.types import SAMPLE_RATE_HZ

WARM_UP_S = 0.5
WARM_UP_LEVEL = 3e-3
"""Root mean square of the noise of a warm-up: -50 dBFS, which no recognizer skips as silence."""

COST_S = 2.0
"""Seconds of audio that are decoded to measure the cost of live audio before there is any."""

IDLE_S = 2.0
"""Seconds without work after which a worker gives the memory of its last decode back to the system: a quarter of its
memory with Whisper. To take it again costs the next decode a tenth of its time."""

GENTLE_SHARE = 0.25
"""Share of a core that a gentle warm-up uses, for example of a candidate beside live audio."""


class Worker:
    """Loaded recognizers by spec, and the decoder of their streams; handles one request at a time."""

    def __init__(self, connection: "Connection[Any, Any]", inflight: InFlight) -> None:
        self._connection = connection
        self._recognizers: dict[object, Recognizer] = {}
        self._decoder = Decoder(self._recognizer, inflight, connection.send)

    def serve(self) -> None:
        """Answer requests until the server closes the connection."""
        while True:
            try:
                self._take()
                self._decoder.work()
            except (EOFError, ConnectionError):
                return

    def _take(self) -> None:
        """Schedule the requests that have arrived; wait for one until there is work."""
        while self._arrives(self._decoder.wait_s):
            match request := self._receive():
                case Load():
                    self._connection.send(self._load(request))
                case Cancel(number):
                    self._decoder.cancel(number)
                    self._connection.send(Cancelled(number))
                case _:
                    self._decoder.take(request)

    def _arrives(self, wait_s: float | None) -> bool:
        """Wait up to `wait_s` seconds for a request, None: for ever; give memory back when none comes for a while."""
        if wait_s is not None:
            return self._connection.poll(wait_s)
        if not self._connection.poll(IDLE_S):
            system.trim_heap()
        return self._connection.poll(None)

    def _receive(self) -> Request:
        """Return the request that has arrived.

        Raises:
            EOFError: the server has closed the connection, perhaps within a request.
        """
        try:
            request: Request = self._connection.recv()
        except OSError as error:
            raise EOFError from error
        return request

    def _recognizer(self, spec: RecognizerSpec) -> Recognizer:
        if spec.key not in self._recognizers:
            self._recognizers[spec.key] = load_recognizer(spec.implementation, spec.files, **spec.options)
        return self._recognizers[spec.key]

    def _load(self, request: Load) -> Loaded:
        try:
            with system.giving_way(request.gentle):
                recognizer = self._recognizer(request.spec)
                cost = _warm(recognizer, request)
        except Exception as error:  # noqa: BLE001 - the worker loop: sent to the pool, which raises it
            return Loaded(request.spec, f"{type(error).__name__}: {error}")
        gc.collect()
        gc.freeze()  # models live as long as the process; exclude them from garbage collection
        system.trim_heap()  # what was used to load
        return Loaded(request.spec, "", batch_s_of(recognizer), cost)


def _warm(recognizer: Recognizer, request: Load) -> float:
    """Decode faint noise, so that the first real segment is not delayed by lazy initialisation and page faults.

    Returns the CPU seconds per second of live audio; 0 for a worker that decodes uploads.
    """
    noise = np.random.default_rng(0).normal(0, WARM_UP_LEVEL, int(COST_S * SAMPLE_RATE_HZ)).astype(np.float32)
    short = noise[: int(WARM_UP_S * SAMPLE_RATE_HZ)]
    pause = _Pause(request.gentle)
    opened = []
    for _ in range(request.streams):
        opened.append(recognizer.open(DecodeOptions(offline=request.offline)))
        pause.take()
    for stream in opened:
        for start in range(0, len(short), len(short) // 5):
            stream.feed(short[start : start + len(short) // 5])
            pause.take()
        stream.finish()
        pause.take()
    if request.offline:
        return 0.0
    begun = time.process_time()
    stream = recognizer.open(DecodeOptions())
    stream.feed(noise)
    stream.finish()
    cpu_s = time.process_time() - begun
    pause.take()
    return cpu_s / COST_S


class _Pause:
    """Sleeps after each piece of work, so that the CPU share stays at `GENTLE_SHARE`; does nothing if not `wanted`."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._cpu_s = time.process_time()

    def take(self) -> None:
        if self._wanted:
            time.sleep((1 / GENTLE_SHARE - 1) * (time.process_time() - self._cpu_s))
            self._cpu_s = time.process_time()


def main(descriptor: int, inflight: int, nice: int) -> None:
    """Run a worker on inherited descriptors: of the socket and of the `InFlight` memory."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    system.give_way(nice)
    Worker(Connection(descriptor), InFlight(inflight)).serve()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
