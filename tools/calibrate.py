"""The table of a recognizer's confidences that comes with its card: `models/asr/confidence/NAME-VERSION.json`.

    python tools/calibrate.py BUNDLE MANIFEST... [--noisy 1] [--write]

Every recording with a text goes through the bundle: once as it is, and `--noisy` times with noise. Kinds of noise
(white, pink, brown, hum, babble, knocks) and signal-to-noise ratios (20, 10, 5, 0 dB) take turns. The noises are made
here, so that the recorded ones of the benchmarks say whether the table holds for others. What was heard is compared
with the texts, and the table of utterances and that of words are fitted. `--write` writes the file, and its hash into
the card.

The table that ships was made of `audio_samples/manifest.jsonl` and of `chosen.jsonl` of `tools/prompts.py`, with
`--noisy 1`. Recordings above 15 s are left out.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import numpy.typing as npt
from whisper_normalizer.english import EnglishTextNormalizer

from speechpipe.bench.cascade_alone import CascadeAlone
from speechpipe.cascade.catalog.confidence import FORMAT
from speechpipe.cascade.catalog.factories import catalogue
from speechpipe.cascade.evaluation.manifest import Clip, read_manifest
from speechpipe.cascade.evaluation.scores import normalise, word_errors
from speechpipe.config import Settings
from speechpipe.foundation.stats.calibration import Prior, calibration_error, grouped
from speechpipe.types import SAMPLE_RATE_HZ, Samples, Transcript, Word

RATIOS_DB = (20.0, 10.0, 5.0, 0.0)
FOLDS = 5
BETWEEN_S = 0.3
"""Silence before and after each recording, as of an upload."""

ENGLISH = EnglishTextNormalizer()

# ---- noises ----


def shaped(draw: np.random.Generator, samples: int, power: float) -> npt.NDArray[np.float64]:
    """Return noise whose amplitude falls with the frequency to this power."""
    spectrum = np.fft.rfft(draw.normal(0, 1, samples))
    return np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 20.0) ** power, samples)


def hum(draw: np.random.Generator, samples: int) -> npt.NDArray[np.float64]:
    """Return the hum of the mains with overtones, over faint noise."""
    t = np.arange(samples) / SAMPLE_RATE_HZ
    tones = sum(np.sin(2 * np.pi * 50 * k * t + draw.uniform(0, 6)) / k for k in range(1, 20))
    return np.asarray(tones + draw.normal(0, 0.1, samples))


def knocks(draw: np.random.Generator, samples: int) -> npt.NDArray[np.float64]:
    """Return short bursts, about four a second, over faint noise."""
    made = draw.normal(0, 0.02, samples)
    length = SAMPLE_RATE_HZ // 20
    for at in draw.integers(0, max(samples - length, 1), max(1, 4 * samples // SAMPLE_RATE_HZ)):
        burst = draw.normal(0, 1, length) * np.exp(-np.arange(length) / (length / 6))
        made[at : at + length] += burst[: samples - at]
    return made


def babble(draw: np.random.Generator, samples: int, clips: Sequence[Clip]) -> npt.NDArray[np.float64]:
    """Return six of the recordings at once."""
    found = np.zeros(samples)
    for number in draw.integers(0, len(clips), 6):
        found += np.resize(np.roll(clips[number].samples, int(draw.integers(SAMPLE_RATE_HZ))), samples)
    return found


def noisy(clip: Clip, kind: str, ratio_db: float, draw: np.random.Generator, clips: Sequence[Clip]) -> Samples:
    """Return a recording with noise of a kind, so many decibels below it."""
    count = len(clip.samples)
    noise = {
        "white": lambda: shaped(draw, count, 0.0),
        "pink": lambda: shaped(draw, count, 0.5),
        "brown": lambda: shaped(draw, count, 1.0),
        "hum": lambda: hum(draw, count),
        "babble": lambda: babble(draw, count, clips),
        "knocks": lambda: knocks(draw, count),
    }[kind]()
    gain = np.sqrt(np.mean(clip.samples**2) / max(float(np.mean(noise**2)), 1e-12) / 10 ** (ratio_db / 10))
    made: Samples = (clip.samples + gain * noise).astype(np.float32)
    return made


KINDS = ("white", "pink", "brown", "hum", "babble", "knocks")


def recordings(clips: Sequence[Clip], times: int) -> Iterator[tuple[Clip, Samples]]:
    """Yield every recording as it is, and so many times with noise."""
    draw = np.random.default_rng(0)
    conditions = cycle([(kind, ratio) for ratio in RATIOS_DB for kind in KINDS])
    for clip in clips:
        yield clip, clip.samples
        for _ in range(times):
            yield clip, noisy(clip, *next(conditions), draw, clips)


# ---- what was heard ----


@dataclass
class Heard:
    """Confidences, and what was right, of all recordings. `clips` says which recording each utterance was of."""

    confidence: list[float] = field(default_factory=list)
    right: list[float] = field(default_factory=list)
    clips: list[int] = field(default_factory=list)
    words: list[float] = field(default_factory=list)
    right_words: list[float] = field(default_factory=list)
    word_clips: list[int] = field(default_factory=list)

    def add(self, clip: int, text: str, transcripts: Sequence[Transcript]) -> None:
        """Compare what was heard in a recording with its text. A number in figures is as right as one in words."""
        known = [one for one in transcripts if one.confidence is not None]
        words = [word for transcript in known for word in transcript.words if word.confidence is not None]
        total = sum(len(transcript.words) for transcript in known)
        if not total:
            return
        self.confidence.append(sum((one.confidence or 0.0) * len(one.words) for one in known) / total)
        heard = " ".join(one.text for one in known)
        plain, english = (word_errors(text, heard, by) for by in (normalise, ENGLISH))
        wrong = min(error.edits / max(error.length, 1) for error in (plain, english))
        self.right.append(1.0 - min(wrong, 1.0))
        self.clips.append(clip)
        self.words += [word.confidence or 0.0 for word in words]
        self.right_words += [1.0] * len(words) if wrong == 0 else which_right(text, words)
        self.word_clips += [clip] * len(words)


def which_right(text: str, words: Sequence[Word]) -> list[float]:
    """Return 1 for each word that is in the text at its place, else 0."""
    parts = [normalise(word.text).split() for word in words]
    heard = [part for some in parts for part in some]
    good = np.zeros(len(heard), bool)
    if heard:
        for chunk in jiwer.process_words(normalise(text), " ".join(heard)).alignments[0]:
            good[chunk.hyp_start_idx : chunk.hyp_end_idx] = chunk.type == "equal"
    ends = np.cumsum([len(some) for some in parts])
    return [float(good[end - len(some) : end].all()) for some, end in zip(parts, ends.tolist(), strict=True)]


def hear(cascade: CascadeAlone, clips: Sequence[Clip], times: int) -> Heard:
    """Recognize all recordings."""
    found, silence = Heard(), np.zeros(round(BETWEEN_S * SAMPLE_RATE_HZ), np.float32)
    numbers = {clip.name: number for number, clip in enumerate(clips)}
    for clip, samples in recordings(clips, times):
        heard = cascade.transcripts(np.concatenate([silence, samples, silence]))
        found.add(numbers[clip.name], clip.text or "", heard)
    return found


# ---- the table ----


def fitted(confidence: Sequence[float], right: Sequence[float], clips: Sequence[int], what: str) -> dict[str, Any]:
    """Fit a part of the table, print how well it holds on recordings that it was not fitted on, and return it."""
    values, targets, of = np.array(confidence), np.array(right), np.array(clips)
    held_out = np.empty(len(values))
    for fold in range(FOLDS):
        mine = of % FOLDS == fold
        held_out[mine] = grouped(values[~mine].tolist(), targets[~mine].tolist()).calibration(values[mine])
    before, after = (calibration_error(list(one), right) for one in (values, held_out))
    print(f"{len(values)} {what}, {np.mean(right):.1%} right: calibration error {before:.3f}, calibrated {after:.3f}")
    found: Prior = grouped(confidence, right)
    edges, levels, shares = found.calibration.edges, found.calibration.levels, found.shares
    steps = [[round(value, 4) for value in row] for row in zip(edges, levels, shares, strict=True)]
    for edge, level, share in steps:
        print(f"  from {edge:.4f} on: {level:.3f} ({share:.1%} of them)")
    errors = {"error_before": round(before, 4), "error_after": round(after, 4)}
    return {"count": len(values), "right": round(float(np.mean(right)), 4), **errors, "steps": steps}


def write(card: Path, name: str, document: dict[str, Any]) -> None:
    """Write the table and put its hash into the card, in a section before the first table of the card."""
    path = card.parent / "confidence" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    lines = json.dumps(document, indent=1, ensure_ascii=False)
    path.write_text(re.sub(r"\[\s+([\d.]+),\s+([\d.]+),\s+([\d.]+)\s+\]", r"[\1, \2, \3]", lines) + "\n")
    section = (
        "[confidence]   # how often it is right at which confidence, measured by tools/calibrate.py\n"
        f'table = "confidence/{path.name}"\nsha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"\n\n'
    )
    text = re.sub(r"\[confidence\].*?\n\n", "", card.read_text(), flags=re.DOTALL)
    card.write_text(re.sub(r"^\[", lambda _: section + "[", text, count=1, flags=re.MULTILINE))
    print(f"{path} written, and its hash into {card}")


def main() -> None:
    """Measure, print, and write if it was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--noisy", type=int, default=1, help="how often each recording is heard with noise")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    sets = {manifest: [clip for clip in read_manifest(manifest) if clip.text] for manifest in given.manifests}
    cards = catalogue(Settings())
    bundle = cards.bundle(given.bundle)
    cards.require(bundle)
    card = cards.part("asr", bundle)
    found = hear(CascadeAlone(bundle), [clip for clips in sets.values() for clip in clips], given.noisy)
    document = {
        "format": FORMAT,
        "recognizer": card.id,
        "recordings": [
            {"manifest": path.name, "clips": len(clips), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for path, clips in sets.items()
        ],
        "noise": {"kinds": list(KINDS), "ratios_db": list(RATIOS_DB), "times": given.noisy},
        "utterances": fitted(found.confidence, found.right, found.clips, "utterances"),
        "words": fitted(found.words, found.right_words, found.word_clips, "words"),
    }
    if given.write:
        write(card.path, f"{card.name}-{card.version}", document)


if __name__ == "__main__":
    main()
