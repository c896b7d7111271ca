"""Floods from strangers and from one bad key, while a good client works: nobody else may notice.

    python benchmarks/floods.py [--seconds 15] [--only NAME | --record]

Starts a server with keys. For each flood: `/livez` is asked about fifty times a second by a process of its own, another
one uploads and speaks live with a key of its own, and the server's memory is watched. Asked: p99 of `/livez` below
100 ms, memory below twice that of the idle server, every request of the good client answered 200 with the right text.
Exits with 1 if something is missed.
"""

import argparse
import asyncio
import base64
import contextlib
import http.client
import io
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import soundfile
from measure import Figure, add_record, record
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import connect

SPEECH = Path(__file__).parents[1] / "audio_samples" / "sentence_slt.flac"
GOOD, BAD = "good-key", "bad-key"
MOST_P99_MS = 100.0
MOST_GROWTH = 2.0

Flood = Callable[[str, Any], None]
"""Takes the server's URL and an event that ends it."""


@dataclass
class Server:
    """A running server."""

    url: str
    process: "subprocess.Popen[str]"
    lines: list[str] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def log(self) -> str:
        return "".join(self.lines)

    def rss_mb(self) -> float:
        return float(psutil.Process(self.process.pid).memory_info().rss) / 2**20


@contextlib.contextmanager
def serving(**settings: str) -> Iterator[Server]:
    """A server on a port of its own, ready, with these settings; ended with SIGTERM."""
    with tempfile.TemporaryDirectory(prefix="floods-") as state:
        values = {
            "bundle": "scripted",
            "workers": "1",
            "live_workers": "1",
            "state_dir": state,
            "port": "0",
            **settings,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "speechpipe", "serve"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **{f"SPEECHPIPE_{name.upper()}": value for name, value in values.items()}},
        )
        server = Server("", process)
        ready = threading.Event()

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                server.lines.append(line)
                if match := re.search(r"running on (http://\S+)", line):
                    server.url = match[1]
                if " ready: " in line:
                    ready.set()
            ready.set()

        threading.Thread(target=read, daemon=True).start()
        try:
            if not ready.wait(120) or process.poll() is not None:
                raise RuntimeError(server.log())
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()


# ---- those who must not notice ----


def loose(name: str, url: str, until: Any) -> None:
    """Run a flood. It would come from other machines: what it takes of this one's processors, others had first."""
    os.nice(19)
    FLOODS[name](url, until)


def probe(url: str, until: Any, out: Connection) -> None:
    """Ask `/livez` until told to stop, on a kept connection and on new ones in turns.

    Sends how long each answer took, connecting included, in milliseconds (failures: -1). The client is the standard
    library's: httpx reads the certificates of authorities for every new client, 30 ms that are not the server's.
    """
    took: list[float] = []
    address = url.removeprefix("http://")
    kept = http.client.HTTPConnection(address, timeout=30)
    out.send("ready")
    while not until.is_set():
        begun = time.perf_counter()
        asking = kept if len(took) % 2 else http.client.HTTPConnection(address, timeout=30)
        try:
            asking.request("GET", "/livez")
            answer = asking.getresponse()
            answer.read()
            took.append((time.perf_counter() - begun) * 1000 if answer.status == 200 else -1.0)
        except (OSError, http.client.HTTPException):
            took.append(-1.0)
            asking.close()
        if asking is not kept:
            asking.close()
        time.sleep(0.02)
    out.send(took)


async def speak(url: str, samples: bytes) -> str:
    """One live session; returns its text."""
    address = url.replace("http", "ws") + "/v1/listen?encoding=linear16&sample_rate=16000"
    async with connect(address, additional_headers={"authorization": f"Token {GOOD}"}) as socket_:
        for at in range(0, len(samples), 6400):
            await socket_.send(samples[at : at + 6400])
            await asyncio.sleep(0.05)
        await socket_.send('{"type": "CloseStream"}')
        found = [json.loads(message) async for message in socket_]
    finals = [message for message in found if message.get("is_final")]
    return " ".join(text for item in finals if (text := item["channel"]["alternatives"][0]["transcript"]))


def work(url: str, until: Any, out: Connection) -> None:
    """Upload and speak in turns; send (done, [what went wrong])."""
    audio = SPEECH.read_bytes()
    samples = (soundfile.read(SPEECH, dtype="int16")[0]).tobytes()
    done, wrong = 0, []
    expected: dict[str, str] = {}
    client = httpx.Client(verify=False)
    out.send("ready")
    while not until.is_set():
        for kind in ("upload", "live"):
            try:
                if kind == "upload":
                    answer = client.post(
                        f"{url}/v1/audio/transcriptions",
                        files={"file": ("a.flac", audio)},
                        data={"model": "default"},
                        headers={"authorization": f"Bearer {GOOD}"},
                        timeout=60,
                    )
                    text = answer.json()["text"] if answer.status_code == 200 else f"status {answer.status_code}"
                else:
                    text = asyncio.run(asyncio.wait_for(speak(url, samples), 60))
            except Exception as error:  # noqa: BLE001 - whatever it is, the good client was not served
                wrong.append(f"{kind}: {type(error).__name__}: {error}"[:120])
                continue
            if not text or expected.setdefault(kind, text) != text:
                wrong.append(f"{kind}: {text!r}"[:120])
            done += 1
    out.send((done, wrong))


# ---- the floods ----


def posting(path: str, body: bytes, kind: str, key: str = "", threads: int = 4) -> Flood:
    """The same request again and again."""

    def flood(url: str, until: Any) -> None:
        headers = {"content-type": kind} | ({"authorization": f"Bearer {key}"} if key else {})

        def one() -> None:
            with httpx.Client(verify=False) as client:
                while not until.is_set():
                    with contextlib.suppress(httpx.HTTPError):
                        client.post(url + path, content=body, headers=headers, timeout=30)

        together([one] * threads)

    return flood


def together(tasks: list[Callable[[], None]]) -> None:
    """Run tasks at the same time, to their ends."""
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def holding(count: int, data: bytes) -> Flood:
    """So many connections that send something and then nothing; those that are closed are opened again."""

    def flood(url: str, until: Any) -> None:
        host, port = url.removeprefix("http://").split(":")
        held: list[socket.socket] = []
        while not until.is_set():
            while len(held) < count and not until.is_set():
                with contextlib.suppress(OSError):
                    made = socket.create_connection((host, int(port)), timeout=5)
                    held.append(made)
                    made.sendall(data)
                    made.setblocking(False)
            alive = []
            for made in held:
                try:
                    over = made.recv(4096) == b""
                except BlockingIOError:
                    over = False
                except OSError:
                    over = True
                if over:
                    made.close()
                else:
                    alive.append(made)
            held = alive
            until.wait(0.1)
        for made in held:
            made.close()

    return flood


def live(path: str, messages: Callable[[], list[str | bytes]], sessions: int) -> Flood:
    """Live sessions that send large messages."""

    def flood(url: str, until: Any) -> None:
        sent = messages()
        headers = {"authorization": f"Bearer {BAD}"}

        async def one() -> None:
            while not until.is_set():
                with contextlib.suppress(Exception):
                    async with connect(url.replace("http", "ws") + path, additional_headers=headers) as talking:
                        for message in sent:
                            await talking.send(message)
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(5):
                                async for _ in talking:
                                    pass
                await asyncio.sleep(0.2)

        async def all_() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(sessions):
                    group.create_task(one())

        asyncio.run(all_())

    return flood


def bomb() -> list[str | bytes]:
    """Silence of 300 s on 8 channels at 384 kHz: a megabyte of FLAC, 1.8 GB of samples."""
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", 384_000, 8, "PCM_16", format="FLAC") as file:
        second = np.zeros((384_000, 8), np.int16)
        for _ in range(300):
            file.write(second)
    return [out.getvalue()]


def appends() -> list[str | bytes]:
    """Two appends of 15 MiB."""
    audio = base64.b64encode(bytes(15 * 2**20)).decode()
    return [json.dumps({"type": "input_audio_buffer.append", "audio": audio})] * 2


def half_upload(
    key: str, received: int, path: str = "/v1/audio/transcriptions", length: int | None = 50_000_000
) -> bytes:
    """The beginning of an upload that says it is 50 MB; without a length, of one in chunks."""
    sized = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    begun = f"{received + 100:x}\r\n" if length is None else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{sized}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
        f"{begun}"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    )
    return head.encode() + bytes(received)


HALF_JSON = (
    b"POST /v1/feedback HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\nContent-Type: application/json\r\n"
    b'Authorization: Bearer %s\r\n\r\n{"a":"%s' % (BAD.encode(), b"x" * 50_000)
)
HANDSHAKE = (
    b"GET /v1/listen?tag=%s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % (b"a" * 9000)
)
MANY = b"[" + b"[]," * 10_000_000 + b"[]]"
FLAT = b"[" + b'{"a":"' + b"x" * 8_000_000 + b'"}]'
PLAN = "/v1/rollout/start"
TOML = "application/toml"

FLOODS: dict[str, Flood] = {
    "idle": lambda _, until: (until.wait(), None)[1],
    "big JSON, no key": posting("/v1/feedback", MANY, "application/json"),
    "big JSON": posting("/v1/feedback", MANY, "application/json", BAD),
    "TOML, 60 KB": posting(PLAN, ".".join(["a"] * 30_000).encode() + b"=1", TOML, BAD),
    "TOML, 8 KB": posting(PLAN, ".".join(["a"] * 4_000).encode() + b"=1", TOML, BAD),
    "half headers": holding(1500, b"GET /livez HTTP/1.1\r\nX"),
    "silent connections": holding(3000, b""),
    "one byte each": holding(3000, b"G"),
    "half uploads, no key": holding(200, half_upload("nobody", 900_000)),
    "half uploads": holding(200, half_upload(BAD, 900_000)),
    "half uploads, no such path": holding(200, half_upload("nobody", 900_000, "/v1/nothing")),
    "half uploads in chunks": holding(200, half_upload(BAD, 65_000, length=None)),
    "half JSON": holding(200, HALF_JSON),
    "long handshakes": holding(200, HANDSHAKE),
    "big imports": posting("/v1/reviews/import", MANY, "application/json", BAD),
    "imports of 8 MB": posting("/v1/reviews/import", FLAT, "application/json", BAD),
    "FLAC bomb, live": live("/v1/listen", bomb, 3),
    "15 MiB appends": live("/v1/realtime?intent=transcription", appends, 10),
}


@dataclass
class Outcome:
    """What one flood did."""

    name: str
    took_ms: list[float]
    rss_mb: float
    idle_mb: float
    done: int
    wrong: list[str]

    @property
    def p99_ms(self) -> float:
        return float(np.percentile(self.took_ms, 99)) if self.took_ms else float("inf")

    @property
    def fine(self) -> bool:
        answered = -1.0 not in self.took_ms and self.p99_ms < MOST_P99_MS
        return answered and self.rss_mb < MOST_GROWTH * self.idle_mb and self.done > 0 and not self.wrong


def measured(server: Server, name: str, seconds: float, idle_mb: float) -> Outcome:
    """Let one flood loose."""
    context = multiprocessing.get_context("spawn")
    until = context.Event()
    watchers = []
    for target in (probe, work):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=target, args=(server.url, until, there), daemon=True)
        process.start()
        watchers.append((here, process))
    for here, _ in watchers:
        here.recv()
    over = context.Event()
    flooding = context.Process(target=loose, args=(name, server.url, over), daemon=True)
    flooding.start()
    end, peak = time.monotonic() + seconds, 0.0
    while time.monotonic() < end and server.process.poll() is None:
        peak = max(peak, server.rss_mb())
        time.sleep(0.05)
    until.set()
    answers = [here.recv() if here.poll(180) else None for here, _ in watchers]
    over.set()
    flooding.join(30)
    for process in (flooding, *(process for _, process in watchers)):
        process.join(5)
        process.kill()
    done, wrong = answers[1] or (0, ["the good client never came back"])
    return Outcome(name, answers[0] or [], peak, idle_mb, done, wrong)


def figures(outcomes: list[Outcome]) -> list[Figure]:
    """What is recorded of all floods."""
    rows = []
    for found in outcomes:
        good = -1.0 not in found.took_ms and found.p99_ms < MOST_P99_MS
        name = "nothing" if found.name == "idle" else found.name
        what = f"`/livez` p99 during a flood: {name}"
        rows.append(Figure(what, f"< {MOST_P99_MS:.0f} ms", f"{found.p99_ms:.1f} ms", good))
    growth = max(found.rss_mb / found.idle_mb for found in outcomes)
    wrong = sum(len(found.wrong) for found in outcomes)
    served = all(found.done > 0 for found in outcomes)
    what = "memory over the idle server's, the most in any flood"
    rows.append(Figure(what, f"< {MOST_GROWTH:g}", f"{growth:.2f}", growth < MOST_GROWTH))
    what = "requests of a client with a key of its own that were not served"
    return [*rows, Figure(what, "0", str(wrong), wrong == 0 and served)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--only", choices=list(FLOODS))
    add_record(parser)
    chosen = parser.parse_args()
    if chosen.only and chosen.record:
        parser.error("--record is for all floods together")
    table = Table("flood", "/livez p50 ms", "p99 ms", "max ms", "failed", "memory MB", "x idle", "good client", "")
    outcomes = []
    for name in [chosen.only] if chosen.only else FLOODS:
        with serving(api_keys=json.dumps([GOOD, BAD])) as server:
            measured(server, "idle", 3.0, 1.0)  # what is loaded with the first requests is no flood
            found = measured(server, name, chosen.seconds, server.rss_mb())
        took = found.took_ms or [float("inf")]
        table.add_row(
            name,
            f"{np.percentile(took, 50):.1f}",
            f"{found.p99_ms:.1f}",
            f"{max(took):.1f}",
            str(took.count(-1.0)),
            f"{found.rss_mb:.0f}",
            f"{found.rss_mb / found.idle_mb:.2f}",
            f"{found.done} served, {len(found.wrong)} not" + (f": {found.wrong[0]}" if found.wrong else ""),
            "" if found.fine else "MISSED",
        )
        outcomes.append(found)
        said = f"{found.p99_ms:.0f} ms, {found.rss_mb / found.idle_mb:.2f} x idle, {found.done} served, {found.wrong}"
        Console(stderr=True, width=160).print(f"{name}: {'fine' if found.fine else 'MISSED'} ({said})", markup=False)
    Console(width=160).print(table)
    if chosen.record:
        record(figures(outcomes))
    return int(not all(found.fine for found in outcomes))


if __name__ == "__main__":
    sys.exit(main())
