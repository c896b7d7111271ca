"""Synthesised voices that say words: `python tools/voices.py FOLDER zero one two ...`, with a manifest of it all.

Needs Debian's espeak-ng and flite. Speakers that nobody recorded teach a recognizer that mouths differ
(benchmarks/digits_ctc.py, tools/digits_model.py). The same words give the same files.
"""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE = 16_000
VARIANTS = [
    "Alex",
    "Alicia",
    "Andrea",
    "Andy",
    "Annie",
    "Denis",
    "Diogo",
    "Gene",
    "Henrique",
    "Hugo",
    "Jacky",
    "Lee",
    "Marco",
    "Mario",
    "Michael",
    "Mike",
    "Nguyen",
    "Storm",
    "adam",
    "anika",
    "antonio",
    "belinda",
    "benjamin",
    "boris",
    "caleb",
    "david",
    "ed",
    "edward",
    "f1",
    "f2",
    "f3",
    "f4",
    "f5",
    "grandma",
    "grandpa",
    "iven",
    "john",
    "linda",
    "m1",
    "m2",
    "m3",
    "m4",
    "m5",
    "m6",
    "m7",
    "m8",
    "marcelo",
    "max",
    "michel",
    "miguel",
    "norbert",
    "pablo",
    "paul",
    "pedro",
    "quincy",
    "rob",
    "robert",
    "sandro",
    "shelby",
    "steph",
    "travis",
    "victor",
    "zac",
]
ACCENTS = ["en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029", "en-us-nyc", "en-gb-x-gbcwmd"]
FLITE = ["kal16", "awb", "rms", "slt"]
STRETCHES = (0.85, 1.0, 1.2)
QUIET = 0.02
"""Of the loudest sample: before and behind it is silence, which training puts there itself."""


def spoken(command: list[str], target: Path) -> None:
    """Have one word spoken, cut to its sound, and written as FLAC."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run([*command, file.name], check=True, capture_output=True)
        samples, hertz = soundfile.read(file.name, dtype="float32")
    samples = soxr.resample(samples, hertz, RATE).astype(np.float32)
    loud = np.flatnonzero(np.abs(samples) > QUIET * np.abs(samples).max())
    soundfile.write(target, samples[max(0, loud[0] - RATE // 40) : loud[-1] + RATE // 20], RATE)


def main() -> None:
    """Write FOLDER/*.flac and FOLDER/manifest.jsonl."""
    folder, words = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    draw, rows = random.Random(0), []
    jobs = []
    for number, variant in enumerate(VARIANTS):
        for turn in range(2):
            voice = f"{ACCENTS[(2 * number + turn) % len(ACCENTS)]}+{variant}"
            speed, pitch = draw.choice([110, 130, 150, 170, 190]), draw.randint(25, 75)
            command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch)]
            jobs += [(f"espeak-{variant}-{turn}", f"espeak-{variant}", word, [*command, word, "-w"]) for word in words]
    for voice in FLITE:
        for stretch in STRETCHES:
            command = ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch}", "-t"]
            jobs += [(f"flite-{voice}-{stretch}", f"flite-{voice}", word, [*command, word, "-o"]) for word in words]
    for name, speaker, word, command in jobs:
        target = folder / f"{name}-{word}.flac"
        spoken(command, target)
        rows.append({"audio": target.name, "text": word, "speaker": speaker, "licence": "synthesised here"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sys.stdout.write(f"{len(rows)} words, {len({row['speaker'] for row in rows})} voices\n")


if __name__ == "__main__":
    main()
