"""The number of live sessions that this machine can hold at a latency objective, beside its physical limit.

The limit is `cores / (decode cost x speech ratio + VAD cost)`: what a server without any overhead could hold. The costs
are measured with a bare loop on every core, before and after. The clients run on the same machine and are not
subtracted.
"""

import contextlib
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import httpx
import numpy as np

from speechpipe.app import compose
from speechpipe.bench.clients import Tally
from speechpipe.cascade.asr import DecodeOptions, load_recognizer
from speechpipe.cascade.vad import Closed
from speechpipe.cascade.vad.segmenter import Segmenter, SegmenterOptions
from speechpipe.config import Settings
from speechpipe.foundation import system
from speechpipe.serving.service import Service
from speechpipe.types import SAMPLE_RATE_HZ, Bundle, Samples

QUERY = "/v1/listen?encoding=linear16&sample_rate=16000&interim_results=true&model="
LIVE_FRAMES = 3  # scored in one call when a tenth of a second arrives
START_S = 60.0
RECOVER_S = 60.0
LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class Limit:
    """The smallest cost of one second of live audio, in CPU seconds."""

    decode_per_speech_s: float
    speech_ratio: float
    vad_per_s: float
    cores: int

    @property
    def sessions(self) -> float:
        """The sessions that the cores could hold without any overhead."""
        return self.cores / (self.decode_per_speech_s * self.speech_ratio + self.vad_per_s)

    def mean(self, other: "Limit") -> "Limit":
        """Return the mean of two measurements of the same audio."""
        return replace(
            self,
            decode_per_speech_s=(self.decode_per_speech_s + other.decode_per_speech_s) / 2,
            vad_per_s=(self.vad_per_s + other.vad_per_s) / 2,
        )


def physical_limit(service: Service, bundle: Bundle, audio: Samples) -> Limit:
    """Score and decode (n,) samples in this process, one after the other; return the costs."""
    vad = service.engine.vad(bundle.vad)
    frames = audio[: len(audio) // vad.frame_samples * vad.frame_samples].reshape(-1, vad.frame_samples)
    segmenter = Segmenter(SegmenterOptions().changed(bundle.segmenter), vad.frame_samples)
    stream = vad.open()
    started = time.process_time()
    scores = [stream.probabilities(frames[start : start + LIVE_FRAMES]) for start in range(0, len(frames), LIVE_FRAMES)]
    vad_s = time.process_time() - started
    levels = np.zeros(len(frames), np.float32)
    events = [*segmenter.push(np.concatenate(scores), levels), *segmenter.finish(len(audio))]
    segments = [event.segment for event in events if isinstance(event, Closed)]
    recognizer = load_recognizer(bundle.asr.implementation, bundle.asr.files, **bundle.asr.options)
    recognizer.open(DecodeOptions()).finish()
    decode_s = 0.0
    for segment in segments:
        begun = time.process_time()
        decoding = recognizer.open(DecodeOptions())
        for start in range(segment.start, segment.end, 512):
            decoding.feed(audio[start : min(start + 512, segment.end)])
        decoding.finish()
        decode_s += time.process_time() - begun
    spoken_s = sum(segment.duration_s for segment in segments)
    total_s = len(audio) / SAMPLE_RATE_HZ
    return Limit(decode_s / spoken_s, spoken_s / total_s, vad_s / total_s, service.settings.cores)


def limit_of_all_cores(bundle: str, audio: Samples) -> Limit:
    """Measure on every core at once, because cores share caches and clock frequency."""
    cores = Settings(bundle=bundle).cores
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as processes:
        limits = list(processes.map(_limit, [bundle] * cores, [audio] * cores))
    return Limit(
        decode_per_speech_s=statistics.mean(limit.decode_per_speech_s for limit in limits),
        speech_ratio=limits[0].speech_ratio,
        vad_per_s=statistics.mean(limit.vad_per_s for limit in limits),
        cores=cores,
    )


def _limit(bundle: str, audio: Samples) -> Limit:
    service = compose(Settings(bundle=bundle))
    return physical_limit(service, service.engine.champion, audio)


@contextlib.contextmanager
def served(command: Sequence[str], **environment: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a server that prints `running on URL` and `ready`; yield its URL and process.

    Raises:
        RuntimeError: it did not start within `START_S`.
    """
    with tempfile.TemporaryDirectory() as state, (Path(state) / "log").open("w+b") as log:
        variables = {"SPEECHPIPE_STATE_DIR": state, "SPEECHPIPE_LOG_LEVEL": "info"} | environment
        # Its state is empty, but it need not fetch the weights again.
        variables.setdefault("SPEECHPIPE_WEIGHTS_DIR", str(Settings().weights_folder))
        process = subprocess.Popen(command, stdout=log, stderr=log, env=hand_on(variables))
        try:
            until = time.monotonic() + START_S
            while time.monotonic() < until and process.poll() is None:
                text = (Path(state) / "log").read_text(errors="replace")
                if (found := re.search(r"running on (http://\S+)", text)) and " ready" in text:
                    yield found[1], process
                    return
                time.sleep(0.1)
            raise RuntimeError(f"the server did not start:\n{(Path(state) / 'log').read_text(errors='replace')}")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def hand_on(variables: dict[str, str]) -> dict[str, str]:
    """Return this process's environment with `variables`."""
    return {**os.environ, **variables}


def trial(url: str, sessions: int, seconds: float, warm_s: float, pcm: Path) -> tuple[Tally, float]:
    """Run `sessions` clients in another process against a server.

    Returns their tally, and the share of the CPU that other machines on the host took meanwhile.
    """
    command = [
        sys.executable,
        "-m",
        "speechpipe.bench.clients",
        url,
        str(sessions),
        str(seconds),
        str(warm_s),
        str(pcm),
    ]
    stolen_s, begun = system.stolen_s(), time.monotonic()
    done = subprocess.run(command, capture_output=True, check=True)
    stolen = (system.stolen_s() - stolen_s) / ((time.monotonic() - begun) * (os.cpu_count() or 1))
    return Tally(**json.loads(done.stdout)), stolen


def recover(url: str) -> bool:
    """Wait until a server has no live session and is not late; return whether that was so within `RECOVER_S`.

    Otherwise a load that it could hold would begin while it works off the one before, and would be refused.
    """
    until = time.monotonic() + RECOVER_S
    while time.monotonic() < until:
        rows = httpx.get(f"{url}/metrics", timeout=RECOVER_S).text
        if all(_value(rows, f"speechpipe_live_{name}") == 0 for name in ("sessions", "late_seconds")):
            return True
        time.sleep(LOOK_EVERY_S)
    return False


def _value(rows: str, name: str) -> float:
    """Return the value of a metric without labels; not a number if it is missing."""
    found = re.search(rf"^{name} (\S+)$", rows, re.MULTILINE)
    return float(found[1]) if found else math.nan


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile; infinity if there are no values."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("inf")


@dataclass(frozen=True)
class Point:
    """The result of one load."""

    sessions: int
    held: bool
    final_p50_s: float
    final_p95_s: float
    endpoint_p50_s: float
    endpoint_p95_s: float
    partial_p95_s: float
    finals: int
    lost: int
    refused: int
    late_steps: int
    stolen: float


def point(sessions: int, tally: Tally, stolen: float, objective_s: float) -> Point:
    """Judge a trial by the server's endpoint-to-final times, or by the clients' if the server reports none."""
    lost = tally.lost + tally.broken
    p95 = percentile(tally.final_s, 0.95)
    judged = percentile(tally.endpoint_to_final_s, 0.95) if tally.endpoint_to_final_s else p95
    return Point(
        sessions=sessions,
        held=judged <= objective_s and not lost and not tally.refused and tally.opened == sessions,
        final_p50_s=statistics.median(tally.final_s) if tally.final_s else float("inf"),
        final_p95_s=p95,
        endpoint_p50_s=percentile(tally.endpoint_to_final_s, 0.5),
        endpoint_p95_s=percentile(tally.endpoint_to_final_s, 0.95),
        partial_p95_s=percentile(tally.partial_lag_s, 0.95),
        finals=tally.finals,
        lost=lost,
        refused=tally.refused,
        late_steps=tally.late_steps,
        stolen=stolen,
    )


def search(attempt: Callable[[int], Point], first: int, most: int) -> list[Point]:
    """Find the largest load that holds: in steps of a tenth, up from `first` while it holds, else down."""
    points = [attempt(max(1, first))]
    up = points[0].held
    while True:
        last = points[-1].sessions
        step = max(1, round(last * 0.1))
        following = last + step if up else last - step
        if not 1 <= following <= most:
            return points
        points.append(attempt(following))
        if points[-1].held is not up:
            return points
