"""What live sessions notice of a rollout: a switch and a rollback under load, and shadow beside them.

    python benchmarks/rollout_load.py AUDIO... [--switch-sessions 9] [--shadow-sessions 7]

Sessions of twelve seconds come and go on so many seats, paced as microphones are. The candidate has a recognizer of its
own (another `maxwpf`), so workers of its own. 13 sessions are what this machine holds (`speechpipe bench capacity`).
"""

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from speechpipe.bench import capacity
from speechpipe.bench.clients import STEP_BYTES, STEP_S, Speaker, Tally
from speechpipe.bench.recordings import joined
from speechpipe.control.rollout import speech_guards as guards
from speechpipe.foundation import system

SESSION_S = 12.0
PHASE_S = 60.0
RETRY_S = 1.0
"""A session that is refused comes back after that, as a client would."""
GUARDS = "".join(f"{name} = 0.4\n" for name in guards.GUARDS.rates)
SWITCH = f"""
candidate = "tuned"
approval = "steps"
slow_s = 60.0
[[steps]]
mode = "canary"
weight = 0.3
margin = 5.0
least_sessions = 1
[[steps]]
mode = "blue_green"
[guards]
{GUARDS}"""
SHADOW = f"""
candidate = "tuned"
approval = "steps"
mirror_share = 1.0
[[steps]]
mode = "shadow"
least_sessions = 1000000
[[steps]]
mode = "canary"
weight = 0.1
[guards]
{GUARDS}"""


class Talker(Speaker):
    """Notes when each final came and how late it was."""

    def __init__(self, *values: Any) -> None:
        super().__init__(*values)
        self.finals: list[tuple[float, float]] = []

    def _take(self, message: dict[str, Any], now: float) -> None:
        super()._take(message, now)
        late = message.get("speechpipe", {}).get("endpoint_to_final_s")
        if message["is_final"] and late is not None:
            self.finals.append((now, late))


@dataclass
class Load:
    """Seats on which sessions come and go until `stop` is set."""

    url: str
    pcm: bytes
    tally: Tally = field(default_factory=Tally)
    talkers: list[Talker] = field(default_factory=list)
    refused_at: list[float] = field(default_factory=list)

    async def run(self, seats: int, stop: asyncio.Event) -> None:
        await asyncio.gather(*(self._seat(number, seats, stop) for number in range(seats)))

    async def _seat(self, number: int, seats: int, stop: asyncio.Event) -> None:
        await asyncio.sleep(number * SESSION_S / seats)
        length = len(self.pcm) // STEP_BYTES * STEP_BYTES
        turn = 0
        while not stop.is_set():
            offset = (number * 7 + turn * 3) % 24 * length // 24 // STEP_BYTES * STEP_BYTES
            audio = self.pcm[offset:length] + self.pcm[:offset]
            talker = Talker(self.url, audio, round(SESSION_S / STEP_S), self.tally, 0.0)
            self.talkers.append(talker)
            await talker.run()
            if not talker.connected_at:
                self.refused_at.append(time.monotonic())
                await asyncio.sleep(RETRY_S)
            turn += 1

    def late_ms(self, begin: float, end: float) -> tuple[float, float, int]:
        """Return the median and the 95th percentile of endpoint -> final between two moments, and of how many."""
        values = [late for talker in self.talkers for at, late in talker.finals if begin <= at < end]
        return 1000 * float(np.median(values)), 1000 * float(np.quantile(values, 0.95)), len(values)


def ask(url: str, path: str, data: bytes | None = None, kind: str = "application/json") -> dict[str, Any]:
    request = urllib.request.Request(url + path, data=data, headers={"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found
    except urllib.error.HTTPError as error:
        sys.exit(f"{path}: {error.read().decode()}")


async def call(url: str, path: str, data: bytes | None = None, kind: str = "application/json") -> dict[str, Any]:
    return await asyncio.to_thread(ask, url, path, data, kind)


async def reached(url: str, ready: Any, limit_s: float = 240.0) -> None:
    begun = time.monotonic()
    while not ready(await call(url, "/v1/rollout")):
        if time.monotonic() - begun > limit_s:
            sys.exit("the rollout did not get there")
        await asyncio.sleep(0.2)


async def switch(url: str, load: Load, seats: int) -> bool:
    stop = asyncio.Event()
    running = asyncio.create_task(load.run(seats, stop))
    await asyncio.sleep(SESSION_S + 5)
    started = time.monotonic()
    await call(url, "/v1/rollout/start", SWITCH.encode(), "application/toml")
    await reached(url, lambda found: found["server"]["ready"])
    warmed = time.monotonic() + 10
    await reached(url, lambda found: found["rollout"]["status"] == "waiting")
    await asyncio.sleep(max(0.0, warmed + PHASE_S - time.monotonic()))
    marks = [warmed, time.monotonic()]
    await call(url, "/v1/rollout/approve", b"{}")
    await asyncio.sleep(PHASE_S)
    marks.append(time.monotonic())
    await call(url, "/v1/rollout/rollback", b'{"reason": "the benchmark"}')
    await asyncio.sleep(PHASE_S)
    marks.append(time.monotonic())
    stop.set()
    await running
    phases = ["before", "after the switch", "after the rollback"]
    rows = [load.late_ms(begin, end) for begin, end in itertools.pairwise(marks)]
    for name, (median, high, count) in zip(phases, rows, strict=True):
        print(f"{name:20s} endpoint -> final p50 {median:4.0f}, p95 {high:4.0f} ms over {count} finals")
    for name, at, wanted in (("switch", marks[1], "tuned@1.0.0"), ("rollback", marks[2], "default@1.0.0")):
        new = [t for t in load.talkers if at < t.connected_at < at + PHASE_S]
        wrong = [talker.connected_at - at for talker in new if talker.bundle != wanted]
        last = max(wrong, default=0.0)
        print(f"{name}: {len(new)} new sessions, the last one that still went elsewhere {1000 * last:.0f} ms after it")
    for name, begin, end in (("warming up", started, warmed), ("measured", warmed, marks[-1])):
        count = sum(begin <= at < end for at in load.refused_at)
        print(f"refused while {name} ({end - begin:.0f} s): {count}")
    ratios = ", ".join(f"{row[1] / rows[0][1]:.2f}" for row in rows[1:])
    print(f"p95 over that before: {ratios}")
    return summary(load)


async def shadow(url: str, load: Load, seats: int) -> bool:
    stop = asyncio.Event()
    running = asyncio.create_task(load.run(seats, stop))
    await asyncio.sleep(SESSION_S + 5)
    spans: dict[str, list[tuple[float, float]]] = {"alone": [], "beside shadow": []}
    for _ in range(2):
        begin = time.monotonic()
        await asyncio.sleep(PHASE_S)
        spans["alone"].append((begin, time.monotonic()))
        await call(url, "/v1/rollout/start", SHADOW.encode(), "application/toml")
        await reached(url, lambda found: found["server"]["ready"])
        await asyncio.sleep(SESSION_S + 3)  # until sessions that are copied end, and are heard
        begin = time.monotonic()
        await asyncio.sleep(PHASE_S)
        spans["beside shadow"].append((begin, time.monotonic()))
        heard = (await call(url, "/v1/rollout"))["server"]["shadow"]
        await call(url, "/v1/rollout/rollback", b'{"reason": "the benchmark"}')
        await asyncio.sleep(5)
    stop.set()
    await running
    for name, mine in spans.items():
        late = [x for begin, end in mine for t in load.talkers for at, x in t.finals if begin <= at < end]
        median, high = 1000 * np.median(late), 1000 * np.quantile(late, 0.95)
        print(
            f"{name:20s} endpoint -> final mean {1000 * np.mean(late):4.0f}, p50 {median:4.0f}, p95 {high:4.0f} ms"
            f" over {len(late)} finals"
        )
    print(f"shadow: {heard}")
    return summary(load)


def summary(load: Load) -> bool:
    tally = load.tally
    bundles = Counter(talker.bundle for talker in load.talkers)
    wrong = f"{tally.refused} refused, {tally.broken} broken, {tally.lost} lost"
    for reason, count in Counter(tally.reasons).most_common(3):
        print(f"refused {count} times: {reason[:200]}")
    print(f"{tally.opened} sessions ({dict(bundles)}), {wrong}")
    return tally.refused + tally.broken + tally.lost == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", nargs="+", type=Path)
    parser.add_argument("--switch-sessions", type=int, default=9, help="70 %% of what is held")
    parser.add_argument("--shadow-sessions", type=int, default=7, help="50 %% of what is held")
    asked = parser.parse_args()
    pcm = (joined(asked.audio) * 32767).astype("<i2").tobytes()
    good = True
    for what, seats in ((switch, asked.switch_sessions), (shadow, asked.shadow_sessions)):
        if not seats:
            continue
        with tempfile.TemporaryDirectory() as folder:
            variables = {
                "SPEECHPIPE_PORT": "0",
                "SPEECHPIPE_STATE_DIR": folder,
                "SPEECHPIPE_BUNDLE": "embedded",
                "SPEECHPIPE_WORKERS": "1",
                "SPEECHPIPE_LIVE_LOAD_LIMIT": "100",
                "SPEECHPIPE_LIVE_WARM_STREAMS": str(seats // 2 + 2),
            }
            add = ["bundles", "add", "--from", "embedded", "--name", "tuned", "--set", "asr.maxwpf=11"]
            speechpipe = [sys.executable, "-m", "speechpipe"]
            subprocess.run([*speechpipe, *add], env=capacity.hand_on(variables), check=True, stdout=subprocess.DEVNULL)
            with capacity.served([*speechpipe, "serve"], **variables) as (url, _):
                load = Load(url.replace("http", "ws") + capacity.QUERY + "default", pcm)
                stolen = system.stolen_s()
                print(f"{what.__name__}: {seats} live sessions at once")
                good &= asyncio.run(what(url, load, seats))
                print(f"{system.stolen_s() - stolen:.0f} CPU seconds were stolen", flush=True)
    sys.exit(not good)


if __name__ == "__main__":
    main()
