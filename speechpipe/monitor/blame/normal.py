"""The model of normal behaviour: each metric, given the metrics of its stage's parents, fitted on a pinned reference.

Ridge regression (Hoerl & Kennard, 1970) on standardised columns and their squares. The reference's residuals are
out of fold, so that they are as wide as those of new data. A stage without parents has its marginal distribution.
Predictors are clipped to the range of the reference, because a fitted square is not valid beyond it.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from speechpipe.monitor.cases import Cases, Column, case_metrics
from speechpipe.monitor.spec import CascadeSpec, Metric, MetricKind

Matrix = npt.NDArray[np.float64]

LEAST_SPREAD = 1e-6
"""Of a constant metric, as a share of it: pinned cases are kept in single precision."""

LEAST_CASES = 100
"""The fewest cases that a reference may have."""

RIDGE = 10.0
FOLDS = 5
KNOWN_SHARE = 0.5
"""A column that is unknown in more than this share of the reference is not used as a predictor."""

WINSOR = 2.0
"""Residuals are clipped at this many standard deviations, so that a few outliers or new speakers are not a shift."""

BEYOND = 0.1
"""A case may be outside the range of the reference by this share of it before its residuals are unknown."""

SUPPORT = (0.005, 0.995)
"""Quantiles that bound the range of a metric in the reference."""


class ReferenceTooSmall(ValueError):
    """The reference has too few cases to fit a model."""


@dataclass(frozen=True)
class NormalMetric:
    """The model of one metric."""

    metric: Metric
    known: float  # share of cases that have it
    mean: float
    spread: float  # standard deviation of the residuals (robust for real values)
    low: float  # range of the reference, widened by the change that is too small to matter
    high: float
    inputs: tuple[int, ...]  # columns of its predictors
    weights: Column | None  # intercept, then values and squares of the predictors; None: predicts its mean
    residuals: Column  # of the reference, out of fold; NaN where unknown

    @property
    def is_root(self) -> bool:
        """Whether its stage has no parents with usable metrics."""
        return not self.inputs


@dataclass(frozen=True)
class Normal:
    """The model of the whole cascade, with the reference's cases that it was fitted on."""

    spec: CascadeSpec
    cases: Cases
    metrics: tuple[NormalMetric, ...]
    centre: Column
    scale: Column
    limits: Matrix  # (2, metrics), of the standardised values

    def get(self, name: str) -> NormalMetric | None:
        """Return the model of a metric, or None."""
        return next((known for known in self.metrics if known.metric.name == name), None)

    def residuals(self, cases: Cases, known: NormalMetric) -> Column:
        """Return (cases,) values minus predictions, in the metric's unit; NaN where unknown.

        Nothing is known of cases of a kind that the reference has none of, such as sessions that are three times as
        long: what the metrics of the mix predict for them is a guess.
        """
        values = cases.column(known.metric.name)
        if known.weights is None:
            return values - known.mean
        design = _design(_standardised(cases.values, self.centre, self.scale, self.limits), known.inputs)
        residuals = np.asarray(values - design @ known.weights)
        residuals[self._of_new_mix(cases, known)] = np.nan
        return residuals

    def _of_new_mix(self, cases: Cases, known: NormalMetric) -> npt.NDArray[np.bool_]:
        """Return (cases,) whether a metric of the mix is outside of the range of the reference in the stages above.

        One that was the same in all of it counts, too: sessions of two utterances where all had one.
        """
        parents = next(stage.parents for stage in self.spec.stages if stage.name == known.metric.owner)
        mix = [
            index
            for index, one in enumerate(self.metrics)
            if one.metric.mix and one.metric.owner in parents and one.known >= KNOWN_SHARE
        ]
        given = (cases.values[:, mix] - self.centre[mix]) / self.scale[mix]
        low, high = self.limits[:, mix]
        margin = BEYOND * (high - low)
        found: npt.NDArray[np.bool_] = ((given < low - margin) | (given > high + margin)).any(axis=1)
        return found


def fit(spec: CascadeSpec, cases: Cases) -> Normal:
    """Fit the model to the cases of a healthy reference.

    Raises:
        ReferenceTooSmall: there are fewer than `LEAST_CASES` cases.
    """
    if len(cases) < LEAST_CASES:
        raise ReferenceTooSmall(f"the reference has {len(cases)} cases, {LEAST_CASES} are needed")
    metrics = case_metrics(spec)
    if cases.names != tuple(metric.name for metric in metrics):
        cases = _aligned(cases, metrics)
    values = cases.values
    finite = np.isfinite(values)
    counts = np.maximum(finite.sum(axis=0), 1)
    centre = np.where(finite, values, 0.0).sum(axis=0) / counts
    scale = np.sqrt(np.where(finite, (values - centre) ** 2, 0.0).sum(axis=0) / counts)
    usable = (finite.mean(axis=0) >= KNOWN_SHARE) & (scale > 1e-9)
    scale = np.where(scale > 1e-9, scale, 1.0)
    limits = np.zeros((2, values.shape[1]))
    for index in np.flatnonzero(usable).tolist():
        mine = values[finite[:, index], index]
        limits[:, index] = (np.quantile(mine, SUPPORT) - centre[index]) / scale[index]
    standard = _standardised(values, centre, scale, limits)
    owners = [metric.owner for metric in metrics]
    parents = {stage.name: set(stage.parents) for stage in spec.stages}
    found = []
    for column, metric in enumerate(metrics):
        feeding = [index for index, owner in enumerate(owners) if owner in parents[metric.owner] and usable[index]]
        found.append(_one(metric, values[:, column], standard, tuple(feeding)))
    return Normal(spec, cases, tuple(found), centre, scale, limits)


def predictor(normal: Normal, metric: str, upstream: Collection[str]) -> Callable[[Cases], Column]:
    """Return a function from cases to predictions of a metric from the `upstream` stages, fitted on the reference."""
    columns = tuple(
        index
        for index, known in enumerate(normal.metrics)
        if known.metric.owner in upstream
        and known.known >= KNOWN_SHARE
        and normal.limits[0, index] < normal.limits[1, index]
    )
    values = normal.cases.column(metric)
    known = np.isfinite(values)

    def design(cases: Cases) -> Matrix:
        return _design(_standardised(cases.values, normal.centre, normal.scale, normal.limits), columns)

    weights = _ridge(design(normal.cases)[known], values[known])
    return lambda cases: np.asarray(design(cases) @ weights)


def _aligned(cases: Cases, metrics: Sequence[Metric]) -> Cases:
    """Bring cases that another version of the spec wrote to the present columns."""
    names = tuple(metric.name for metric in metrics)
    values = np.stack([cases.column(name) for name in names], axis=1)
    return Cases(names, cases.at, values)


def _one(metric: Metric, values: Column, standard: Matrix, inputs: tuple[int, ...]) -> NormalMetric:
    known = np.isfinite(values)
    share = float(known.mean())
    if known.sum() < 2:
        empty = np.full(len(values), np.nan)
        return NormalMetric(metric, share, np.nan, 1.0, -np.inf, np.inf, inputs, None, empty)
    mine = values[known]
    mean = float(mine.mean())
    low, high = (float(edge) for edge in np.quantile(mine, SUPPORT))
    margin = max(metric.least, 0.05 * (high - low))
    weights: Column | None = None
    residuals = values - mean
    if inputs and known.sum() >= LEAST_CASES // 2 and np.ptp(mine) > 0:
        design = _design(standard, inputs)
        residuals = np.full(len(values), np.nan)
        rows = np.flatnonzero(known)
        for fold in range(FOLDS):
            out = rows[fold::FOLDS]
            inside = np.setdiff1d(rows, out, assume_unique=True)
            residuals[out] = values[out] - design[out] @ _ridge(design[inside], values[inside])
        weights = _ridge(design[rows], mine)
    spread = float(np.nanstd(residuals))
    if metric.value_kind is MetricKind.REAL:  # robust: the interquartile range, unless it is zero
        quartiles = np.nanquantile(residuals, [0.25, 0.75])
        spread = max(float(quartiles[1] - quartiles[0]) / 1.349, 0.25 * spread)
    spread = max(spread, LEAST_SPREAD * max(1.0, abs(mean)))
    return NormalMetric(metric, share, mean, spread, low - margin, high + margin, inputs, weights, residuals)


def _standardised(values: Matrix, centre: Column, scale: Column, limits: Matrix) -> Matrix:
    standard = np.clip((values - centre) / scale, limits[0], limits[1])
    return np.asarray(np.where(np.isfinite(standard), standard, 0.0))  # unknown values count as average


def _design(standard: Matrix, inputs: Sequence[int]) -> Matrix:
    mine = standard[:, list(inputs)]
    return np.concatenate([np.ones((len(standard), 1)), mine, mine**2], axis=1)


def _ridge(design: Matrix, values: Column) -> Column:
    penalty = np.full(design.shape[1], RIDGE)
    penalty[0] = 0.0
    gram: Any = design.T @ design + np.diag(penalty)
    return np.asarray(np.linalg.solve(gram, design.T @ values))
