"""The gate: a candidate compared with the model it was retrained from, on speech that neither was trained on."""

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
"""The largest accepted rise of the word error rate on the `check` manifest."""


@dataclass(frozen=True)
class Comparison:
    """Word error rates on the same speech, with a 95 % interval of their difference (bootstrap over examples)."""

    before: float
    after: float
    low: float
    high: float
    count: int

    @property
    def difference(self) -> float:
        """After minus before: an improvement is negative."""
        return self.after - self.before

    def __str__(self) -> str:
        return f"{self.before:.1%} -> {self.after:.1%} on {self.count} examples [{self.low:+.1%}, {self.high:+.1%}]"


def recognizer_errors(
    component: Component, examples: Sequence[Example], on_progress: Callable[[int], None] = lambda _: None
) -> list[Errors]:
    """Return the word errors of a recognizer on each example. `on_progress` is called with the number done so far."""
    recognizer = load_recognizer(component.implementation, component.files, **component.options)
    found = []
    for number, example in enumerate(examples):
        stream = recognizer.open(DecodeOptions(offline=True))
        stream.feed(example.samples)
        found.append(word_errors(example.text, stream.finish().text))
        on_progress(number + 1)
    return found


def compare_errors(before: Sequence[Errors], after: Sequence[Errors], seed: int = 0) -> Comparison:
    """Compare word errors on the same examples."""
    words = np.array([item.length for item in before], float)
    first, second = (np.array([item.edits for item in side], float) for side in (before, after))
    picks = np.random.default_rng(seed).integers(0, len(words), (RESAMPLES, len(words)))
    totals = np.maximum(words[picks].sum(axis=1), 1.0)
    low, high = np.quantile((second - first)[picks].sum(axis=1) / totals, [0.025, 0.975])
    total = max(words.sum(), 1.0)
    return Comparison(float(first.sum() / total), float(second.sum() / total), float(low), float(high), len(words))


def judge(reviews: Comparison, check: Comparison | None = None) -> tuple[Judgement, str]:
    """Return the judgement on a candidate and why: it must improve on the reviews and not get worse on `check`."""
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
