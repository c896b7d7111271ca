"""Language model adaptation on a closed domain: the prompts of a telephone system, half of them reviewed, tested on the
other half; and what it costs on general speech (`../shared/data/read`). `python benchmarks/lm_adaptation.py`, after
`apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-g722` (Debian; the recordings are CC-BY-SA-3.0)"""

import argparse
import gzip
import re
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
from measure import BUNDLE, Board, add_record, read_speech

from speechpipe.cascade.asr import DecodeOptions, load_recognizer
from speechpipe.cascade.asr.pocketsphinx import model_files
from speechpipe.cascade.evaluation.scores import Errors, normalise, rate, word_errors
from speechpipe.control.training.lm.adaptation import LmOptions, adapt
from speechpipe.types import ModelFile, Samples

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
LEAST_WORDS = 3
MOST_S = 15.0

Clip = tuple[str, Samples]


def prompts() -> list[Clip]:
    """Return the prompts that are sentences, with what is said in them."""
    if not TEXTS.exists() or not SOUNDS.exists():
        sys.exit("apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-g722")
    found: dict[str, Clip] = {}
    for line in gzip.decompress(TEXTS.read_bytes()).decode("utf-8", "replace").splitlines():
        name, colon, said = line.partition(":")
        path = SOUNDS / f"{name}.g722"
        text = normalise(said)
        # Digits are said in more ways than one, and what stands in brackets is no speech.
        if not colon or re.search(r"[\d\[\]<>]", said) or len(text.split()) < LEAST_WORDS or not path.exists():
            continue
        samples = wide_band(path)
        if len(samples) <= MOST_S * 16_000:
            found.setdefault(text, (text, samples))
    return list(found.values())


def wide_band(path: Path) -> Samples:
    """Return the samples of a G.722 file: it has no header, so its format must be told."""
    with av.open(str(path), format="g722") as container:
        parts = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    found: Samples = (np.concatenate(parts) / 32768).astype(np.float32)
    return found


def decode(clips: Sequence[Clip], files: Sequence[ModelFile]) -> list[Errors]:
    """Return the errors of the default bundle's recognizer, with other files if they are given."""
    options: dict[str, Any] = BUNDLE
    recognizer = load_recognizer("pocketsphinx", files, **options)
    found = []
    for text, samples in clips:
        stream = recognizer.open(DecodeOptions(offline=True))
        stream.feed(samples)
        found.append(word_errors(text, stream.finish().text))
    return found


def in_parts(pool: ProcessPoolExecutor, clips: Sequence[Clip], files: Sequence[ModelFile] = ()) -> list[Errors]:
    """Decode in both processes."""
    halves = [list(clips[0::2]), list(clips[1::2])]
    first, second = (pool.submit(decode, half, files) for half in halves)
    found: list[Errors] = [Errors(0, 0)] * len(clips)
    found[0::2], found[1::2] = first.result(), second.result()
    return found


def wer(errors: Sequence[Errors]) -> float:
    """Return the pooled rate."""
    return sum(item.edits for item in errors) / sum(item.length for item in errors)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--weight", type=float, default=0.0)
    add_record(parser)
    given = parser.parse_args()
    clips = prompts()
    general = [(clip.text, clip.samples) for clip in read_speech()]
    board = Board(f"{len(clips)} prompts, half reviewed; {len(general)} read clips: WER before -> after")
    lm, dictionary = model_files()
    relative, costs = [], []
    with ProcessPoolExecutor(2) as pool:
        before, read_before = in_parts(pool, clips), in_parts(pool, general)
        for split in range(given.splits):
            order = np.random.default_rng(split).permutation(len(clips))
            reviewed, tested = order[: len(clips) // 2], order[len(clips) // 2 :]
            with tempfile.TemporaryDirectory() as name:
                options = LmOptions(weight=given.weight)
                adapted = adapt([clips[index][0] for index in reviewed], lm, dictionary, Path(name), options)
                files = [
                    ModelFile(role, Path(name) / file, "") for role, file in (("lm", "lm.bin"), ("dict", "words.dict"))
                ]
                after = in_parts(pool, [clips[index] for index in tested], files)
                read_after = in_parts(pool, general, files)
            was, now = wer([before[index] for index in tested]), wer(after)
            relative.append(1 - now / was)
            costs.append(wer(read_after) - wer(read_before))
            what = f"{len(reviewed)} texts, {len(adapted.new_words)} new words, weight {adapted.weight:.2f}"
            general_now = f"general {wer(read_before):.3f} -> {wer(read_after):.3f}"
            board.add(f"split {split}: {what}", "", f"{was:.3f} -> {now:.3f} ({-relative[-1]:+.1%}); {general_now}")
            print(rate(after), flush=True)
    board.add(
        "mean: relative reduction; points lost on general speech",
        ">= 25 %; <= 1",
        f"{np.mean(relative):.1%}; {100 * np.mean(costs):+.2f}",
        bool(np.mean(relative) >= 0.25 and np.mean(costs) <= 0.01),
    )
    board.show()


if __name__ == "__main__":
    main()
