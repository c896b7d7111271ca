"""Many short uploads at once: whether all are answered, how fast, and in how much memory.

    python benchmarks/short_uploads.py [--rounds 3] [--record]

A burst is 20 uploads of read clips at the same moment, each over a connection of its own. The bare recognizer decodes
the same clips, whole and one by one, in two processes of one thread that run beside each other, with the memory
settings that workers have. Rounds of both take turns. The server has the default bundle and the workers of two cores.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import httpx
from live_finals import processes
from measure import Board, Recording, add_record, read_speech
from whisper_windows import ENVIRONMENT

from speechpipe.bench import capacity
from speechpipe.cascade.asr import Piece
from speechpipe.cascade.asr.whisper.recognizer import WhisperRecognizer
from speechpipe.config import Settings
from tests.sounds import encoded

AT_ONCE = 20
MANY = 100
CORES = 2


def weights() -> Path:
    return Settings().weights_folder / "whisper-tiny-en-1.0.0" / "model.bin"


def chosen(clips: Sequence[Recording], count: int) -> list[Recording]:
    return [clips[number % len(clips)] for number in range(count)]


def bare(part: int) -> None:
    """Load, say so, and at each line on standard input decode this part of the burst; print the seconds it took."""
    recognizer = WhisperRecognizer({"model": weights()}, language="en")
    clips = chosen(read_speech(), AT_ONCE)[part::CORES]
    recognizer.transcribe([Piece(clips[0].samples)])
    print("ready", flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        for clip in clips:
            recognizer.transcribe([Piece(clip.samples)])
        print(time.perf_counter() - begun, flush=True)


class Bare:
    """The bare recognizer in two processes."""

    def __init__(self) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--bare", str(part)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **ENVIRONMENT},
            )
            for part in range(CORES)
        ]
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def burst(self) -> float:
        """Return the seconds until both are done."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        return max(float(process.stdout.readline()) for process in self._processes if process.stdout is not None)

    def end(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


def uploads(url: str, files: Sequence[bytes], at_once: int) -> tuple[float, list[int]]:
    """Upload the files, so many at a time; return the seconds until the last answer, and the statuses."""
    barrier = threading.Barrier(at_once)

    def one(number: int) -> int:
        if number < at_once:
            barrier.wait()
        with httpx.Client(timeout=600, verify=False) as client:  # no TLS: certificates are not read for each
            form = {"file": ("clip.wav", files[number])}
            answer = client.post(f"{url}/v1/audio/transcriptions", files=form, data={"model": "default"})
        return answer.status_code if answer.status_code != 200 or answer.json()["text"] else 0

    begun = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        statuses = list(pool.map(one, range(len(files))))
    return time.perf_counter() - begun, statuses


def memory(pid: int) -> float:
    """Return the MiB of a server and its workers: what only they use, and their part of what they share."""
    return sum(process.memory_full_info().pss for process in processes(pid)) / 2**20


def resident(pid: int) -> float:
    """Return the sum of their resident MiB, in which what is shared counts in each."""
    return sum(process.memory_info().rss for process in processes(pid)) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bare", type=int, help=argparse.SUPPRESS)
    add_record(parser)
    asked = parser.parse_args()
    if asked.bare is not None:
        bare(asked.bare)
        return
    clips = read_speech()
    files = [encoded(clip.samples) for clip in chosen(clips, MANY)]
    audio_s = sum(len(clip.samples) for clip in chosen(clips, AT_ONCE)) / 16_000
    board = Board("Short uploads, default bundle")
    command = [sys.executable, "-m", "speechpipe", "serve"]
    settings = {"SPEECHPIPE_PORT": "0", "SPEECHPIPE_BUNDLE": "default"}
    two = {"SPEECHPIPE_WORKERS": "2", "SPEECHPIPE_LIVE_WORKERS": "2"}
    one = {"SPEECHPIPE_WORKERS": "1", "SPEECHPIPE_LIVE_WORKERS": "2"}
    with capacity.served(command, **settings, **two) as (url, process):
        alone = Bare()
        uploads(url, files[:4], 4)
        idle = memory(process.pid)
        pairs = [(uploads(url, files[:AT_ONCE], AT_ONCE), alone.burst()) for _ in range(asked.rounds)]
        alone.end()
        statuses = [status for (_, found), _ in pairs for status in found]
        good = statuses.count(200)
        what = f"{AT_ONCE} short uploads at once: answered with a text"
        board.add(what, "all", f"{good} of {len(statuses)}", good == len(statuses))
        ratio = median(theirs / ours for (ours, _), theirs in pairs)
        speeds = (audio_s / median(ours for (ours, _), _ in pairs), audio_s / median(theirs for _, theirs in pairs))
        what = "their throughput over the bare recognizer's (seconds of audio a second: ours; bare)"
        board.add(what, ">= 0.9", f"{ratio:.2f} ({speeds[0]:.1f}; {speeds[1]:.1f})", ratio >= 0.9)
        with capacity.served(command, **settings, **one) as (single, _):
            uploads(single, files[:4], 4)
            both = [(uploads(url, files, AT_ONCE)[0], uploads(single, files, AT_ONCE)[0]) for _ in range(asked.rounds)]
        gain = median(second / first for first, second in both)
        board.add(f"{MANY} short files: throughput of 2 workers over 1", ">= 1.8", f"{gain:.2f}", gain >= 1.8)
        used, summed = memory(process.pid), resident(process.pid)
        what = "memory of the server with two cores' workers for files and live, after the uploads (before; sum of RSS)"
        board.add(what, "<= 700 MiB", f"{used:.0f} MiB ({idle:.0f}; {summed:.0f})", used <= 700)
    board.show()


if __name__ == "__main__":
    main()
