"""Promises of partial automation and unbiased word error rates, on recordings with known texts.

    python benchmarks/promises.py MANIFEST... [--runs 200] [--bundle default] [--record]

A simulated human types what was said. Every run draws reviews anew from what the cascade answered; what is promised on
them is looked at on everything. Reviews are drawn with replacement for promises (600), by chance for word error rates.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measure import Figure, add_record, record

from speechpipe.bench.cascade_alone import CascadeAlone
from speechpipe.cascade.catalog.factories import catalogue
from speechpipe.cascade.evaluation.manifest import read_manifest
from speechpipe.cascade.evaluation.scores import word_errors
from speechpipe.config import Settings
from speechpipe.control.review.estimates import Reviewed, word_error_rate
from speechpipe.control.review.sampling import review_chance
from speechpipe.control.review.tasks import DraftSegment
from speechpipe.foundation.stats.calibration import calibration_error, isotonic, promise
from speechpipe.serving.automation.policy import Policy

REVIEWS = 600
BOUNDS = (0.05, 0.1, 0.5, 0.7)
"""The last two show that something is delivered where the recordings allow it."""
POLICY = Policy(audit_share=0.06, doubt=0.1, doubtful_share=0.1)
"""At degree *full*, so that less than a fifth of the audio is reviewed."""


@dataclass(frozen=True)
class Answers:
    """What the cascade made of every recording with a text, (n,) each."""

    confidence: np.ndarray
    edits: np.ndarray
    words: np.ndarray
    seconds: np.ndarray
    chance: np.ndarray  # with which a person would look at it, at `POLICY`
    shipped: np.ndarray  # what the table of the recognizer's card says; the confidence if it has none


def heard(manifests: list[Path], name: str) -> Answers:
    """Send every recording through the cascade, as an upload."""
    rows = []
    cards = catalogue(Settings())
    bundle = cards.bundle(name)
    cards.require(bundle)
    cascade = CascadeAlone(bundle)
    for clip in (clip for manifest in manifests for clip in read_manifest(manifest) if clip.text):
        transcripts = cascade.transcripts(clip.samples)
        pieces = [
            DraftSegment(
                str(number), 0.0, clip.duration_s, one.text, [{"word": word.text} for word in one.words], one.confidence
            )
            for number, one in enumerate(transcripts)
        ]
        known = [(piece.confidence, len(piece.words)) for piece in pieces if piece.confidence is not None]
        total = sum(words for _, words in known)
        confidence = sum(value * words for value, words in known) / total if total else 0.0
        errors = word_errors(clip.text or "", " ".join(piece.text for piece in pieces))
        rows.append((confidence, errors.edits, errors.length, clip.duration_s, review_chance(pieces, POLICY)))
    table = cards.confidence(bundle).utterances.calibration
    confidences, edits, words, seconds, chances = np.array(rows).T
    return Answers(confidences, edits, words, seconds, chances, table(confidences))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--bundle", default="default")
    add_record(parser)
    asked = parser.parse_args()
    found_all = heard(asked.manifests, asked.bundle)
    confidence, edits, words = found_all.confidence, found_all.edits, found_all.words
    wrong = np.minimum(edits / np.maximum(words, 1), 1.0)
    true = edits.sum() / words.sum()
    print(f"{len(words)} utterances, {words.sum():.0f} words, word error rate {true:.3f}")
    best = wrong[np.argsort(-confidence)[: len(words) // 10]].mean()
    print(f"mean error of all {wrong.mean():.1%}, of the most confident tenth {best:.1%}")
    random = np.random.default_rng(0)
    good, rows = True, list[Figure]()
    for bound in BOUNDS:
        kept, shares = 0, []
        for _ in range(asked.runs):
            mine = random.integers(0, len(words), REVIEWS)
            found = promise(confidence[mine].tolist(), wrong[mine].tolist(), bound)
            accepted = np.zeros(len(words), bool) if found.threshold is None else confidence >= found.threshold
            shares.append(accepted.mean())
            kept += not accepted.any() or wrong[accepted].mean() <= bound
        good &= kept >= 0.95 * asked.runs
        low, high = np.quantile(shares, [0.1, 0.9])
        told = f"{kept / asked.runs:.1%}; {np.median(shares):.1%}"
        what = f"*partial* keeps its bound of {bound:.0%} in {asked.runs} runs; share automated"
        rows.append(Figure(what, ">= 95 %", told, bool(kept >= 0.95 * asked.runs)))
        print(
            f"error <= {bound:.0%}: kept in {kept / asked.runs:.1%} of the runs; automated"
            f" {np.median(shares):.1%} of the utterances (80 % of the runs {low:.1%} to {high:.1%})"
        )
    order = random.permutation(len(words))
    half, other = order[: len(order) // 2], order[len(order) // 2 :]
    fitted = isotonic(confidence[half].tolist(), (1 - wrong[half]).tolist())
    before = calibration_error(confidence[other].tolist(), (1 - wrong[other]).tolist())
    after = calibration_error(fitted(confidence[other]).tolist(), (1 - wrong[other]).tolist())
    shipped = calibration_error(found_all.shipped.tolist(), (1 - wrong).tolist())
    raw = calibration_error(confidence.tolist(), (1 - wrong).tolist())
    print(f"expected calibration error {raw:.3f}, by the table of the card {shipped:.3f}")
    print(f"  of one half {before:.3f}, calibrated on the other {after:.3f}")
    what = "error of calibration: raw, by the table of the card, fitted on the other half"
    rows.append(Figure(what, "", f"{raw:.3f}, {shipped:.3f}, {after:.3f}"))
    chance, covered, shares = found_all.chance, 0, []
    for _ in range(asked.runs):
        mine = np.flatnonzero(random.random(len(words)) < chance)
        rate = word_error_rate([Reviewed(int(edits[i]), int(words[i]), float(chance[i])) for i in mine])
        covered += rate.low <= true <= rate.high
        shares.append(found_all.seconds[mine].sum() / found_all.seconds.sum())
    good &= covered >= 0.93 * asked.runs
    print(
        f"reviewing {np.mean(shares):.1%} of the audio ({np.max(shares):.1%} at most): the interval covers the true"
        f" rate in {covered / asked.runs:.1%} of the runs"
    )
    if asked.record:
        what = f"the interval of the word error rate covers the true one, reviewing {np.mean(shares):.1%} of the audio"
        share = covered / asked.runs
        record([*rows, Figure(what, ">= 93 %", f"{share:.1%}", bool(share >= 0.93))])
    sys.exit(not good)


if __name__ == "__main__":
    main()
