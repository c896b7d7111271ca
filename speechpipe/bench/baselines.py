"""Baselines for blame: simpler methods on the same records, whose figures `bench blame` prints beside its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from speechpipe.monitor.blame.normal import Normal
from speechpipe.monitor.blame.verdict import label_of
from speechpipe.monitor.cases import Cases, Column
from speechpipe.monitor.spec import Metric, MetricKind

LEAST_Z = 8.0
"""Below this z value these methods blame no stage. Tuned like our own thresholds, on the same half of the faults."""


@dataclass(frozen=True)
class Answer:
    """Labels, most suspect first; begins with `none` if no stage is blamed."""

    ranking: tuple[str, ...]


Baseline = Callable[[Normal, Cases, np.random.Generator], Answer]


def moved_most(normal: Normal, cases: Cases) -> dict[str, tuple[str, float]]:
    """Return for each label its metric with the largest shift of the mean against the reference, and its z value."""
    labels = {stage.name: label_of(stage) for stage in normal.spec.stages}
    found = dict.fromkeys(labels.values(), ("", 0.0))
    for known in normal.metrics:
        then, now = normal.cases.column(known.metric.name), cases.column(known.metric.name)
        if not readable(then, now):
            continue
        least = least_spread(known.metric, then)
        then, now = then[np.isfinite(then)], now[np.isfinite(now)]
        error = max(float(then.std()), least) * (1 / len(then) + 1 / len(now)) ** 0.5
        label = labels[known.metric.owner]
        z = abs(float(now.mean() - then.mean())) / error
        if z > found[label][1]:
            found[label] = (known.metric.name, z)
    return found


def readable(then: Column, now: Column) -> bool:
    """Return whether a metric is known in enough cases of the reference and of the window to compare them."""
    return int(np.isfinite(then).sum()) >= 30 and int(np.isfinite(now).sum()) >= 10


def least_spread(metric: Metric, then: Column) -> float:
    """Return the standard deviation that a metric is taken to have at least, whatever the reference shows."""
    known = then[np.isfinite(then)]
    least = 1e-6 + 1e-3 * abs(float(known.mean()))
    return max(least, (1 / len(known)) ** 0.5) if metric.value_kind is MetricKind.SHARE else least


def marginal(normal: Normal, cases: Cases) -> dict[str, float]:
    """Return the z values of `moved_most`."""
    return {label: z for label, (_, z) in moved_most(normal, cases).items()}


def nothing_moved(normal: Normal, cases: Cases) -> Answer | None:
    """Return the answer that no stage is to blame if no metric has moved by `LEAST_Z`, else None."""
    moved = marginal(normal, cases)
    ranking = sorted(moved, key=lambda label: -moved[label])
    return Answer(("none", *ranking)) if moved[ranking[0]] < LEAST_Z else None


def at_random(normal: Normal, cases: Cases, random: np.random.Generator) -> Answer:
    """Blame a random stage."""
    del cases
    labels = list(dict.fromkeys(label_of(stage) for stage in normal.spec.stages))
    return Answer(tuple(random.permutation([*labels, "none"]).tolist()))


def largest_z(normal: Normal, cases: Cases, random: np.random.Generator) -> Answer:
    """Blame the stage whose metric moved most."""
    del random
    found = marginal(normal, cases)
    ranking = sorted(found, key=lambda label: -found[label])
    return Answer(tuple(ranking) if found[ranking[0]] >= LEAST_Z else ("none", *ranking))


def earliest(normal: Normal, cases: Cases, random: np.random.Generator) -> Answer:
    """Blame the first stage in the order of the data with a metric that moved."""
    del random
    found = marginal(normal, cases)
    moved = [label for label in found if found[label] >= LEAST_Z]
    rest = sorted((label for label in found if label not in moved), key=lambda label: -found[label])
    return Answer((*moved, *rest) if moved else ("none", *rest))


BASELINES: Mapping[str, Baseline] = {"random": at_random, "largest z": largest_z, "earliest": earliest}
