"""Damaged media files of every container through a running server: no crash, no 5xx, bounded memory, each answer clear.

python benchmarks/fuzz_files.py [--files 5000] [--first 0] [--at-once 8] [--bundle scripted] [--record]

The files follow from their numbers (`tests/mutants.py`), so each can be made again. Exit code 1 if anything broke.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from measure import Figure, add_record, record
from server import serve

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.mutants import mutant, name_of, seeds

WARM_UP = 200
MOST_GROWTH = 2.0
"""Resident memory after the warm-up may grow to so many times what it was."""

SLACK_MIB = 64.0
PATIENCE_S = 900.0
CLEAR = {200, 400, 413, 415}


@dataclass
class Seen:
    """What the answers were."""

    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, 0)

    def take(self, number: int, answer: httpx.Response, wall_s: float) -> None:
        """Count one answer; note it if it is none of the clear ones."""
        self.statuses[answer.status_code] += 1
        self.slowest = max(self.slowest, (wall_s, number))
        try:
            body: dict[str, Any] = answer.json()
            if answer.status_code == 200:
                self.warnings.update(item["code"] for item in body["speechpipe"]["warnings"])
                accounting = dict(body["speechpipe"]["accounting"])
                if accounting.pop("received") != sum(accounting.values()):
                    self.broken.append(f"{number} ({name_of(number)}): accounting does not balance")
            else:
                self.codes[body["error"]["code"]] += 1
        except (ValueError, KeyError, TypeError):
            self.broken.append(
                f"{number} ({name_of(number)}): {answer.status_code} without a code: {answer.text[:200]}"
            )
            return
        if answer.status_code not in CLEAR:
            self.broken.append(f"{number} ({name_of(number)}): {answer.status_code} {answer.text[:200]}")


async def send(url: str, first: int, count: int, at_once: int, seen: Seen, memory: "Memory") -> None:
    """Post the files, a few at once."""
    numbers = iter(range(first, first + count))

    async def sender(client: httpx.AsyncClient) -> None:
        for number in numbers:
            form = {"model": "default", "vad[min_speech_s]": "0"}
            begun = time.perf_counter()
            try:
                files = {"file": ("a", mutant(number))}
                answer = await client.post("/v1/audio/transcriptions", data=form, files=files)
                seen.take(number, answer, time.perf_counter() - begun)
            except httpx.HTTPError as error:
                seen.broken.append(f"{number} ({name_of(number)}): {type(error).__name__} {error}")
            memory.look(number - first)

    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client:
        await asyncio.gather(*(sender(client) for _ in range(at_once)))


class Memory:
    """Resident memory of the server's own process, in MiB."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.warm = 0.0
        self.peak = 0.0

    def look(self, done: int) -> None:
        """Look at it; what it is after the warm-up is what it may grow from."""
        try:
            now = self._process.memory_info().rss / 2**20
        except psutil.Error:
            return
        self.peak = max(self.peak, now)
        if done <= WARM_UP:
            self.warm = max(self.warm, now)

    @property
    def bounded(self) -> bool:
        """Whether it stayed within its bound."""
        return self.peak <= MOST_GROWTH * self.warm + SLACK_MIB


def metric(url: str, name: str) -> float:
    """Return the sum of a metric's samples."""
    lines = httpx.get(f"{url}/metrics", timeout=PATIENCE_S).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--bundle", default="scripted")
    add_record(parser)
    asked = parser.parse_args()
    os.environ["SPEECHPIPE_BUNDLE"] = asked.bundle
    with tempfile.TemporaryDirectory() as folder:
        process, url, _ = serve(Path(folder))
        try:
            return judged(process, url, asked)
        finally:
            process.terminate()
            process.wait(60)


def judged(process: "subprocess.Popen[str]", url: str, asked: argparse.Namespace) -> int:
    """Send everything, print what was seen, return the exit code."""
    seen, memory = Seen(), Memory(process.pid)
    begun = time.monotonic()
    restarts = metric(url, "speechpipe_worker_restarts_total")
    asyncio.run(send(url, asked.first, asked.files, asked.at_once, seen, memory))
    alive = process.poll() is None
    if not alive:
        seen.broken.append(f"the server died: exit code {process.poll()}")
    else:
        for name in ("speechpipe_accounting_errors_total", "speechpipe_uploads_in_progress"):
            if metric(url, name):
                seen.broken.append(f"{name} is {metric(url, name):g}")
        if metric(url, "speechpipe_worker_restarts_total") > restarts:
            seen.broken.append("a worker process was lost")
    if not memory.bounded:
        seen.broken.append(f"memory grew from {memory.warm:.0f} to {memory.peak:.0f} MiB")
    print(f"{asked.files} damaged files of {len(seeds())} kinds in {time.monotonic() - begun:.0f} s")
    print(f"statuses {json.dumps({str(key): count for key, count in sorted(seen.statuses.items())})}")
    print(f"refused {json.dumps(dict(seen.codes.most_common()))}")
    print(f"warnings {json.dumps(dict(seen.warnings.most_common()))}")
    slowest_s, number = seen.slowest
    print(f"slowest {slowest_s:.1f} s (number {number}); memory {memory.warm:.0f} -> {memory.peak:.0f} MiB at most")
    for line in seen.broken[:20]:
        print(f"BROKEN {line}")
    print(f"{len(seen.broken)} broken")
    if asked.record:
        what = f"{asked.files:,} damaged media files of {len(seeds())} kinds: crashes, answers without a cause, leaks"
        growth = memory.peak / memory.warm if memory.warm else float("inf")
        record(
            [
                Figure(what, "0", str(len(seen.broken)), not seen.broken),
                Figure("the same: memory over that after the first files", "", f"{growth:.2f}"),
            ]
        )
    return 1 if seen.broken else 0


if __name__ == "__main__":
    sys.exit(main())
