"""Telephone prompts with their texts: `python tools/prompts.py FOLDER` writes clips and two manifests.

Needs Debian's asterisk-core-sounds-en and asterisk-core-sounds-en-wav, installed or unpacked below `--root`: recordings
of one woman for Asterisk, at 8 kHz. On those of `chosen.jsonl` two parameters of how Whisper's windows are packed were
chosen (as on the read clips), on those of `held_out.jsonl` nothing was.
"""

import argparse
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import soundfile
import soxr

RATE = 16_000
TEXTS = "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
SOUNDS = "usr/share/asterisk/sounds/en_US_f_Allison"
CHOSEN = 200
SHORTEST_S = 0.4
LINE = re.compile(r"([\w/.-]+): (.*)")
NO_SPEECH = ("letters", "phonetic", "silence")
"""Folders of letters, their names on the telephone, and silences."""


def prompts(root: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield the name, file and text of each prompt that is speech and has a text without stage directions."""
    with gzip.open(root / TEXTS, "rt") as lines:
        for line in lines:
            if (found := LINE.match(line.strip())) is None:
                continue
            name, text = found.groups()
            path = root / SOUNDS / f"{name}.wav"
            spoken = re.search("[a-z]", text.lower()) and not re.search(r"[\[(]", text)
            if spoken and not name.startswith(NO_SPEECH) and path.exists():
                yield name.replace("/", "_"), path, text


def main() -> None:
    """Write the clips and the manifests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--root", type=Path, default=Path("/"))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, path, text in prompts(given.root):
        samples, rate = soundfile.read(path, dtype="float32")
        if len(samples) >= SHORTEST_S * rate:
            soundfile.write(given.folder / f"{name}.flac", soxr.resample(samples, rate, RATE), RATE)
            rows.append(json.dumps({"audio": f"{name}.flac", "text": text}))
    for file, part in (("chosen.jsonl", rows[:CHOSEN]), ("held_out.jsonl", rows[CHOSEN:])):
        (given.folder / file).write_text("\n".join(part) + "\n")
        print(f"{given.folder / file}: {len(part)} clips")


if __name__ == "__main__":
    main()
