"""Scores of a cascade on labelled audio: word and character error rates with intervals, and VAD against spans.

Bootstrap: Bisani & Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import jiwer
import numpy as np

FRAME_S = 0.01
RESAMPLES = 1000

ABBREVIATIONS = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint"}

Spans = Sequence[tuple[float, float]]

Normalizer = Callable[[str], str]
"""Returns a text as it is compared: two texts that it makes the same have no errors against each other."""


def normalise(text: str) -> str:
    """Return the text in lower case, with abbreviated titles written out and no punctuation but apostrophes."""
    words = re.sub(r"[^\w' ]+", " ", text.lower().replace("’", "'")).split()
    return " ".join(ABBREVIATIONS.get(word, word) for word in words)


@dataclass(frozen=True, slots=True)
class Errors:
    """Number of edits of one file and length of its reference, in words or characters."""

    edits: int
    length: int


@dataclass(frozen=True, slots=True)
class Rate:
    """An error rate over a set of files, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def word_errors(reference: str, hypothesis: str, by: Normalizer = normalise) -> Errors:
    """Return substitutions + deletions + insertions over words, both sides normalised."""
    expected, got = by(reference).strip(), by(hypothesis).strip()
    if not expected:
        return Errors(len(got.split()), 0)
    output = jiwer.process_words(expected, got)
    return Errors(output.substitutions + output.deletions + output.insertions, len(expected.split()))


@dataclass(frozen=True, slots=True)
class Alignment:
    """The differences of two texts. `pairs` has (reference, hypothesis) words of each edit, "" for a missing word."""

    pairs: tuple[tuple[str, str], ...]
    length: int


def align(reference: str, hypothesis: str) -> Alignment:
    """Return the word differences of two texts, both sides normalised."""
    expected, got = normalise(reference).split(), normalise(hypothesis).split()
    if not expected:
        return Alignment(tuple(("", word) for word in got), 0)
    output = jiwer.process_words(" ".join(expected), " ".join(got))
    pairs: list[tuple[str, str]] = []
    for chunk in output.alignments[0]:
        reference_words = expected[chunk.ref_start_idx : chunk.ref_end_idx]
        hypothesis_words = got[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type != "equal":
            pairs += zip_longest(reference_words, hypothesis_words, fillvalue="")
    return Alignment(tuple(pairs), len(expected))


def edit_share(reference: str, hypothesis: str) -> float:
    """Return the word error rate of one text, limited to 1."""
    errors = word_errors(reference, hypothesis)
    return min(1.0, errors.edits / max(errors.length, 1))


def character_errors(reference: str, hypothesis: str) -> Errors:
    """Return edits over characters, both sides normalised."""
    expected, got = normalise(reference), normalise(hypothesis)
    if not expected:
        return Errors(len(got), 0)
    output = jiwer.process_characters(expected, got)
    return Errors(output.substitutions + output.deletions + output.insertions, len(expected))


def rate(errors: Sequence[Errors], seed: int = 0) -> Rate | None:
    """Return the pooled rate and its interval; None without reference words."""
    edits = np.array([item.edits for item in errors], float)
    lengths = np.array([item.length for item in errors], float)
    if not len(errors) or lengths.sum() == 0:
        return None
    picks = np.random.default_rng(seed).integers(0, len(errors), (RESAMPLES, len(errors)))
    totals = np.maximum(lengths[picks].sum(axis=1), 1.0)
    low, high = np.quantile(edits[picks].sum(axis=1) / totals, [0.025, 0.975])
    return Rate(float(edits.sum() / lengths.sum()), float(low), float(high))


@dataclass(frozen=True, slots=True)
class VadScore:
    """Counts of 10 ms frames, and the errors of matched boundaries in seconds."""

    speech_frames: int
    found_frames: int  # speech found by the VAD
    silence_frames: int
    false_frames: int  # silence taken for speech
    boundary_errors_s: tuple[float, ...]


def score_spans(truth: Spans, found: Spans, duration_s: float) -> VadScore:
    """Compare spans of speech (in seconds) frame by frame, and the boundaries of spans that overlap."""
    true, got = _mask(truth, duration_s), _mask(found, duration_s)
    boundaries: list[float] = []
    for start, end in truth:
        overlapping = [(s, e) for s, e in found if s < end and e > start]
        if overlapping:
            boundaries += [abs(overlapping[0][0] - start), abs(overlapping[-1][1] - end)]
    return VadScore(
        speech_frames=int(true.sum()),
        found_frames=int((true & got).sum()),
        silence_frames=int((~true).sum()),
        false_frames=int((~true & got).sum()),
        boundary_errors_s=tuple(boundaries),
    )


def _mask(spans: Spans, duration_s: float) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    mask = np.zeros(max(1, round(duration_s / FRAME_S)), bool)
    for start, end in spans:
        mask[max(0, round(start / FRAME_S)) : max(0, round(end / FRAME_S))] = True
    return mask


def vad_summary(scores: Sequence[VadScore]) -> dict[str, float | None]:
    """Return pooled recall, false alarm rate and median boundary error in seconds."""
    speech = sum(score.speech_frames for score in scores)
    silence = sum(score.silence_frames for score in scores)
    boundaries = [error for score in scores for error in score.boundary_errors_s]
    return {
        "recall": sum(score.found_frames for score in scores) / speech if speech else None,
        "false_alarm_rate": sum(score.false_frames for score in scores) / silence if silence else None,
        "boundary_error_s": float(np.median(boundaries)) if boundaries else None,
    }
