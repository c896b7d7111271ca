"""Review statistics of bundles: word error rates with intervals, calibration, confusions, and the partial threshold.

Pure functions of answered tasks.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from speechpipe.control.review.agreement import evenly
from speechpipe.control.review.estimates import Rate, Reviewed, word_error_rate
from speechpipe.control.review.tasks import Task
from speechpipe.foundation.stats.calibration import Calibration, Promise, calibration_error, isotonic, promise

DAY_S = 86_400.0
MOST_CONFUSIONS = 30
LEAST_FOLD = 20


@dataclass(frozen=True)
class Standing:
    """The review statistics of one bundle."""

    bundle: str
    reviews: int
    units: int
    wer: Rate  # of all traffic, weighted by the sampling chances
    blind: Rate  # of blind reviews, where the reviewer did not see the machine's text
    edits: Mapping[str, int]
    agreement: tuple[tuple[float, Rate], ...]  # start of the day, error rate
    confusions: tuple[tuple[str, str, int], ...]  # reference word, recognized word, count
    unintelligible: int
    calibration: Calibration
    error_before: float | None  # expected calibration error of the recognizer's confidence
    error_after: float | None  # of the calibrated confidence, cross-fitted
    promise: Promise


@dataclass(frozen=True)
class People:
    """The statistics of all reviews."""

    standings: tuple[Standing, ...] = ()
    reviewed_audio_s: float = 0.0
    work_s: float = 0.0
    reviewers: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # tasks by state and reason

    @property
    def work_per_audio(self) -> float | None:
        """Working time divided by audio duration; None without answers."""
        return self.work_s / self.reviewed_audio_s if self.reviewed_audio_s else None


def people(found: Iterable[Task], bound: float, delta: float) -> People:
    """Return the statistics of answered tasks by bundle. `bound` and `delta` are those of the partial threshold."""
    by_bundle: dict[str, list[Task]] = defaultdict(list)
    reviewers: Counter[str] = Counter()
    audio_s = work_s = 0.0
    for task in found:
        reviewers[task.reviewer] += 1
        if task.work_s:  # imported answers have no working time
            audio_s += task.duration_s
            work_s += task.work_s
        if task.bundle:
            by_bundle[task.bundle].append(task)
    standings = tuple(standing(name, mine, bound, delta) for name, mine in sorted(by_bundle.items()))
    return People(standings, audio_s, work_s, dict(reviewers))


def standing(bundle: str, found: Sequence[Task], bound: float, delta: float) -> Standing:
    """Return a bundle's review statistics; tasks without an answer are ignored."""
    units = [(task, unit) for task in found for unit in task.compared.get("units", ())]
    pairs: Counter[tuple[str, str]] = Counter()
    days: dict[float, list[Reviewed]] = defaultdict(list)
    for task in found:
        for said, heard, count in task.compared.get("pairs", ()):
            pairs[said, heard] += count
    for task, unit in units:
        days[(task.finished_at or 0.0) // DAY_S * DAY_S].append(_reviewed(task, unit))
    sure = [unit for task in found for unit in equally_drawn(task)]
    before, after = _calibration_errors(sure)
    kinds = ("substitutions", "deletions", "insertions")
    return Standing(
        bundle=bundle,
        reviews=len(found),
        units=len(units),
        wer=word_error_rate([_reviewed(task, unit) for task, unit in units]),
        blind=word_error_rate([_reviewed(task, unit) for task, unit in units if task.draft.blind]),
        edits={kind: sum(unit[kind] for _, unit in units) for kind in kinds},
        agreement=tuple((day, word_error_rate(mine)) for day, mine in sorted(days.items())),
        confusions=tuple((said, heard, count) for (said, heard), count in pairs.most_common(MOST_CONFUSIONS)),
        unintelligible=sum(task.compared.get("unintelligible", 0) for task in found),
        calibration=isotonic([unit["confidence"] for unit in sure], [1 - wrong(unit) for unit in sure]),
        error_before=before,
        error_after=after,
        promise=promise([unit["confidence"] for unit in sure], [wrong(unit) for unit in sure], bound, delta),
    )


@dataclass(frozen=True, slots=True)
class Judged:
    """An answered segment: whose, of which bundle, the recognizer's confidence, and the share of its words wrong."""

    tenant: str
    bundle: str
    confidence: float
    wrong: float


def equally_drawn(task: Task) -> list[Mapping[str, Any]]:
    """Return the units of an answered task that have a confidence and belong to the sample with equal chances."""
    units = task.compared.get("units", ()) if task.bundle else ()
    return [unit for unit in units if unit["confidence"] is not None and evenly(unit, task.draft.base)]


def wrong(unit: Mapping[str, Any]) -> float:
    """Return the word errors of a unit divided by its words, at most 1."""
    return float(min(1.0, unit["edits"] / max(unit["words"], 1)))


def _reviewed(task: Task, unit: Mapping[str, Any]) -> Reviewed:
    return Reviewed(unit["edits"], unit["words"], unit["chance"], task.id)


def _calibration_errors(units: Sequence[Mapping[str, Any]]) -> tuple[float | None, float | None]:
    """Return the calibration error before and after calibration, by two-fold cross-fitting."""
    if len(units) < 2 * LEAST_FOLD:
        return None, None
    confidence = np.array([unit["confidence"] for unit in units])
    right = np.array([1 - wrong(unit) for unit in units])
    fold = np.random.default_rng(0).permutation(len(units)) % 2 == 0
    fitted = np.empty(len(units))
    for mine in (fold, ~fold):
        fitted[mine] = isotonic(confidence[~mine].tolist(), right[~mine].tolist())(confidence[mine])
    return calibration_error(confidence.tolist(), right.tolist()), calibration_error(fitted.tolist(), right.tolist())
