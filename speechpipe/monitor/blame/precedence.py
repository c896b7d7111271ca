"""Which stage comes first where probes do not decide: one above that has changed for certain, though by little.

How a stage acts on inputs is learned from the reference. Where inputs are now what they hardly ever were, or a stage
above acts a little differently on all of them, the stages below differ from what was learned, and by more: a VAD that
cuts 50 ms off every segment makes the words per second of speech rise. So once a stage is suspected, a stage above it
that has changed for certain comes before it. By itself, so little a change is no reason to blame a stage.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from speechpipe.monitor.blame.evidence import Finding
from speechpipe.monitor.blame.normal import Normal, NormalMetric
from speechpipe.monitor.cases import Cases
from speechpipe.monitor.spec import MetricKind

CERTAIN_Z = 6.0
SHIFT = 1.0
"""Standard deviations by which what inputs do not explain has shifted, however little that is in the metric's unit."""

LEAST_SIZE = 0.15
"""And by so much of what would be enough in that unit: a metric that never varied shifts by its rounding."""

UNSEEN = 0.2
"""Share of the cases outside the range of the reference."""

TAIL, IN_TAIL = 0.1, 0.65
"""So large a share of the cases lies beyond a quantile beyond which so small a share of the reference lay."""

LEAST_CASES = 15


def above_first(
    normal: Normal, cases: Cases, found: Sequence[Finding], strengths: Mapping[str, float]
) -> dict[str, float]:
    """Return the strengths of the stages, with 1 at least for those above the first suspect that certainly changed.

    Args:
        normal: what is normal.
        cases: those that are judged.
        found: their findings.
        strengths: of the stages by name; those of 1 and more are suspected.
    """
    result = dict(strengths)
    feeding = {parent for stage in normal.spec.stages for parent in stage.parents}
    suspects = (one for one in normal.spec.stages if one.served and one.name in feeding)
    first = next((one for one in suspects if result.get(one.name, 0.0) >= 1.0), None)
    if first is None:
        return result
    for stage in normal.spec.above(first.name):
        # Not what is read further down and blamed on the stage: a stage below that is at fault moves it, too.
        mine = [one for one in found if one.stage == normal.spec.metric(one.metric).stage == stage.name]
        roots = [one for one in normal.metrics if one.metric.owner == stage.name and one.is_root]
        if any(map(_is_certain, mine)) or any(_is_in_tail(normal, cases, root) for root in roots if not stage.parents):
            result[stage.name] = max(result.get(stage.name, 0.0), 1.0)
    return result


def _is_certain(one: Finding) -> bool:
    least = {"residual": SHIFT, "unseen": UNSEEN}.get(one.kind)
    return least is not None and abs(one.effect) >= least and one.z >= CERTAIN_Z and one.size >= LEAST_SIZE


def _is_in_tail(normal: Normal, cases: Cases, known: NormalMetric) -> bool:
    """Whether most cases have values of a root that few of the reference had."""
    if known.metric.mix or known.metric.value_kind is not MetricKind.REAL:
        return False
    then, now = normal.cases.column(known.metric.name), cases.column(known.metric.name)
    then, now = then[np.isfinite(then)], now[np.isfinite(now)]
    if len(then) < LEAST_CASES / TAIL or len(now) < LEAST_CASES:
        return False
    low, high = np.quantile(then, [TAIL, 1 - TAIL])
    return bool(max((now < low).mean(), (now > high).mean()) >= IN_TAIL)
