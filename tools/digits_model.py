"""Trains `models/asr/digits-ctc.toml` again: `python tools/digits_model.py DIGITS [VERSION]`, ten minutes on two cores.

DIGITS is a folder with the Free Spoken Digit Dataset as manifest.jsonl (audio, text, speaker, licence), files named
DIGIT_SPEAKER_TAKE. Takes 0 to 4 of every speaker and digit are the test, nothing is learnt of them. Needs Debian's
espeak-ng and flite for the voices that are learnt from beside (tools/voices.py). Stopped, it goes on. What comes out is
in var/digits_model/models, under a version of its own: a version that is known never changes.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORK = ROOT / "var" / "digits_model"
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEST_TAKES = range(5)
DESCRIPTION = (
    "Ten English digits in any order: a character CTC network on log-mel features, 660,000 weights. Trained on the "
    "Free Spoken Digit Dataset (six speakers; Zohar Jackson and others, "
    "https://github.com/Jakobovski/free-spoken-digit-dataset, CC-BY-SA-4.0) and on synthesised voices."
)


def main() -> None:
    """Write manifests and voices, then train."""
    source, version = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "1.0.0-again"
    WORK.mkdir(parents=True, exist_ok=True)
    parts: dict[bool, list[str]] = {True: [], False: []}
    for line in (source / "manifest.jsonl").read_text().splitlines():
        row = json.loads(line)
        tested = int(Path(row["audio"]).stem.split("_")[2]) in TEST_TAKES
        parts[tested].append(json.dumps(row | {"audio": str((source / row["audio"]).resolve())}) + "\n")
    (WORK / "learn.jsonl").write_text("".join(parts[False]))
    (WORK / "test.jsonl").write_text("".join(parts[True]))
    voices = WORK / "voices" / "manifest.jsonl"
    if not voices.exists():
        subprocess.run([sys.executable, ROOT / "tools" / "voices.py", voices.parent, *DIGITS], check=True)
    command = ["-m", "speechpipe", "train", "ctc", WORK / "learn.jsonl", "--test", WORK / "test.jsonl"]
    command += ["--extra", voices, "--closed", "--name", "digits-ctc", "--licence", "CC-BY-SA-4.0"]
    command += ["--description", DESCRIPTION, "--epochs", "60", "--patience", "25"]
    command += ["--version", version, "--work", WORK / "training", "--out", WORK / "models"]
    subprocess.run([sys.executable, *command], check=True)


if __name__ == "__main__":
    main()
