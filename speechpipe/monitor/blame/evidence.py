"""Evidence for each stage: how strongly its metrics changed. A strength of 1 is enough to blame the stage.

A change must be significant (a z value) and large (an effect). For a stage with parents, the effect is the shift of
the residual: the part that its inputs do not explain. For a root, it is the share of values outside the range of the
reference. A harmless change of the traffic mix only reweights known values, whereas a fault produces new ones.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from speechpipe.monitor.blame.normal import WINSOR, Normal, NormalMetric
from speechpipe.monitor.cases import Cases, Column
from speechpipe.monitor.spec import Direction, MetricKind


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Thresholds, tuned on one half of the faults (`speechpipe bench blame --tune`); see `docs/blame.md`."""

    z: float = 5.0
    z_rang: float = 3.5  # of a metric in `rang`
    real: float = 0.8  # residual shift, in standard deviations
    share: float = 0.06  # change of a share
    failures: float = 0.02  # of a share of failures that the service's own bookkeeping counts
    unseen: float = 0.35  # share of cases outside the range of the reference
    presence: float = 0.3  # change of the share of cases that have a value
    probes: float = 0.1  # share of probes that a stage answers differently
    upstream: float = 0.5  # strength that is enough to blame a stage if the last stage (the users) has changed for sure
    reacting: float = 0.4  # strength of the last stage from which on it counts: half of it is added to those above
    symptom: float = 0.4  # shift in standard deviations from which a metric belongs to the path
    least_cases: int = 30
    least_probes: int = 5  # to convict
    acquitting_probes: int = 20  # to acquit: of so few, none may differ although one in ten would
    rang: frozenset[str] = frozenset()  # metrics whose alarms fire: their detectors are certain of a change, too


DEFAULTS = Thresholds()

TOO_LITTLE = 0.9
"""The largest strength of a change that is certain, but too small to matter. It is less in proportion to the change."""

TINY = 1e-6
"""The smallest spread: a metric that was constant in the reference has no spread of its own."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The change of one metric. `effect` is in standard deviations or a share, depending on `kind`.

    `size` is the effect over what is enough to blame a stage, and `strength` the less of it and of its certainty.
    """

    metric: str
    stage: str
    kind: str  # residual | share | unseen | presence | rise | symptom
    expected: float
    value: float
    effect: float
    z: float
    size: float
    strength: float
    pressure: bool = False  # as of the metric


def findings(normal: Normal, cases: Cases, thresholds: Thresholds = DEFAULTS) -> list[Finding]:
    """Return the changes of all metrics in `cases`, strongest first, those of the machine as `without_pressure`."""
    return without_pressure(normal, all_changes(normal, cases, thresholds))


def all_changes(normal: Normal, cases: Cases, thresholds: Thresholds = DEFAULTS) -> list[Finding]:
    """Return the changes of all metrics in `cases`, whether people wait or not."""
    found = []
    served = {stage.name for stage in normal.spec.stages if stage.served}
    for known in normal.metrics:
        if not known.metric.mix:
            mine = replace(thresholds, z=thresholds.z_rang) if known.metric.name in thresholds.rang else thresholds
            found += _findings(normal, known, cases, mine, served=known.metric.owner in served)
    return found


def without_pressure(normal: Normal, changes: Sequence[Finding]) -> list[Finding]:
    """Return changes, strongest first, with those of the machine made little unless people wait.

    Metrics of pressure are not enough by themselves: a busy or aged machine is no fault until then.
    """
    found = list(changes)
    felt = {known.metric.name for known in normal.metrics if known.metric.felt}
    if felt and not any(one.metric in felt and one.strength >= 1.0 for one in found):
        found = [_little(one) if one.pressure else one for one in found]
    return sorted(found, key=lambda finding: -finding.strength)


def _little(one: Finding) -> Finding:
    return replace(one, size=min(one.size, TOO_LITTLE), strength=min(one.strength, TOO_LITTLE))


def together(parts: Sequence[tuple[Sequence[Finding], int]], thresholds: Thresholds = DEFAULTS) -> list[Finding]:
    """Return the changes of several groups of traffic as those of one, strongest first.

    What is too little to be certain of in each group may be enough in all of them: z values are added with weights by
    Stouffer's method (Whitlock 2005, doi:10.1111/j.1420-9101.2005.00917.x), effects are averaged.

    Args:
        parts: what `all_changes` returned for each group, and its number of cases.
        thresholds: as for `all_changes`.
    """
    same: dict[tuple[str, str], list[tuple[Finding, int]]] = {}
    for found, cases in parts:
        for one in found:
            same.setdefault((one.metric, one.kind), []).append((one, cases))
    return sorted((_one_of(mine, thresholds) for mine in same.values()), key=lambda finding: -finding.strength)


def _one_of(mine: Sequence[tuple[Finding, int]], thresholds: Thresholds) -> Finding:
    total = sum(cases for _, cases in mine)

    def mean(value: Callable[[Finding], float]) -> float:
        return sum(value(one) * cases for one, cases in mine) / total

    size = abs(mean(lambda one: float(np.copysign(one.size, one.effect))))
    z = abs(sum(float(np.copysign(one.z, one.effect)) * cases**0.5 for one, cases in mine)) / total**0.5
    return replace(
        mine[0][0],
        expected=mean(lambda one: one.expected),
        value=mean(lambda one: one.value),
        effect=mean(lambda one: one.effect),
        z=z,
        size=size,
        strength=min(size, z / thresholds.z),
    )


def _findings(
    normal: Normal, known: NormalMetric, cases: Cases, thresholds: Thresholds, *, served: bool
) -> list[Finding]:
    values = cases.column(known.metric.name)
    present = np.isfinite(values)
    found = []
    if known.is_root and served:
        change = float(present.mean()) - known.known
        z = _share_z(known.known, len(normal.cases), float(present.mean()), len(cases))
        size = abs(change) / thresholds.presence
        found.append(_finding(known, "presence", known.known, float(present.mean()), change, z, size, thresholds))
    if present.sum() < thresholds.least_cases // 2 or not np.isfinite(known.mean):
        return found
    if known.metric.felt:
        found.append(_rise(known, values[present], thresholds))
    elif known.is_root and known.metric.value_kind is not MetricKind.SHARE:
        found.append(_unseen(known, values[present], thresholds, served=served))
    else:
        residuals = normal.residuals(cases, known)
        judged = np.isfinite(residuals)
        if judged.sum() >= thresholds.least_cases // 2:
            judge = _share if known.metric.value_kind is MetricKind.SHARE else _residual
            found.append(judge(known, values[judged], residuals[judged], thresholds, served=served))
    return found


def _share(known: NormalMetric, values: Column, residuals: Column, thresholds: Thresholds, *, served: bool) -> Finding:
    """Return the change of a share that the metrics of the stages above do not explain."""
    value = float(values.mean())
    before = known.residuals[np.isfinite(known.residuals)]
    change = float(residuals.mean() - before.mean())
    expected = min(1.0, max(0.0, value - change))
    z = _share_z(expected, len(before), value, len(residuals))
    failures = not served and known.metric.direction is Direction.UP and not known.metric.pressure
    least = thresholds.failures if failures else thresholds.share
    size = 0.0 if not served and _improved(known, change) else abs(change) / least
    return _finding(known, "share", expected, value, change, z, size, thresholds)


def _unseen(known: NormalMetric, values: Column, thresholds: Thresholds, *, served: bool) -> Finding:
    """Return how many values of a root are outside the range of the reference."""
    below, above = values < known.low, values > known.high
    if not served:
        below &= not _improved(known, -1.0)
        above &= not _improved(known, 1.0)
    outside = below | above
    unseen = float(outside.mean())
    z = _share_z(0.01, len(known.residuals), unseen, len(values))
    # New people lie a little outside the range, broken audio far: what is a whole range away counts twice.
    width = max(known.high - known.low, known.metric.least, TINY)
    away = np.clip(np.maximum(known.low - values, values - known.high) / width, 0.0, 1.0)
    size = float((outside * (1.0 + away)).mean()) / thresholds.unseen
    return _finding(known, "unseen", known.mean, float(values.mean()), unseen, z, size, thresholds)


def _rise(known: NormalMetric, values: Column, thresholds: Thresholds) -> Finding:
    """Return how much longer people wait: on many cases, or on few of them so long that the mean doubles."""
    above = values > known.high
    late = float(above.mean())
    z = _share_z(0.01, len(known.residuals), late, len(values))
    change = float(values.mean()) - known.mean
    relative = change / max(2 * known.metric.least, known.mean)
    size = max(late / thresholds.unseen, relative, 0.0)
    if change < known.metric.least:
        size = min(size, TOO_LITTLE * max(change, 0.0) / known.metric.least)
    return _finding(known, "rise", known.mean, float(values.mean()), change, z, size, thresholds)


def _residual(
    known: NormalMetric, values: Column, residuals: Column, thresholds: Thresholds, *, served: bool
) -> Finding:
    """Return the shift of a metric that the metrics of the stages above do not explain."""
    del served  # only roots are not served
    change, z = _shift(known, residuals)
    shift = float(np.median(residuals)) if known.spread > TINY else float(residuals.mean())
    size = abs(change) / thresholds.real
    if known.metric.blames and _improved(known, change):
        size = 0.0  # read further down, where other faults move it as well: only what is worse is evidence
    moved = max(abs(shift), abs(change) * known.spread)
    if moved < known.metric.least:
        size = min(size, TOO_LITTLE * moved / known.metric.least)
    value = float(values.mean())
    return _finding(known, "residual", value - float(residuals.mean()), value, change, z, size, thresholds)


def _improved(known: NormalMetric, change: float) -> bool:
    """Whether a change is for the better. For one, no infrastructure is blamed, nor a stage for what is read below."""
    way = known.metric.direction
    return (way is Direction.UP and change < 0) or (way is Direction.DOWN and change > 0)


def _shift(known: NormalMetric, residuals: Column) -> tuple[float, float]:
    before = known.residuals[np.isfinite(known.residuals)]
    then = np.clip(before / known.spread, -WINSOR, WINSOR)
    now = np.clip(residuals / known.spread, -WINSOR, WINSOR)
    change = float(now.mean() - then.mean())
    error = (max(float(then.var()), float(now.var()), 0.05) * (1 / len(now) + 1 / len(then))) ** 0.5
    return change, abs(change) / error


def _share_z(before: float, before_count: int, now: float, now_count: int) -> float:
    """Return the z value of a difference of two shares: the root of the likelihood ratio, without sign."""
    both = (before * before_count + now * now_count) / max(before_count + now_count, 1)
    gain = _likelihood(before, before, before_count) + _likelihood(now, now, now_count)
    gain -= _likelihood(both, before, before_count) + _likelihood(both, now, now_count)
    return float(max(2.0 * gain, 0.0) ** 0.5)


def _likelihood(share: float, seen: float, count: int) -> float:
    share = min(max(share, 1e-9), 1 - 1e-9)
    return count * float(seen * np.log(share) + (1 - seen) * np.log1p(-share))


def _finding(  # noqa: PLR0913, PLR0917 - the fields of a finding
    known: NormalMetric,
    kind: str,
    expected: float,
    value: float,
    effect: float,
    z: float,
    size: float,
    thresholds: Thresholds,
) -> Finding:
    name, owner, pressure = known.metric.name, known.metric.owner, known.metric.pressure
    return Finding(name, owner, kind, expected, value, effect, z, size, min(size, z / thresholds.z), pressure)


def symptoms(normal: Normal, cases: Cases, thresholds: Thresholds = DEFAULTS) -> list[Finding]:
    """Return every metric whose marginal mean moved, whether its inputs explain it or not, strongest first."""
    found = []
    for known in normal.metrics:
        then, now = normal.cases.column(known.metric.name), cases.column(known.metric.name)
        then, now = then[np.isfinite(then)], now[np.isfinite(now)]
        if known.metric.mix or len(then) < thresholds.least_cases or len(now) < thresholds.least_cases // 2:
            continue
        change = float(now.mean() - then.mean())
        spread = max(float(then.std()), (1 / len(then)) ** 0.5 if known.metric.value_kind is MetricKind.SHARE else TINY)
        z = abs(change) / (spread * (1 / len(then) + 1 / len(now)) ** 0.5)
        size = abs(change) / spread / thresholds.symptom
        if abs(change) >= known.metric.least:
            means = float(then.mean()), float(now.mean())
            found.append(_finding(known, "symptom", *means, change / spread, z, size, thresholds))
    return sorted(found, key=lambda finding: -finding.strength)


def by_stage(found: Sequence[Finding], *, pressure: bool = False) -> Mapping[str, float]:
    """Return the strength of each stage, which is that of its strongest metric; with or of the metrics of pressure."""
    strengths: dict[str, float] = {}
    for finding in found:
        if finding.pressure is not pressure:
            continue
        strengths[finding.stage] = max(strengths.get(finding.stage, 0.0), finding.strength)
    return strengths
