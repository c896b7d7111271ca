"""Figure 4: the command line of PocketSphinx's own package, a VAD -> ASR cascade too, beside ours.
`python benchmarks/pocketsphinx_cli.py` (needs gcc and make; builds the program from the package's source once)

Its defaults and ours, the same files: the read clips one by one, and set into 60 % non-speech.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import soundfile
from cascade_quality import set_into_non_speech, with_noise
from measure import RATE, TUNED, Board, noises, read_speech, wer

CACHE = Path(__file__).parents[1] / ".cache" / "pocketsphinx"
COMMAND = [sys.executable, "-c", "from speechpipe.interfaces.cli import main; main()"]
TUNING = [flag for name, value in TUNED.items() if name != "loglevel" for flag in (f"-{name}", str(value).lower())]


def program() -> Path:
    """Return `pocketsphinx`, built from the source of the installed version."""
    binary = CACHE / "build" / "pocketsphinx"
    if binary.exists():
        return binary
    CACHE.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    source = ["download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(CACHE)]
    subprocess.run([*pip, *source, f"pocketsphinx=={version('pocketsphinx')}"], check=True)
    subprocess.run([*pip, "install", "--quiet", "cmake"], check=True)
    with tarfile.open(next(CACHE.glob("*.tar.gz"))) as archive:
        archive.extractall(CACHE, filter="data")
    cmake: list[str | Path] = [
        Path(sys.executable).with_name("cmake"),
        "-S",
        next(CACHE.glob("pocketsphinx-*/")),
        "-B",
        CACHE / "build",
    ]
    subprocess.run([*cmake, "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF"], check=True, capture_output=True)
    subprocess.run(["make", "-C", CACHE / "build", "-j2", "pocketsphinx_main"], check=True, capture_output=True)
    return binary


@dataclass
class Run:
    """The text of all files together (`live` does not say where one ends) and what it took."""

    text: str = ""
    cpu_s: float = 0.0
    wall_s: float = 0.0


def timed(command: list[str | Path], run: Run, environment: dict[str, str] | None = None) -> str:
    """Run a command, add its cost, return what it printed."""
    before, begun = os.times(), time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **(environment or {})}
    )
    after = os.times()
    run.wall_s += time.perf_counter() - begun
    run.cpu_s += after.children_user + after.children_system - before.children_user - before.children_system
    return done.stdout


def theirs(verb: str, files: list[Path], tuning: list[str]) -> Run:
    """`pocketsphinx live|single`, all files in one process: it loads its model once, as ours do."""
    import pocketsphinx

    models = {"POCKETSPHINX_PATH": str(Path(pocketsphinx.__path__[0]) / "model")}
    run = Run()
    lines = timed([program(), *tuning, verb, *files], run, models).splitlines()
    run.text = " ".join(json.loads(line)["t"] for line in lines)
    return run


def ours(files: list[Path], bundle: str) -> Run:
    """`speechpipe transcribe` with two workers, all files in one process."""
    run = Run()
    arguments = ["transcribe", *map(str, files), "--format", "json", "--workers", "2", "--bundle", bundle]
    lines = timed([*COMMAND, *arguments], run).splitlines()
    run.text = " ".join(json.loads(line)["text"] for line in lines)
    return run


def main() -> None:
    """Print the table."""
    clips = read_speech()
    quiet = set_into_non_speech(clips, seed=1)
    noise = noises()
    sets = {
        "clips": ([clip.samples for clip in clips], [clip.text for clip in clips]),
        "60 % silence": ([file.samples for file in quiet], [file.text for file in quiet]),
        "60 % white noise": (
            [with_noise(file, noise["white"]).samples for file in quiet],
            [file.text for file in quiet],
        ),
    }
    board = Board("Beside the command line of PocketSphinx: WER | CPU s | wall s")
    for name, (audio, texts) in sets.items():
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for number, samples in enumerate(audio):
                files.append(Path(folder) / f"{number}.wav")
                soundfile.write(files[-1], samples, RATE, subtype="PCM_16")
            runs = {
                "pocketsphinx live": theirs("live", files, []),
                "pocketsphinx single": theirs("single", files, []),
                "pocketsphinx live, tuned": theirs("live", files, TUNING),
                "speechpipe transcribe -b embedded": ours(files, "embedded"),
            }
        for what, run in runs.items():
            error = wer([(" ".join(texts), run.text)])
            board.add(f"{name}: {what}", "", f"{error:.3f} | {run.cpu_s:.1f} | {run.wall_s:.1f}")
    board.show()


if __name__ == "__main__":
    main()
