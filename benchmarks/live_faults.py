"""Live sessions under bad luck: workers killed every few seconds, connections dropped; nothing may be lost or repeated.

python benchmarks/live_faults.py AUDIO... [--seconds 120] [--sessions 6] [--drops 200]
"""

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from speechpipe.bench import capacity
from speechpipe.bench.recordings import joined


def killed(url: str, server: int, sessions: int, seconds: float, pcm: Path, every_s: float) -> bool:
    where = url.replace("http", "ws") + capacity.QUERY + "default"
    calm, _ = capacity.trial(where, sessions, seconds, 0.0, pcm)
    stop, kills = threading.Event(), [0]

    def kill() -> None:
        while not stop.wait(every_s):
            live = [child for child in psutil.Process(server).children(recursive=True) if child.nice() == 2]
            if live:
                random.choice(live).send_signal(signal.SIGKILL)
                kills[0] += 1

    killer = threading.Thread(target=kill)
    killer.start()
    begun = time.monotonic()
    rough, _ = capacity.trial(where, sessions, seconds, 0.0, pcm)
    stop.set()
    killer.join()
    key = [tuple(texts) for texts in calm.texts]
    same = sum((Counter(key) & Counter(tuple(texts) for texts in rough.texts)).values())
    lost = rough.lost + rough.broken + max(0, calm.finals - rough.finals)
    took_s = time.monotonic() - begun
    print(
        f"{kills[0]} workers killed in {took_s:.0f} s under {sessions} sessions: {rough.finals} finals"
        f" (undisturbed {calm.finals}), {lost} lost; {same} of {len(key)} sessions with identical finals;"
        f" p95 {1000 * capacity.percentile(rough.final_s, 0.95):.0f} ms"
        f" (undisturbed {1000 * capacity.percentile(calm.final_s, 0.95):.0f})"
    )
    return lost == 0 and same == len(key)


async def speak(url: str, audio: bytes, drops: int, seed: int) -> tuple[list[str], int, int]:
    """Send everything, dropping the connection `drops` times; return the finals, and what was repeated."""
    dice = random.Random(seed)
    token, last_seq, texts, repeated, dropped = "true", 0, list[str](), 0, 0
    cuts = [*sorted(dice.sample(range(3200, len(audio)), drops)), len(audio)]
    for cut in cuts:
        query = f"&resume={token}" + (f"&last_seq={last_seq}" if dropped else "")
        async with connect(url + query, compression=None) as socket:
            greeting = json.loads(await socket.recv())
            token, at = greeting["resume_token"], greeting["received_bytes"]
            while at < cut:
                await socket.send(audio[at : min(at + 3200, cut)])
                at += 3200
            if cut == len(audio):
                await socket.send('{"type": "CloseStream"}')
            try:
                async with asyncio.timeout(30 if cut == len(audio) else dice.uniform(0, 0.3)):
                    while True:
                        message = json.loads(await socket.recv())
                        seq = message.get("speechpipe", {}).get("seq")
                        repeated += seq is not None and seq <= last_seq
                        last_seq = max(last_seq, seq or 0)
                        if message["type"] == "Results" and message["is_final"]:
                            texts += [t for t in [message["channel"]["alternatives"][0]["transcript"]] if t]
            except (TimeoutError, ConnectionClosed):
                pass
            if cut != len(audio):
                socket.transport.abort()
                dropped += 1
    return texts, repeated, dropped


async def dropped(url: str, audio: bytes, drops: int) -> bool:
    query = capacity.QUERY.replace("interim_results=true", "interim_results=false")
    where = url.replace("http", "ws") + query + "default"
    expected, _, _ = await speak(where, audio, 0, 0)
    lost = repeated = done = 0
    for seed in range(-(-drops // 20)):
        texts, again, cut = await speak(where, audio, 20, seed)
        lost += texts != expected
        repeated += again
        done += cut
    print(f"{done} dropped connections resumed: {lost} sessions with other finals, {repeated} messages repeated")
    return not lost and not repeated


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--sessions", type=int, default=6)
    parser.add_argument("--drops", type=int, default=200)
    asked = parser.parse_args()
    samples = joined(asked.audio)
    data = (samples * 32767).astype("<i2").tobytes()
    variables = {"SPEECHPIPE_PORT": "0", "SPEECHPIPE_WORKERS": "1", "SPEECHPIPE_LIVE_LOAD_LIMIT": "100"}
    variables["SPEECHPIPE_LIVE_MAX_SPEED"] = "30"
    command = [sys.executable, "-m", "speechpipe", "serve"]
    with tempfile.NamedTemporaryFile(suffix=".pcm") as file, capacity.served(command, **variables) as (url, process):
        Path(file.name).write_bytes(data)
        good = killed(url, process.pid, asked.sessions, asked.seconds, Path(file.name), 5.0)
        good &= asyncio.run(dropped(url, data, asked.drops))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
