"""VAD fitting: half of `../shared/data/meetings` fitted to, the other half tested, in every way to halve them.
`python benchmarks/vad_fitting.py`"""

import json
import sys
from itertools import combinations

import soundfile
from measure import SHARED, Board

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.cascade.vad import load_component
from speechpipe.cascade.vad.segmenter import SegmenterOptions
from speechpipe.control.training.vad_fit import Frames, Marked, fit, measure


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def main() -> None:
    """Print the table."""
    manifest = SHARED / "meetings" / "manifest.jsonl"
    if not manifest.exists():
        sys.exit(f"no recordings at {SHARED}")
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    clips = [
        Marked(
            soundfile.read(manifest.parent / row["audio"], dtype="float32")[0],
            [(start, end) for start, end in row["speech"]],
        )
        for row in rows
    ]
    bundle = Catalogue([shipped_models()]).bundle("default")
    vad, start = load_component(bundle.vad), SegmenterOptions().changed(bundle.segmenter)
    board = Board(f"{len(clips)} meetings of 30 s, three fitted to, the other two tested: default -> fitted")
    before: list[Frames] = []
    after: list[Frames] = []
    passed: list[tuple[Frames, Frames]] = []
    for chosen in combinations(range(len(clips)), len(clips) // 2 + len(clips) % 2):
        fitted = fit([clips[number] for number in chosen], vad, start)
        rest = [clip for number, clip in enumerate(clips) if number not in chosen]
        before.append(measure(rest, vad, start))
        after.append(measure(rest, vad, fitted.options))
        passed.append((measure(rest, vad, start, padded=True), measure(rest, vad, fitted.options, padded=True)))
        print(chosen, f"{before[-1].f1:.3f} -> {after[-1].f1:.3f}", fitted.options, flush=True)
    wins = sum(now.f1 > was.f1 for was, now in zip(before, after, strict=True))
    for name in ("recall", "precision"):
        was, now = (mean([getattr(one, name) for one in side]) for side in (before, after))
        board.add(f"frames called speech: {name}, mean", "", f"{was:.3f} -> {now:.3f}")
    was, now = mean([one.f1 for one in before]), mean([one.f1 for one in after])
    board.add("frames called speech: F1, mean over all halves", "better", f"{was:.3f} -> {now:.3f}", now > was)
    board.add("halves in which it is better", "", f"{wins} of {len(before)}")
    for name in ("recall", "precision"):
        was, now = (mean([getattr(pair[side], name) for pair in passed]) for side in (0, 1))
        board.add(f"what reaches the recognizer: {name}, mean", "", f"{was:.3f} -> {now:.3f}")
    board.show()


if __name__ == "__main__":
    main()
