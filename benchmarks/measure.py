"""What all benchmarks share: recordings, the bare recognizer they compare with, CPU time, the table they print, and the
file in `benchmarks/results/` that `--record` writes.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import soundfile
from rich.console import Console
from rich.table import Table

import speechpipe
from speechpipe.cascade.evaluation.scores import Errors, rate, word_errors
from speechpipe.foundation.system import machine
from speechpipe.types import Samples

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
RATE = 16_000
SHARED = Path(os.environ.get("SPEECHPIPE_BENCH_DATA", Path(__file__).parents[2] / "shared" / "data"))
TUNED = {"fwdflat": False, "maxhmmpf": 3000, "loglevel": "FATAL"}
"""PocketSphinx without its second pass and with a beam: what it can do when tuned by hand (docs/decisions/0005)."""

BUNDLE = {**TUNED, "topn": 2, "maxwpf": 10}
"""What the default bundle sets beyond that."""


@dataclass(frozen=True)
class Recording:
    """One clip with its text."""

    name: str
    samples: Samples
    text: str


def read_speech() -> list[Recording]:
    """Return the read clips; ends the benchmark with a word where the recordings are absent."""
    manifest = SHARED / "read" / "manifest.jsonl"
    if not manifest.exists():
        sys.exit(f"no recordings at {SHARED}; set SPEECHPIPE_BENCH_DATA to a folder with read/manifest.jsonl")
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    return [
        Recording(row["audio"], soundfile.read(manifest.parent / row["audio"], dtype="float32")[0], row["text"])
        for row in rows
    ]


def noises() -> dict[str, Samples]:
    """Return the recorded noises, white noise first."""
    found = {"white": np.random.default_rng(7).normal(0, 0.1, 60 * RATE).astype(np.float32)}
    for path in sorted((SHARED / "noise").glob("noise*.flac")):
        found[path.stem] = soundfile.read(path, dtype="float32")[0]
    return found


class BareDecoder:
    """PocketSphinx in a loop, nothing around it: what the cascade is measured against."""

    def __init__(self, **options: Any) -> None:
        from pocketsphinx import Decoder

        self._decoder = Decoder(**(options or TUNED))

    def text(self, samples: Samples) -> str:
        """Decode one utterance as a whole, its cepstral mean taken over itself (the decoder at its best)."""
        pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
        words = [item.word for item in self._decoder.seg() or () if item.word[0] not in "<[+"]
        return " ".join(word.split("(")[0] for word in words)


def cpu_s() -> float:
    """CPU seconds of this process and its living children."""
    total = time.process_time()
    for child in psutil.Process().children(recursive=True):
        times = child.cpu_times()
        total += times.user + times.system
    return total


@dataclass
class Cost:
    """CPU and wall seconds of a stretch of work."""

    cpu_s: float = 0.0
    wall_s: float = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure what happens inside, in this process and its children."""
    cost = Cost()
    cpu, wall = cpu_s(), time.perf_counter()
    yield cost
    cost.cpu_s, cost.wall_s = cpu_s() - cpu, time.perf_counter() - wall


def wer(pairs: list[tuple[str, str]]) -> float:
    """Pooled word error rate of (reference, hypothesis) pairs."""
    result = rate([word_errors(reference, hypothesis) for reference, hypothesis in pairs])
    assert result is not None
    return result.value


def wer_difference(first: list[Errors], second: list[Errors]) -> tuple[float, float, float]:
    """Paired difference of two error rates on the same files, with its 95 % bootstrap interval."""
    lengths = np.array([item.length for item in first], float)
    edits = np.array([a.edits - b.edits for a, b in zip(first, second, strict=True)], float)
    picks = np.random.default_rng(0).integers(0, len(first), (2000, len(first)))
    low, high = np.quantile(edits[picks].sum(axis=1) / lengths[picks].sum(axis=1), [0.025, 0.975])
    return float(edits.sum() / lengths.sum()), float(low), float(high)


class Figure(NamedTuple):
    """A row of a benchmark's table. `asked` is empty and `good` None where nothing was asked."""

    what: str
    asked: str
    measured: str
    good: bool | None = None


@dataclass
class Board:
    """The table a benchmark ends with: what was asked, what was measured, whether it holds."""

    title: str
    rows: list[Figure] = field(default_factory=list)

    def add(self, what: str, asked: str, measured_: str, good: bool | None = None) -> None:
        """Add a row; `good` is None where nothing was asked."""
        self.rows.append(Figure(what, asked, measured_, good))

    def show(self) -> None:
        """Print the table, record it if `--record` was given, and exit with 1 if a row does not hold."""
        table = Table(title=self.title, title_justify="left")
        for column in ("what", "asked", "measured", ""):
            table.add_column(column, overflow="fold")
        for what, asked, value, good in self.rows:
            table.add_row(what, asked, value, {True: "ok", False: "MISSED", None: ""}[good])
        Console(width=None if Console().is_terminal else 130).print(table)
        if RECORD in sys.argv[1:]:
            record(self.rows)
        if any(good is False for *_, good in self.rows):
            sys.exit(1)


# ---- what `--record` writes ----

RECORD = "--record"


def add_record(parser: argparse.ArgumentParser) -> None:
    """Give a benchmark's parser the flag `--record`: without it, nothing is overwritten by a try."""
    parser.add_argument(RECORD, action="store_true", help="write the figures to benchmarks/results/")


def record(rows: Sequence[Figure], folder: Path = RESULTS, variant: str = "") -> Path:
    """Write the rows of the benchmark that runs to `benchmarks/results/`, and return the path.

    The file is named after the script, and after the variant if the script measures several. It replaces what was
    recorded before. `python tools/figures.py` puts it into docs/figures.md and README.md.
    """
    command = command_line(sys.argv)
    document = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(),
        "version": speechpipe.__version__,
        "rows": [{**row._asdict(), "what": row.what.strip(), "command": command} for row in rows],
    }
    path = folder / f"{'_'.join(filter(None, (Path(sys.argv[0]).stem, variant)))}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    print(f"recorded in {path}; now: python tools/figures.py")
    return path


def command_line(arguments: Sequence[str]) -> str:
    """Return the command that was given, several files of a folder as `*`.

    Paths are as seen from the repository. Those that are neither in it nor beside it say nothing to others: the folder
    is shown as FOLDER.
    """
    found: list[str] = []
    for argument in arguments[1:]:
        if argument == RECORD:
            continue
        shown = os.path.relpath(argument, ROOT) if Path(argument).exists() else argument
        if shown.startswith("../../"):
            shown = str(Path("FOLDER", Path(argument).name))
        if Path(argument).is_file() and Path(argument).suffix:
            pattern = f"{Path(shown).parent}/*{Path(shown).suffix}"
            if found and found[-1] in (pattern, _last_file(found[-1], shown)):
                found[-1] = pattern
                continue
        found.append(shown)
    return " ".join(["python", f"benchmarks/{Path(arguments[0]).name}", *found])


def _last_file(before: str, now: str) -> str:
    """Return `before` if it is a file beside `now` with the same ending, else nothing."""
    one, other = Path(before), Path(now)
    return before if (one.parent, one.suffix) == (other.parent, other.suffix) else ""


def long_audio(minutes: float, pause_s: float = 1.0) -> Samples:
    """Return the read clips one after the other, with pauses, repeated up to a length."""
    pieces = []
    for clip in read_speech():
        pieces += [clip.samples, np.zeros(round(pause_s * RATE), np.float32)]
    return np.resize(np.concatenate(pieces), round(minutes * 60 * RATE))


def write_long(path: Path, minutes: float, pause_s: float = 1.0) -> None:
    """Write that as FLAC without holding all of it."""
    once = long_audio(10.0, pause_s)
    left = round(minutes * 60 * RATE)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="FLAC") as file:
        while left > 0:
            file.write(once[:left])
            left -= len(once)
