"""The share of each stage in the change of one key metric, with bootstrap intervals.

The metric is regressed on the metrics of the first stage, then of the first two, and so on. What each added stage
explains of the change is its contribution; the rest belongs to the metric's own stage. The parts add up to the change.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speechpipe.monitor.blame.evidence import Finding
from speechpipe.monitor.blame.normal import LEAST_CASES, Normal, predictor
from speechpipe.monitor.cases import Cases, Column
from speechpipe.monitor.spec import Stage

RESAMPLES = 400


@dataclass(frozen=True, slots=True)
class Contribution:
    """The part of one stage in the change of `metric`, in its unit, with a 95 % bootstrap interval over cases."""

    stage: str
    metric: str
    value: float
    low: float
    high: float


def contributions(normal: Normal, window: Cases, found: Sequence[Finding], seed: int = 0) -> tuple[Contribution, ...]:
    """Return the contributions to the change of the strongest metric of the last stage that changed; () if none did.

    () too if the metric is hardly known in these cases: findings may come from other groups of traffic as well.
    """
    symptom = _symptom(normal, found)
    if symptom is None:
        return ()
    known = [np.isfinite(cases.column(symptom.metric)) for cases in (normal.cases, window)]
    if known[0].sum() < LEAST_CASES // 2 or not known[1].any():
        return ()
    order = [stage for stage in normal.spec.stages if stage.served]
    last = next(index for index, stage in enumerate(order) if stage.name == symptom.stage)
    explained = [np.zeros(len(normal.cases)), np.zeros(len(window))]
    parts: list[tuple[str, Column, Column]] = []
    for step in range(last):
        upstream = {stage.name for stage in order[: step + 1]}
        model = predictor(normal, symptom.metric, upstream)
        then, now = model(normal.cases), model(window)
        parts.append((order[step].name, then - explained[0], now - explained[1]))
        explained = [then, now]
    own = (normal.cases.column(symptom.metric) - explained[0], window.column(symptom.metric) - explained[1])
    parts.append((symptom.stage, *own))
    random = np.random.default_rng(seed)
    return tuple(
        _contribution(stage, symptom.metric, then[known[0]], now[known[1]], random) for stage, then, now in parts
    )


def _symptom(normal: Normal, found: Sequence[Finding]) -> Finding | None:
    served: dict[str, Stage] = {stage.name: stage for stage in normal.spec.stages if stage.served}
    moved = [one for one in found if one.stage in served and one.strength >= 1.0 and one.kind != "presence"]
    if not moved:
        return None
    order = list(served)
    last = max(order.index(one.stage) for one in moved)
    return next(one for one in moved if order.index(one.stage) == last)


def _contribution(stage: str, metric: str, then: Column, now: Column, random: np.random.Generator) -> Contribution:
    picks_then = random.integers(0, len(then), (RESAMPLES, len(then)))
    picks_now = random.integers(0, len(now), (RESAMPLES, len(now)))
    drawn = now[picks_now].mean(axis=1) - then[picks_then].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Contribution(stage, metric, float(now.mean() - then.mean()), float(low), float(high))
