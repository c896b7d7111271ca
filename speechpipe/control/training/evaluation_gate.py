"""The gate: a candidate beside what it was retrained from, on speech that neither has learnt from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from speechpipe.cascade.asr import DecodeOptions, load_recognizer
from speechpipe.cascade.evaluation.scores import Errors, word_errors
from speechpipe.control.training import Judgement
from speechpipe.control.training.examples import Example
from speechpipe.types import Component

RESAMPLES = 2000
MOST_LOSS = 0.01
"""Of the word error rate on speech that must not become worse, in the mean."""


@dataclass(frozen=True)
class Beside:
    """Word error rates on the same speech, and the 95 % interval of their difference (bootstrap over examples)."""

    before: float
    after: float
    low: float
    high: float
    count: int

    @property
    def difference(self) -> float:
        """What was gained is below 0."""
        return self.after - self.before

    def __str__(self) -> str:
        return f"{self.before:.1%} -> {self.after:.1%} on {self.count} examples [{self.low:+.1%}, {self.high:+.1%}]"


def heard(
    component: Component, examples: Sequence[Example], told: Callable[[int], None] = lambda _: None
) -> list[Errors]:
    """Return the word errors of a recognizer on each example."""
    recognizer = load_recognizer(component.implementation, component.files, **component.options)
    found = []
    for number, example in enumerate(examples):
        stream = recognizer.open(DecodeOptions(offline=True))
        stream.feed(example.samples)
        found.append(word_errors(example.text, stream.finish().text))
        told(number + 1)
    return found


def beside(before: Sequence[Errors], after: Sequence[Errors], seed: int = 0) -> Beside:
    """Compare errors on the same examples."""
    words = np.array([item.length for item in before], float)
    first, second = (np.array([item.edits for item in side], float) for side in (before, after))
    picks = np.random.default_rng(seed).integers(0, len(words), (RESAMPLES, len(words)))
    totals = np.maximum(words[picks].sum(axis=1), 1.0)
    low, high = np.quantile((second - first)[picks].sum(axis=1) / totals, [0.025, 0.975])
    total = max(words.sum(), 1.0)
    return Beside(float(first.sum() / total), float(second.sum() / total), float(low), float(high), len(words))


def judge(reviews: Beside, check: Beside | None = None) -> tuple[Judgement, str]:
    """Return how a candidate stands, and why: it must gain on the reviews and lose next to nothing elsewhere."""
    said = f"word error rate {reviews}"
    if check is not None:
        said += f"; elsewhere {check}"
        if check.difference > MOST_LOSS:
            return Judgement.WORSE, f"worse elsewhere: {said}"
    if reviews.difference > 0:
        return Judgement.WORSE, f"worse than what it was retrained from: {said}"
    if reviews.difference == 0:
        return Judgement.NO_BETTER, f"no better than what it was retrained from: {said}"
    return Judgement.BETTER, said
