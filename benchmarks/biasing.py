"""What hotwords do to Whisper: `python benchmarks/biasing.py [MANIFEST ...]`, on the read clips and those of manifests.

Unrelated hotwords may harm: words wrong and CPU with 20 of them, as many as fit, and none, by turns; and what is
written over sounds without speech. Right ones should help: the longer words of each clip that were missed without
hotwords are given among the unrelated ones, and so many are found then.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measure import RATE, Board, Recording, add_record, read_speech
from non_speech import non_speech
from whisper_clips import Score, more, score, timed
from whisper_windows import ENVIRONMENT

from speechpipe.cascade.asr import DecodeOptions, Piece
from speechpipe.cascade.asr.whisper.recognizer import WhisperRecognizer
from speechpipe.config import Settings
from speechpipe.types import Samples

UNRELATED = (
    *("Sczepanski", "Kubernetes", "ibuprofen", "Okonkwo", "Wolfenbüttel", "metformin", "Nguyen", "PostgreSQL"),
    *("Reykjavik", "Schwarzenegger", "amoxicillin", "Terraform", "Llanelli", "Bjørn Haugen", "Siobhan", "Zürich"),
    *("quarterly rebate", "claim adjuster", "Grafana", "Xiaomi", "Tchaikovsky", "Guadalajara", "omeprazole"),
    *("Anne-Sophie Mutter", "Ljubljana", "Kierkegaard", "escrow account", "Saoirse", "Oaxaca", "Nietzsche"),
)
"""Names and terms that are in none of the recordings."""

LONG = 5
"""Letters of a word that is given as a hotword where it was missed."""


def heard(recognizer: WhisperRecognizer, samples: Samples, hotwords: Sequence[str], into: Score) -> str:
    """Return the text of samples, decoded as those of an upload; count its CPU."""
    with timed(into):
        (found,) = recognizer.transcribe([Piece(samples, DecodeOptions(offline=True, hotwords=tuple(hotwords)))])
    into.audio_s += len(samples) / RATE
    return found.text


def compare(recognizer: WhisperRecognizer, clips: Sequence[Recording], board: Board, name: str) -> None:
    """Words wrong without hotwords and with unrelated ones; words found that are among them."""
    lists = {"no hotwords": (), "20 unrelated hotwords": UNRELATED[:20], "30 unrelated, some left out": UNRELATED}
    scores = {what: score() for what in lists}
    given = found = 0
    aided = score()
    for clip in clips:
        texts = {what: heard(recognizer, clip.samples, terms, scores[what]) for what, terms in lists.items()}
        for what, text in texts.items():
            scores[what].add(clip.text, text)
        normal = aided.normal
        missed = set(normal(clip.text).split()) - set(normal(texts["no hotwords"]).split())
        wanted = sorted(word for word in missed if len(word) >= LONG)
        text = heard(recognizer, clip.samples, [*wanted, *UNRELATED[: 20 - len(wanted)]], aided)
        aided.add(clip.text, text)
        given += len(wanted)
        found += len(set(wanted) & set(normal(text).split()))
    plain = scores.pop("no hotwords")
    board.add(f"{len(clips)} {name}, no hotwords: words wrong; CPU-s a second", "", str(plain))
    for what, one in scores.items():
        board.add(f"  {what}", f"<= {plain.wer + 0.01:.4f}", str(one), one.wer <= plain.wer + 0.01)
    board.add("  20, among them what was missed", f"<= {plain.wer:.4f}", str(aided), aided.wer <= plain.wer)
    board.add("  of the missed words given, found", "> 1 / 3", f"{found} of {given}", 3 * found > given)


def over_non_speech(recognizer: WhisperRecognizer, minutes: float, board: Board) -> None:
    """What is written over sounds without speech, with the VAD left out."""
    words = {(): 0, UNRELATED[:20]: 0}
    for name, samples in non_speech(minutes):
        for hotwords in words:
            text = heard(recognizer, samples, hotwords, score())
            words[hotwords] += len(text.split())
            if text:
                print(f"  {name}, {len(hotwords)} hotwords: {text!r}", file=sys.stderr)
    without, biased = words.values()
    what = f"{minutes:g} minutes without speech, no VAD: words with 20 hotwords"
    board.add(what, f"<= {without}, without", str(biased), biased <= without)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifests", nargs="*", type=Path, help="further clips with texts")
    parser.add_argument("--weights", type=Path, default=Settings().weights_folder)
    parser.add_argument("--limit", type=int, help="further clips at most")
    parser.add_argument("--minutes", type=float, default=10.0)
    add_record(parser)
    given = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})
    recognizer = WhisperRecognizer({"model": given.weights / "whisper-tiny-en-1.0.0" / "model.bin"}, language="en")
    recognizer.transcribe([Piece(np.random.default_rng(0).normal(0, 0.01, RATE).astype(np.float32))])
    board = Board("Hotwords, Whisper tiny.en, int8, one thread")
    compare(recognizer, read_speech(), board, "read clips")
    if clips := [clip for clip in more(given.manifests) if len(clip.samples) <= 29 * RATE][: given.limit]:
        compare(recognizer, clips, board, "further clips")
    over_non_speech(recognizer, given.minutes, board)
    board.show()


if __name__ == "__main__":
    main()
