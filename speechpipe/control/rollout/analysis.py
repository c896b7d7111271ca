"""Analysis of a step's counts: roll back, promote, or hold with the number of sessions that are still needed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from speechpipe.control.rollout import Judgement, Mode
from speechpipe.control.rollout.arm_counts import ArmCounts
from speechpipe.control.rollout.plan import Plan, Step
from speechpipe.foundation.stats.eprocess import (
    Values,
    log_e_above,
    log_e_below,
    log_e_not_inferior,
    log_e_unequal,
    log_e_worse,
)
from speechpipe.serving.assignment import CANARY, CHAMPION

SAMPLE_RATIO_ALPHA = 1e-4
FARTHEST = 1e7
"""Sessions; if more than this would be needed, the number is unknown."""


@dataclass(frozen=True)
class Row:
    """The evidence on one guard. `harm` and `fine` are log E divided by their thresholds: 1 or more is enough."""

    guard: str
    help: str
    champion: tuple[int, int]  # events, units
    candidate: tuple[int, int]
    harm: float
    fine: float
    more: int | None  # sessions of all arms that `fine` still needs at the rates so far; None: unknown

    @property
    def judgement(self) -> Judgement:
        """The decision that this guard alone supports."""
        if self.harm >= 1:
            return Judgement.ROLL_BACK
        return Judgement.PROMOTE if self.fine >= 1 else Judgement.HOLD


@dataclass(frozen=True)
class Evidence:
    """The evidence of a step."""

    judgement: Judgement
    reason: str
    rows: tuple[Row, ...]
    more: int | None  # sessions of all arms that are still needed; 0 when the evidence is complete; None: unknown
    sample_ratio: float  # log E divided by its threshold: at 1 or more, routing is not as planned
    half: str = ""  # in shadow: the stage that causes the change


Baseline = Mapping[str, tuple[int, int]]
"""Guard -> (events, sessions) of the champion before the rollout, for blue/green, where it gets no sessions."""


def judge(plan: Plan, number: int, arm_counts: ArmCounts, baseline: Baseline) -> Evidence:
    """Return the evidence of step `number`."""
    step = plan.steps[number]
    if step.mode is Mode.SHADOW:
        rows = tuple(_paired(plan, step, arm_counts))
        half, unequal, on_candidate = _half(arm_counts), 0.0, arm_counts.shadowed
    else:
        rows = tuple(_counted(plan, step, arm_counts, baseline))
        half, on_candidate = "", arm_counts.units[CANARY] if step.mode is Mode.CANARY else arm_counts.sessions[CANARY]
        unequal = 0.0
        if step.mode is Mode.CANARY:
            trials = np.array(float(arm_counts.units.total()))
            log_e = float(log_e_unequal(np.array(float(on_candidate)), trials, step.weight))
            unequal = log_e / math.log(1 / SAMPLE_RATIO_ALPHA)
    missing = max(0, step.least_sessions - on_candidate)
    share = step.weight if step.mode is Mode.CANARY else 1.0
    needs = [row.more for row in rows if row.fine < 1]
    more = None if None in needs else max([*(need or 0 for need in needs), math.ceil(missing / share)])
    bad = [row for row in rows if row.harm >= 1]
    if bad:
        worst = max(bad, key=lambda row: row.harm)
        return Evidence(Judgement.ROLL_BACK, _why_worse(worst, step), rows, 0, unequal, half)
    if unequal >= 1:
        seen = on_candidate / max(arm_counts.units.total(), 1)
        shares = f"{seen:.1%} on the candidate instead of {step.weight:.1%}"
        reason = f"routing is not as planned: {shares}; the evidence is void"
        return Evidence(Judgement.HOLD, reason, rows, None, unequal, half)
    if all(row.fine >= 1 for row in rows) and missing == 0:
        reason = f"every guard is within its margin ({step.label})"
        return Evidence(Judgement.PROMOTE, reason, rows, 0, unequal, half)
    waiting = [row.guard for row in rows if row.fine < 1]
    reason = f"not yet certain of {', '.join(waiting)}" if waiting else f"{missing} more sessions are needed"
    return Evidence(Judgement.HOLD, reason, rows, more, unequal, half)


def _why_worse(row: Row, step: Step) -> str:
    if step.mode is Mode.SHADOW:
        return f"{row.guard}: harm on more than {step.harm:.0%} of the sessions ({row.help})"
    then, now = row.champion[0] / max(row.champion[1], 1), row.candidate[0] / max(row.candidate[1], 1)
    return f"{row.guard}: {now:.1%} of the candidate's sessions, {then:.1%} of the champion's ({row.help})"


def _thresholds(plan: Plan, rows: int) -> tuple[float, float]:
    """Return the log E for a rollback (alpha is split over guards and steps), and the log E for a step forward."""
    return math.log(rows * len(plan.steps) / plan.alpha), math.log(1 / plan.alpha_promote)


def _counted(plan: Plan, step: Step, arm_counts: ArmCounts, baseline: Baseline) -> list[Row]:
    guards = [guard for guard in arm_counts.guard_set.events if guard.name in plan.guards]
    enough_harm, enough_fine = _thresholds(plan, len(guards))
    units = arm_counts.units
    found = []
    for guard in guards:
        events = arm_counts.events[guard.name]
        then, now, effect = (events[CHAMPION], units[CHAMPION]), (events[CANARY], units[CANARY]), 1.0
        harmless = plan.guards[guard.name]
        if step.mode is Mode.BLUE_GREEN:
            then, mine = baseline.get(guard.name, (0, 0)), arm_counts.compared[guard.name]
            now, effect = (mine.events, mine.count), mine.effect
            # Half of alpha is for the uncertain rate of the champion, half for the tests on the candidate.
            alpha = plan.alpha / 2 / len(guards) / len(plan.steps)
            enough_harm = math.log(1 / alpha)
            harm, fine = _sequential(then, harmless, step.margin, alpha)
        else:
            harm, fine = _concurrent(step, harmless)
        counts = np.array([*then, now[0] / effect, now[1] / effect], float)
        # Fine: not `margin` times worse, or rare anyway. The mean of two e-processes is an e-process.
        more = _more(fine, enough_fine, counts, step)
        found.append(
            Row(
                guard=guard.name,
                help=guard.help,
                champion=then,
                candidate=now,
                harm=harm(counts) / enough_harm,
                fine=fine(counts) / enough_fine,
                more=None if more is None else math.ceil(more * effect),
            )
        )
    return found


Measure = Callable[[Values], float]


def _concurrent(step: Step, harmless: float) -> tuple[Measure, Measure]:
    """Return (harm, fine) if both arms run: an event is the candidate's with the probability of routing."""

    def harm(counts: Values) -> float:
        return float(log_e_worse(counts[2], counts[0] + counts[2], step.weight))

    def fine(counts: Values) -> float:
        near = float(log_e_not_inferior(counts[2], counts[0] + counts[2], step.weight, step.margin))
        if harmless <= 0:
            return near
        rare = float(log_e_below(counts[2], counts[3], harmless))
        return float(np.logaddexp(near, rare) - math.log(2))

    return harm, fine


def _sequential(then: tuple[int, int], harmless: float, margin: float, alpha: float) -> tuple[Measure, Measure]:
    """Return (harm, fine) if only the candidate runs, compared with the champion's earlier rate; doubt favours it."""
    events, sessions = then
    rate = (events + 1) / (sessions + 2)
    above = min(0.95, max(harmless, highest_rate(events, sessions, alpha)))
    allowed = min(0.98, max(harmless, margin * rate))

    def harm(counts: Values) -> float:
        return float(log_e_above(counts[2], counts[3], above))

    def fine(counts: Values) -> float:
        return float(log_e_below(counts[2], counts[3], allowed))

    return harm, fine


@lru_cache(maxsize=256)
def highest_rate(events: int, sessions: int, alpha: float) -> float:
    """Return the highest rate at which `events` or fewer have probability `alpha` (Clopper and Pearson, 1934)."""
    if events >= sessions:
        return 1.0
    counts = np.arange(events + 1)
    ways = np.array([math.lgamma(sessions + 1) - math.lgamma(k + 1) - math.lgamma(sessions - k + 1) for k in counts])
    low, high = events / sessions, 1.0
    for _ in range(40):
        rate = (low + high) / 2
        log_p = np.logaddexp.reduce(ways + counts * math.log(rate) + (sessions - counts) * math.log1p(-rate))
        low, high = (rate, high) if log_p > math.log(alpha) else (low, rate)
    return high


def _more(fine: Measure, needed: float, counts: Values, step: Step) -> int | None:
    """Return how many more sessions are needed at the rates so far; None if more than `FARTHEST`."""
    seen = float(counts[3] + (counts[1] if step.mode is Mode.CANARY else 0))
    if fine(counts) >= needed:
        return 0
    if seen < 1:  # no sessions yet: assume that there will be no events
        seen = 1.0
        counts = np.array([0.0, 1 - step.weight, 0.0, step.weight])
    high = 2.0
    while fine(counts * high) < needed:
        high *= 2
        if seen * high > FARTHEST:
            return None
    low = high / 2 if high > 2 else 1.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if fine(counts * middle) >= needed else (middle, high)
    return math.ceil(seen * (high - 1))


def _paired(plan: Plan, step: Step, arm_counts: ArmCounts) -> list[Row]:
    enough_harm, enough_fine = _thresholds(plan, len(arm_counts.guard_set.paired))
    found = []
    for guard in arm_counts.guard_set.paired:
        harmed, unharmed = arm_counts.harmed[guard.name], arm_counts.unharmed[guard.name]
        fine = unharmed.log_e / enough_fine
        count = unharmed.count
        more: int | None = 0
        if fine < 1:
            mean = unharmed.mean if unharmed.mean is not None else 0.0
            if mean >= step.harm:
                more = None
            elif unharmed.log_e > 0.1:
                more = math.ceil(count * (1 / fine - 1))
            else:  # the growth of the best bet if there are no events
                more = math.ceil(enough_fine / max(1e-9, math.log1p(0.7 * (step.harm - mean) / (1 - step.harm))))
        total = round(unharmed.total, 6)
        found.append(
            Row(guard.name, guard.help, (0, count), (round(total), count), harmed.log_e / enough_harm, fine, more)
        )
    return found


def _half(arm_counts: ArmCounts) -> str:
    """Return the stage whose replacement alone changes more; `both` if that is uncertain; empty: no change."""
    found = {stage: arm_counts.interval(measure) for stage, measure in arm_counts.guard_set.halves}
    known = {stage: cell for stage, cell in found.items() if cell is not None and cell[1] > 0}
    if not known or arm_counts.shadowed < 5:
        return ""
    first = max(known, key=lambda stage: known[stage][0])
    others = [cell for stage, cell in found.items() if stage != first and cell is not None]
    return first if all(known[first][1] > cell[2] for cell in others) else "both"
