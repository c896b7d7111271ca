"""Thousands of broken live streams against a running server: what each client is told, and what it costs the server.

Exits with 1 if a stream ends as if all were well and nobody was told anything, if sound speech was not heard, if the
server or a worker died, a defect was counted, memory kept growing (the second half of the streams took more of it than
the first), or sessions leaked.

python benchmarks/fuzz_live.py [--streams 2000] [--at-once 12] [--first 0] [--record]
"""

import argparse
import asyncio
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
from measure import Figure, add_record, record

from speechpipe.bench import capacity

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.live_fuzz import run_all, table

MOST_GROWTH = 1.15
"""Streams are of random kinds and lengths, so that the halves differ a little."""

ALWAYS_ZERO = ("broken", "missing_finals", "out_of_order_finals", "watchdog")
SETTINGS = {
    "SPEECHPIPE_PORT": "0",
    "SPEECHPIPE_BUNDLE": "scripted",
    "SPEECHPIPE_WORKERS": "1",
    "SPEECHPIPE_LIVE_WORKERS": "1",
    "SPEECHPIPE_LIVE_LOAD_LIMIT": "100",
    "SPEECHPIPE_LIVE_MAX_SPEED": "0",
    "SPEECHPIPE_LIVE_RESUME_S": "2",
}


class Watch:
    """Looks at a server's memory and at how fast it answers, on a thread of its own."""

    def __init__(self, url: str, pid: int) -> None:
        self._url = url
        self._process = psutil.Process(pid)
        self.idle = self._process.memory_info().rss
        self.most = self.idle
        self.answers_s: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._stop.wait(0.1):
                self.most = max(self.most, self._process.memory_info().rss)
                begun = time.monotonic()
                client.get("/livez").raise_for_status()
                self.answers_s.append(time.monotonic() - begun)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def metric(url: str, name: str) -> float:
    lines = httpx.get(f"{url}/metrics", timeout=60).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def settled(url: str) -> float:
    """Wait until no session is left; return how many are."""
    until = time.monotonic() + 60
    while metric(url, "speechpipe_live_sessions") and time.monotonic() < until:
        time.sleep(0.5)
    return metric(url, "speechpipe_live_sessions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=12)
    parser.add_argument("--first", type=int, default=0)
    add_record(parser)
    asked = parser.parse_args()
    with capacity.served([sys.executable, "-m", "speechpipe", "serve"], **SETTINGS) as (url, process):
        asyncio.run(run_all(url, range(20), 4))  # libraries are loaded, pools are filled
        workers = {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
        watch, begun = Watch(url, process.pid), time.monotonic()
        half, end = asked.first + asked.streams // 2, asked.first + asked.streams
        outcomes = asyncio.run(run_all(url, range(asked.first, half), asked.at_once))
        first, watch.most = watch.most, 0
        outcomes += asyncio.run(run_all(url, range(half, end), asked.at_once))
        took_s = time.monotonic() - begun
        watch.stop()
        growth, most = watch.most / first, max(first, watch.most)
        wrong = [outcome.wrong for outcome in outcomes if outcome.wrong]
        if (left := settled(url)) > 0:
            wrong.append(f"{left:g} sessions are left")
        counts = {name: metric(url, f"speechpipe_live_{name}_total") for name in ALWAYS_ZERO}
        wrong += [f"speechpipe_live_{name}_total is {count:g}" for name, count in counts.items() if count]
        if {child.pid for child in psutil.Process(process.pid).children(recursive=True)} != workers:
            wrong.append("a worker was lost")
        if growth > MOST_GROWTH:
            wrong.append(f"the second half took {growth:.2f} times the memory of the first")
    answers = sorted(watch.answers_s)
    print(table(outcomes))
    megabytes = [value / 2**20 for value in (watch.idle, first, watch.most)]
    p50, p99 = (1000 * answers[int(share * (len(answers) - 1))] for share in (0.5, 0.99))
    print(
        "{} streams in {:.0f} s; memory {:.0f} MiB before, at most {:.0f} MiB in the first half, {:.0f} in the second;"
        " /livez p50 {:.0f} ms, p99 {:.0f} ms".format(len(outcomes), took_s, *megabytes, p50, p99)
    )
    print("\n".join(wrong) if wrong else "nothing wrong")
    if asked.record:
        what = f"{asked.streams:,} broken live streams: not told, not heard, leaked, or a process lost"
        record(
            [
                Figure(what, "0", str(len(wrong)), not wrong),
                Figure("the same: memory in the second half over the first", f"< {MOST_GROWTH:g}", f"{growth:.2f}"),
                Figure("the same: most memory over the idle server's", "reported", f"{most / watch.idle:.2f}"),
            ]
        )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
