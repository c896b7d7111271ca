"""The tables of docs/decisions/0005: PocketSphinx's means and settings on whole clips, clean and in noise at 20 dB.
`python benchmarks/decoder_settings.py` (about ten minutes)"""

import time
from typing import Any

import numpy as np
from measure import TUNED, BareDecoder, Board, Recording, noises, read_speech, wer
from pocketsphinx import Decoder

from speechpipe.types import Samples

SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"topn": 2},
    {"topn": 1},
    {"topn": 2, "maxhmmpf": 2000},
    {"topn": 2, "pl_window": 0},
    {"topn": 2, "maxwpf": 10},
    {"topn": 2, "maxwpf": 5, "maxhmmpf": 2500},
    {"topn": 2, "ds": 2},
    {"topn": 2, "beam": 1e-40, "pbeam": 1e-40, "wbeam": 1e-25},
)


def noisy(samples: Samples, noise: Samples) -> Samples:
    """Return the clip with noise 20 dB below it."""
    repeated = np.resize(noise, len(samples))
    scale = 0.1 * np.sqrt(np.mean(samples**2) / np.mean(repeated**2))
    mixed: Samples = np.clip(samples + scale * repeated, -1, 1).astype(np.float32)
    return mixed


def running_mean(clips: list[Recording], audio: list[Samples], *, carried: bool) -> float:
    """WER with the running mean, carried from clip to clip or reset before each."""
    decoder = Decoder(**TUNED)
    start, pairs = decoder.get_cmn(False), []
    for clip, samples in zip(clips, audio, strict=True):
        pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
        if not carried:
            decoder.set_cmn(start)
        decoder.start_utt()
        for at in range(0, len(pcm), 1024):
            decoder.process_raw(pcm[at : at + 1024])
        decoder.end_utt()
        found = decoder.hyp()
        pairs.append((clip.text, found.hypstr if found else ""))
    return wer(pairs)


def main() -> None:
    """Print the tables."""
    clips, noise = read_speech(), noises()
    sets = {"clean": [clip.samples for clip in clips]}
    for name in ("white", "noise1", "noise3"):
        if name in noise:
            sets[name] = [noisy(clip.samples, noise[name]) for clip in clips]
    board = Board(f"PocketSphinx on {len(clips)} whole clips: mean WER of {', '.join(sets)} | CPU over the first row")
    base = 0.0
    for settings in SETTINGS:
        decoder = BareDecoder(**{**TUNED, **settings})
        begun = time.process_time()
        rates = [
            wer([(clip.text, decoder.text(samples)) for clip, samples in zip(clips, audio, strict=True)])
            for audio in sets.values()
        ]
        cost = time.process_time() - begun
        base = base or cost
        board.add(str(settings or "tuned by hand"), "", f"{np.mean(rates):.3f} | {cost / base:.2f}")
    for name in ("clean", "white"):
        whole = BareDecoder()
        texts = [(clip.text, whole.text(samples)) for clip, samples in zip(clips, sets[name], strict=True)]
        board.add(f"{name}: mean of the whole clip", "", f"{wer(texts):.3f}")
        board.add(f"{name}: running mean, carried", "", f"{running_mean(clips, sets[name], carried=True):.3f}")
        board.add(f"{name}: running mean, reset", "", f"{running_mean(clips, sets[name], carried=False):.3f}")
    board.show()


if __name__ == "__main__":
    main()
