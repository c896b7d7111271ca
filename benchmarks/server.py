"""Figure 5: memory of a long file, an event loop that answers, quick starts. `python benchmarks/server.py`"""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
from measure import Board, write_long

COMMAND = [sys.executable, "-c", "from speechpipe.interfaces.cli import main; main()"]
SAMPLE_S = 0.02
PAUSE_S = 6.0


def rss(process: psutil.Process) -> tuple[int, int]:
    """Resident bytes of a process and of its children together."""
    own = children = 0
    try:
        own = process.memory_info().rss
        for child in process.children(recursive=True):
            children += child.memory_info().rss
    except psutil.Error:
        pass
    return own, children


def peak_memory(path: Path) -> tuple[float, float]:
    """Peak MiB of `speechpipe transcribe` (its own, with its workers)."""
    command = [*COMMAND, "transcribe", str(path), "--format", "json", "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        own = together = 0
        while process.poll() is None:
            mine, theirs = rss(watched)
            own, together = max(own, mine), max(together, mine + theirs)
            time.sleep(SAMPLE_S)
    return own / 2**20, together / 2**20


def help_s() -> float:
    """Seconds until `speechpipe --help` has ended; the median of nine."""
    script = Path(sys.executable).with_name("speechpipe")
    times = []
    for _ in range(9):
        begun = time.perf_counter()
        subprocess.run([script, "--help"], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


def serve(folder: Path) -> tuple["subprocess.Popen[str]", str, float]:
    """Start a server; return it, its address, and the seconds until it was ready."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "SPEECHPIPE_STATE_DIR": str(folder)},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if match := re.search(r"running on (http://\S+)", line):
            break
    else:
        sys.exit("the server did not start")
    threading.Thread(target=process.stdout.read, daemon=True).start()
    while httpx.get(f"{match[1]}/readyz").status_code != 200:
        time.sleep(0.01)
    return process, match[1], time.perf_counter() - begun


def liveness(url: str, path: Path) -> tuple[list[float], bool]:
    """Seconds that `/livez` took, again and again while four uploads decode."""
    statuses: list[int] = []
    times: list[float] = []

    def upload() -> None:
        files = {"file": (path.name, path.read_bytes())}
        answer = httpx.post(f"{url}/v1/audio/transcriptions", data={"model": "default"}, files=files, timeout=600)
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=upload) for _ in range(4)]
    for thread in threads:
        thread.start()
    with httpx.Client() as client:
        while any(thread.is_alive() for thread in threads):
            begun = time.perf_counter()
            client.get(f"{url}/livez").raise_for_status()
            times.append(time.perf_counter() - begun)
            time.sleep(SAMPLE_S)
    return times, statuses == [200] * 4


def main() -> None:
    """Print the table."""
    board = Board("Server: memory, liveness, start")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asked = help_s()
        board.add("`speechpipe --help` (s)", "< 0.5", f"{asked:.2f}", asked < 0.5)
        write_long(folder / "3min.flac", 3)
        process, url, ready = serve(folder)
        board.add("start to ready, 2 workers warm (s)", "< 6", f"{ready:.2f}", ready < 6)
        times, good = liveness(url, folder / "3min.flac")
        process.terminate()
        process.wait()
        p50, p99 = np.quantile(times, [0.5, 0.99]) * 1000
        board.add(
            f"/livez p99 while four uploads decode (ms; {len(times)} calls)",
            "< 50",
            f"{p99:.1f}",
            bool(p99 < 50) and good,
        )
        board.add("/livez p50, max (ms)", "", f"{p50:.1f}, {max(times) * 1000:.1f}")
        write_long(folder / "10min.flac", 10, PAUSE_S)  # a third of it speech, so that three hours end in minutes
        write_long(folder / "3h.flac", 180, PAUSE_S)
        short, long = peak_memory(folder / "10min.flac"), peak_memory(folder / "3h.flac")
        for index, what in enumerate(("own", "with its workers")):
            ratio = long[index] / short[index]
            board.add(f"peak memory, 3 h over 10 min, {what}", "<= 1.1", f"{ratio:.3f}", ratio <= 1.1)
        board.add(
            "peak MiB, 10 min and 3 h (own; with workers)",
            "",
            f"{short[0]:.0f}, {long[0]:.0f}; {short[1]:.0f}, {long[1]:.0f}",
        )
    board.show()


if __name__ == "__main__":
    main()
