"""Promises of partial automation and unbiased word error rates, on recordings with known texts.

    python benchmarks/promises.py MANIFEST... [--runs 200] [--bundle default]

A simulated human types what was said. Every run draws reviews anew from what the cascade answered; what is promised on
them is looked at on everything. Reviews are drawn with replacement for promises (600), by chance for word error rates.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from speechpipe.asr import DecodeOptions
from speechpipe.config import Settings
from speechpipe.evaluation import word_errors
from speechpipe.recordings import read_manifest
from speechpipe.review.calibration import calibration_error, isotonic, promise
from speechpipe.review.estimates import Reviewed, word_error_rate
from speechpipe.service import Service
from speechpipe.session_request import SessionRequest

REVIEWS = 600
BOUNDS = (0.05, 0.1, 0.5, 0.7)
"""The last two show that something is delivered where the recordings allow it."""
DOUBTFUL, OTHERS = 0.4, 0.1
"""Chance of a review: of the least confident sixth, and of all others."""


def heard(manifests: list[Path], bundle: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (confidence, edits, words) of every recording with a text."""
    rows = []
    with Service(Settings(bundle=bundle)) as service:
        for manifest in manifests:
            for clip in read_manifest(manifest):
                if not clip.text:
                    continue
                session = service.session(service.champion, SessionRequest(DecodeOptions(whole=True)))
                utterances = [*session.feed(clip.samples), *session.finish()]
                while not session.done:
                    utterances += session.wait()
                known = [one.transcript.confidence for one in utterances if one.transcript.confidence is not None]
                errors = word_errors(clip.text, " ".join(one.transcript.text for one in utterances))
                rows.append((float(np.mean(known)) if known else 0.0, errors.edits, errors.length))
    found = np.array(rows)
    return found[:, 0], found[:, 1], found[:, 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--bundle", default="default")
    asked = parser.parse_args()
    confidence, edits, words = heard(asked.manifests, asked.bundle)
    wrong = np.minimum(edits / np.maximum(words, 1), 1.0)
    true = edits.sum() / words.sum()
    print(f"{len(words)} utterances, {words.sum():.0f} words, word error rate {true:.3f}")
    best = wrong[np.argsort(-confidence)[: len(words) // 10]].mean()
    print(f"mean error of all {wrong.mean():.1%}, of the most confident tenth {best:.1%}")
    random = np.random.default_rng(0)
    good = True
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
        print(
            f"error <= {bound:.0%}: kept in {kept / asked.runs:.1%} of the runs; automated"
            f" {np.median(shares):.1%} of the utterances (80 % of the runs {low:.1%} to {high:.1%})"
        )
    order = random.permutation(len(words))
    half, other = order[: len(order) // 2], order[len(order) // 2 :]
    fitted = isotonic(confidence[half].tolist(), (1 - wrong[half]).tolist())
    before = calibration_error(confidence[other].tolist(), (1 - wrong[other]).tolist())
    after = calibration_error(fitted(confidence[other]).tolist(), (1 - wrong[other]).tolist())
    print(f"expected calibration error {before:.3f}, calibrated {after:.3f} (fitted on the other half)")
    chance = np.where(confidence <= np.quantile(confidence, 1 / 6), DOUBTFUL, OTHERS)
    covered = plain = 0
    for _ in range(asked.runs):
        mine = np.flatnonzero(random.random(len(words)) < chance)
        rate = word_error_rate([Reviewed(int(edits[i]), int(words[i]), float(chance[i])) for i in mine])
        covered += rate.low <= true <= rate.high
        plain += rate.low <= edits[mine].sum() / words[mine].sum() <= rate.high
    good &= covered >= 0.93 * asked.runs
    print(f"reviewing {chance.mean():.1%}: the interval covers the true rate in {covered / asked.runs:.1%} of the runs")
    sys.exit(not good)


if __name__ == "__main__":
    main()
