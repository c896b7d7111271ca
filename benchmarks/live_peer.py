"""Live audio beside WhisperLive with the same weights: how many streams each holds, and how long its texts take.

Both servers get the same audio in real time from the same clients as in `live_finals.py`, in one run. Times begin when
the last sound of a clip was sent. A load is held if all clips got a final, and the 95th percentile of the time to it is
within the pause that ends a segment (0.5 s) and half a second. WhisperLive runs in an environment of its own, with one
model for all clients, in int8 as it chooses on a CPU, and its VAD:

    python -m venv peer && peer/bin/pip install whisper-live
    python benchmarks/live_peer.py peer/bin/python --weights var/test-weights/whisper-tiny-en-1.0.0 [--record]
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from live_finals import LAST_WORDS_S, STEP, Client, Heard, Times, at, judge, played, used_s
from measure import RATE, Board, Recording, add_record, read_speech, wer
from websockets.asyncio.client import ClientConnection, connect

from speechpipe.bench import capacity
from speechpipe.types import Samples

ENDPOINT_S = 0.5
OBJECTIVE_S = 0.5
PAUSE_BETWEEN_S = 3.0
START_S = 120.0

SERVE = """
import sys
from whisper_live.server import TranscriptionServer
TranscriptionServer().run("127.0.0.1", port=int(sys.argv[1]), backend="faster_whisper", single_model=True,
    faster_whisper_custom_model_path=sys.argv[2], max_clients=100, max_connection_time=3600)
"""


class PeerClient(Client):
    """A client of WhisperLive: an object of options, then samples as 32-bit floats."""

    def __init__(self, url: str, audio: Samples) -> None:
        super().__init__(url, audio)
        self._done_s = 0.0

    async def run(self) -> None:
        options = {
            "uid": str(uuid.uuid4()),
            "language": "en",
            "task": "transcribe",
            "model": "tiny.en",
            "use_vad": True,
        }
        self.completed = 0
        self.last = ""
        async with connect(self._url, compression=None, max_size=None, ping_interval=None) as link:
            await link.send(json.dumps(options | {"use_vad": True}))
            while "SERVER_READY" not in str(await link.recv()):
                pass
            listening = asyncio.create_task(self._listen(link))
            samples = self.audio.astype("<f4").tobytes()
            begun = time.monotonic()
            for number, start in enumerate(range(0, len(samples), 4 * STEP)):
                await asyncio.sleep(max(0.0, begun + (number + 1) * STEP / RATE - time.monotonic()))
                self.sent_at.append(time.monotonic())
                await link.send(samples[start : start + 4 * STEP])
            await asyncio.sleep(LAST_WORDS_S / 4)  # what is completed by repetition comes late
            listening.cancel()

    async def _listen(self, socket: ClientConnection) -> None:
        async for message in socket:
            self._take(json.loads(message), time.monotonic())

    def _take(self, message: dict[str, Any], now: float) -> None:
        """Keep what is new: segments that were completed, and the one that is open.

        A segment belongs to the clip that its middle is in: its end may be in the next one.
        """
        for segment in message.get("segments", ()):
            start_s, end_s, text = float(segment["start"]), float(segment["end"]), segment["text"].strip()
            if text and end_s > self._done_s:
                middle_s = (start_s + end_s) / 2
                self.heard.append(Heard(now, text, start_s, middle_s, bool(segment["completed"]), 0, None, None))
                self._done_s = end_s if segment["completed"] else self._done_s


@contextmanager
def peer(python: Path, weights: Path) -> Iterator[tuple[str, int]]:
    """Serve WhisperLive; yield its address and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny.en"
        shutil.copytree(weights, model)
        command = [str(python), "-c", SERVE, str(port), str(model)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait(port, process)
            yield f"ws://127.0.0.1:{port}", process.pid
        finally:
            process.kill()
            process.wait()


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise SystemExit("WhisperLive does not start")


async def speak(make: Callable[..., Client], url: str, clips: list[Recording], streams: int) -> tuple[Times, float]:
    """Run clients at once, each with all clips, from another one on; return their times and the seconds of audio."""
    times, audio_s = Times(), 0.0
    clients = []
    for number in range(streams):
        first = number * len(clips) // streams
        audio, spoken = played(clips[first:] + clips[:first])
        clients.append((make(url, audio), spoken))
        audio_s += len(audio) / RATE

    async def one(number: int, client: Client) -> None:
        await asyncio.sleep(number * PAUSE_BETWEEN_S / streams)
        await client.run()

    await asyncio.gather(*(one(number, client) for number, (client, _) in enumerate(clients)))
    for client, spoken in clients:
        judge(client, spoken, times)
    return times, audio_s


def load(
    make: Callable[..., Client], url: str, pid: int, clips: list[Recording], streams: int
) -> tuple[bool, Times, float]:
    """Run a load; return whether it was held, its times and the CPU seconds of a second of audio."""
    cpu_s = used_s(pid)
    times, audio_s = asyncio.run(speak(make, url, clips, streams))
    cost = (used_s(pid) - cpu_s) / audio_s
    held = not times.silent and at(times.final, 0.95) <= ENDPOINT_S + OBJECTIVE_S
    print(f"{streams} streams: held {held}; {shown(times)}; CPU {cost:.3f}", flush=True)
    return held, times, cost


def shown(times: Times) -> str:
    return (
        f"final p50 {at(times.final, 0.5):.2f}, p95 {at(times.final, 0.95):.2f} s; last word covered p50 "
        f"{at(times.covered, 0.5):.2f}, p95 {at(times.covered, 0.95):.2f} s; WER {wer(times.texts):.3f}; "
        f"{times.silent} clips without a final"
    )


def search(attempt: Callable[[int], bool], first: int) -> int:
    """Return the largest load that is held, 0 if one stream is not: steps of a fifth up or down, then single ones."""
    held, failed = 0, 0
    streams = first
    while True:
        if attempt(streams):
            held = max(held, streams)
            streams = streams + max(1, streams // 5) if not failed else streams + 1
        else:
            failed = min(failed or streams, streams)
            streams = max(held + 1, streams - max(1, streams // 5))
        if failed and (streams >= failed or streams <= held):
            return held


def measure(name: str, make: Callable[..., Client], url: str, pid: int, clips: list[Recording], first: int) -> Any:
    """Return the streams that are held, and times and cost of one stream."""
    print(name)
    _, alone, cost = load(make, url, pid, clips, 1)
    return search(lambda streams: load(make, url, pid, clips, streams)[0], first), alone, cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", type=Path, help="of the environment with whisper-live")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--first", type=int, default=8, help="streams of our server to begin with")
    add_record(parser)
    asked = parser.parse_args()
    clips = read_speech()[: asked.clips]
    board = Board("Live audio beside WhisperLive, the same weights")
    found = {}
    with peer(asked.python, asked.weights) as (url, pid):
        found["WhisperLive"] = measure("WhisperLive", PeerClient, url, pid, clips, 1)
    settings = {"SPEECHPIPE_PORT": "0", "SPEECHPIPE_LIVE_LOAD_LIMIT": "100", "SPEECHPIPE_BUNDLE": "default"}
    with capacity.served([sys.executable, "-m", "speechpipe", "serve"], **settings) as (http, process):
        url = f"{http.replace('http', 'ws')}{capacity.QUERY}default"
        asyncio.run(speak(Client, url, clips[:1], 1))  # what is loaded lazily is loaded
        found["speechpipe"] = measure("speechpipe", Client, url, process.pid, clips, asked.first)
    for name, (_, alone, cost) in found.items():
        board.add(f"{name}, one stream", "reported", f"{shown(alone)}; {cost:.3f} CPU seconds a second")
    theirs, ours = found["WhisperLive"][0], found["speechpipe"][0]
    board.add(
        "streams held with p95 of the final <= 500 ms after the endpoint, all clips answered: ours; WhisperLive",
        ">= 3 times",
        f"{ours}; {theirs}",
        ours >= max(1, 3 * theirs),
    )
    board.show()


if __name__ == "__main__":
    main()
