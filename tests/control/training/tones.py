"""A language of tones that a small network learns in seconds: each letter is a tone, each word a few letters."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

from speechpipe.cascade.asr.acoustic import NetworkConfig
from speechpipe.control.training.examples import Example
from speechpipe.types import Samples

WORDS = ("ab", "ba", "cd", "dc")
SMALL = NetworkConfig(alphabet=" abcd", mels=20, channels=8, hidden=24, layers=1, dropout=0.0)
HERTZ = {"a": 400.0, "b": 900.0, "c": 1600.0, "d": 2600.0}
LETTER_S = 0.12


def spoken(text: str, speaker: int = 0) -> Samples:
    """A text as tones; every speaker has a pitch of their own."""
    parts = []
    for letter in text:
        n = round(LETTER_S * 16_000)
        wave = np.sin(2 * np.pi * HERTZ.get(letter, 0.0) * (1 + 0.02 * speaker) * np.arange(n) / 16_000)
        parts.append(0.3 * wave * np.hanning(n))
    return np.concatenate(parts).astype(np.float32)


def examples(count: int, words: Iterable[str] = WORDS) -> list[Example]:
    """Single words by five speakers."""
    known = list(words)
    return [
        Example(spoken(known[n % len(known)], n % 5), known[n % len(known)], f"s{n % 5}", f"{n}") for n in range(count)
    ]


def manifest(folder: Path, count: int, words: Iterable[str] = WORDS, name: str = "manifest.jsonl") -> Path:
    """The same as files."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for item in examples(count, words):
        path = folder / f"{item.text}-{item.name}.flac"
        soundfile.write(path, item.samples, 16_000)
        rows.append({"audio": path.name, "text": item.text, "speaker": item.speaker, "licence": "CC0-1.0"})
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name
