"""Evidence for each stage: how strongly its metrics changed. A strength of 1 is enough to blame the stage.

A change must be significant (a z value) and large (an effect). For a stage with parents, the effect is the shift of
the residual: the part that its inputs do not explain. For a root, it is the share of values outside the range of the
reference. A harmless change of the traffic mix only reweights known values, whereas a fault produces new ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from speechpipe.foundation.storage.record import Record
from speechpipe.monitor.blame.normal import WINSOR, Normal, NormalMetric
from speechpipe.monitor.cases import Cases, Column
from speechpipe.monitor.spec import CascadeSpec, Direction, MetricKind


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Thresholds, tuned on one half of the faults (`speechpipe bench blame --tune`); see `docs/blame.md`."""

    z: float = 5.0
    real: float = 0.8  # residual shift, in standard deviations
    share: float = 0.06  # change of a share
    unseen: float = 0.35  # share of cases outside the range of the reference
    presence: float = 0.3  # change of the share of cases that have a value
    probes: float = 0.1  # share of probes that a stage answers differently
    upstream: float = 0.5  # strength that is enough to blame a stage if the last stage (the users) has changed
    symptom: float = 0.4  # shift in standard deviations from which a metric belongs to the path
    least_cases: int = 30
    least_probes: int = 5


DEFAULTS = Thresholds()

TINY = 1e-6
"""The smallest spread: a metric that was constant in the reference has no spread of its own."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The change of one metric. `effect` is in standard deviations or a share, depending on `kind`."""

    metric: str
    stage: str
    kind: str  # residual | share | unseen | presence | symptom
    expected: float
    value: float
    effect: float
    z: float
    strength: float


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """How many of `of` probes a stage answered differently from when they were pinned."""

    stage: str
    failed: int
    of: int

    def strength(self, thresholds: Thresholds) -> float:
        """Return the strength; 1 is enough to blame the stage. A single differing probe does not count."""
        if self.failed < 2:
            return 0.0
        return self.failed / self.of / thresholds.probes


def findings(normal: Normal, cases: Cases, thresholds: Thresholds = DEFAULTS) -> list[Finding]:
    """Return the changes of all metrics in `cases`, strongest first."""
    found = []
    served = {stage.name for stage in normal.spec.stages if stage.served}
    for known in normal.metrics:
        if not known.metric.mix:
            found += _findings(normal, known, cases, thresholds, served=known.metric.owner in served)
    return sorted(found, key=lambda finding: -finding.strength)


def _findings(
    normal: Normal, known: NormalMetric, cases: Cases, thresholds: Thresholds, *, served: bool
) -> list[Finding]:
    values = cases.column(known.metric.name)
    present = np.isfinite(values)
    found = []
    if known.is_root and served:
        change = float(present.mean()) - known.known
        z = _share_z(known.known, len(normal.cases), float(present.mean()), len(cases))
        strength = min(abs(change) / thresholds.presence, z / thresholds.z)
        found.append(_finding(known, "presence", known.known, float(present.mean()), change, z, strength))
    if present.sum() < thresholds.least_cases // 2 or not np.isfinite(known.mean):
        return found
    value = float(values[present].mean())
    if known.metric.value_kind is MetricKind.SHARE:
        residuals = normal.residuals(cases, known)[present]
        before = known.residuals[np.isfinite(known.residuals)]
        change = float(residuals.mean() - before.mean())
        expected = min(1.0, max(0.0, value - change))
        z = _share_z(expected, len(before), value, len(residuals))
        strength = min(abs(change) / thresholds.share, z / thresholds.z)
        found.append(_finding(known, "share", expected, value, change, z, strength))
    elif known.is_root:
        below, above = values[present] < known.low, values[present] > known.high
        if not served:  # infrastructure is not blamed for an improvement
            below &= known.metric.direction is not Direction.UP
            above &= known.metric.direction is not Direction.DOWN
        unseen = float((below | above).mean())
        z = _share_z(0.01, len(normal.cases), unseen, int(present.sum()))
        strength = min(unseen / thresholds.unseen, z / thresholds.z)
        found.append(_finding(known, "unseen", known.mean, value, unseen, z, strength))
    else:
        residuals = normal.residuals(cases, known)[present]
        change, z = _shift(known, residuals)
        shift = float(np.median(residuals)) if known.spread > TINY else float(residuals.mean())
        strength = min(abs(change) / thresholds.real, z / thresholds.z)
        if max(abs(shift), abs(change) * known.spread) < known.metric.least:
            strength = min(strength, 0.9)  # significant, but too small to matter
        expected = value - float(residuals.mean())
        found.append(_finding(known, "residual", expected, value, change, z, strength))
    return found


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


def _finding(
    known: NormalMetric, kind: str, expected: float, value: float, effect: float, z: float, strength: float
) -> Finding:
    return Finding(known.metric.name, known.metric.owner, kind, expected, value, effect, z, strength)


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
        strength = min(abs(change) / spread / thresholds.symptom, z / thresholds.z)
        if abs(change) >= known.metric.least:
            found.append(
                _finding(known, "symptom", float(then.mean()), float(now.mean()), change / spread, z, strength)
            )
    return sorted(found, key=lambda finding: -finding.strength)


def by_stage(found: Sequence[Finding]) -> Mapping[str, float]:
    """Return the strength of each stage, which is that of its strongest metric."""
    strengths: dict[str, float] = {}
    for finding in found:
        strengths[finding.stage] = max(strengths.get(finding.stage, 0.0), finding.strength)
    return strengths


def probe_results(spec: CascadeSpec, records: Sequence[Record]) -> list[ProbeResult]:
    """Return the probe results of each stage that the probe records cover.

    A probe record has a measure `STAGE.probe_differs` (0 or 1) for each stage that was given its pinned input.
    """
    counts: dict[str, list[int]] = {}
    for record in records:
        if record.kind != "probe":
            continue
        for stage in spec.stages:
            differs = record.measures.get(f"{stage.name}.probe_differs")
            if isinstance(differs, int | float):
                mine = counts.setdefault(stage.name, [0, 0])
                mine[0] += differs > 0
                mine[1] += 1
    return [ProbeResult(stage, failed, of) for stage, (failed, of) in counts.items()]
