"""Figure 3: what the cascade costs beyond the recognizer, and what a second worker brings.
`python benchmarks/overhead.py`

On a shared machine the same decode takes 20 % more or less CPU from one minute to the next. So the cascade and
the bare loop run at the same time, each pinned to a core of its own, and then again with the cores exchanged.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from measure import BUNDLE, RATE, BareDecoder, Board, write_long

MINUTES = 10.5
ROUNDS = 1  # of two minutes each; more where there is time


def command(path: Path, workers: int, core: int | None = None) -> list[str]:
    """`speechpipe transcribe`, pinned with its workers to one core if asked."""
    pin = f"import os; os.sched_setaffinity(0, {{{core}}}); " if core is not None else ""
    program = f"{pin}from speechpipe.interfaces.cli import main; main()"
    return [
        sys.executable,
        "-c",
        program,
        "transcribe",
        str(path),
        "--format",
        "json",
        "--bundle",
        "embedded",
        "--workers",
        str(workers),
    ]


def wall_s(path: Path, workers: int) -> float:
    """Wall seconds of a whole run."""
    begun = time.perf_counter()
    subprocess.run(command(path, workers), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def bare(path: Path, spans: Path, core: int) -> None:
    """Print the CPU seconds of a loop over the same segments; loading the model is not counted."""
    os.sched_setaffinity(0, {core})
    audio = soundfile.read(path, dtype="float32")[0]
    decoder = BareDecoder(**BUNDLE)
    begun = time.process_time()
    for start, end in json.loads(spans.read_text()):
        decoder.text(audio[round(start * RATE) : round(end * RATE)])
    print(time.process_time() - begun)


def side_by_side(path: Path, spans: Path, core: int) -> tuple[float, float]:
    """CPU seconds of all of `transcribe` (start-up and loading included) and of the bare loop, at the same time."""
    with subprocess.Popen(
        [sys.executable, __file__, "bare", str(path), str(spans), str(1 - core)], stdout=subprocess.PIPE, text=True
    ) as loop:
        before = os.times()
        subprocess.run(command(path, 1, core), stdout=subprocess.DEVNULL, check=True)
        after = os.times()
        output, _ = loop.communicate()
    cascade = after.children_user + after.children_system - before.children_user - before.children_system
    return cascade, float(output)


def loops_wall_s(path: Path, spans: Path, count: int) -> float:
    """Wall seconds of the slowest of `count` bare loops that run at the same time."""
    command_ = [sys.executable, __file__, "bare", str(path), str(spans)]
    running = [subprocess.Popen([*command_, str(core)], stdout=subprocess.PIPE, text=True) for core in range(count)]
    # A pinned loop that decodes and nothing else: its CPU seconds are its wall seconds, loading left out.
    return max(float(process.communicate()[0]) for process in running)


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        path, spans = Path(folder) / "long.flac", Path(folder) / "spans.json"
        write_long(path, MINUTES)
        document: dict[str, Any] = json.loads(subprocess.run(command(path, 2), capture_output=True, check=True).stdout)
        spans.write_text(json.dumps([segment["heard"] for segment in document["segments"]]))
        pairs = [side_by_side(path, spans, core) for core in (0, 1) * ROUNDS]
        walls = [(wall_s(path, 1), wall_s(path, 2)) for _ in range(ROUNDS)]
        loops = [(loops_wall_s(path, spans, 1), loops_wall_s(path, spans, 2)) for _ in range(ROUNDS)]
    ratios = np.array([cascade / loop for cascade, loop in pairs])
    speedups = np.array([one / two for one, two in walls])
    # The best of each: what the machine's other tenants take away only ever adds.
    ratio = min(cascade for cascade, _ in pairs) / min(loop for _, loop in pairs)
    speedup = min(one for one, _ in walls) / min(two for _, two in walls)
    ceiling = 2 * min(one for one, _ in loops) / min(two for _, two in loops)
    board = Board(f"Overhead: one file of {MINUTES:g} min, {len(document['segments'])} segments")
    what = "CPU of `transcribe` (all of it) over a bare loop on the same segments, best of each"
    board.add(what, "<= 1.1", f"{ratio:.3f}", ratio <= 1.1)
    board.add("  the rounds, cores exchanged", "", " ".join(f"{value:.3f}" for value in ratios))
    board.add("throughput of 2 workers over 1, best of each", ">= 1.8", f"{speedup:.2f}", speedup >= 1.8)
    board.add("  the rounds", "", " ".join(f"{value:.2f}" for value in speedups))
    board.add("  what two bare loops at once bring over one: the machine's own limit", "", f"{ceiling:.2f}")
    board.add("x real time, 2 workers", "", f"{MINUTES * 60 / min(two for _, two in walls):.1f}")
    board.show()


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        bare(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
