"""The smallest effects that blame names: for each fault and size, the utterances from its onset until it is named.

The episodes are those of the fault benchmark, cut off after so many utterances of the fault.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from speechpipe.bench.blame import Setup, on_all_cores
from speechpipe.bench.episodes import AFTER, PROBE_EVERY, Plan, episode
from speechpipe.bench.faults import SEVERITIES, Fault
from speechpipe.monitor.blame.normal import fit
from speechpipe.monitor.blame.probes import ProbeResult
from speechpipe.monitor.blame.verdict import blame
from speechpipe.serving.telemetry.cascade_metrics import CASCADE

STEPS = (30, 50, 80, 120, 200, AFTER)
"""Utterances of the fault after which it is asked whether it is named."""

ENOUGH = 0.9
"""Share of the episodes in which the right stage must be named."""


@dataclass(frozen=True)
class Effect:
    """A fault at one size. `named` and `passive` (without probes): utterances until it is named; None: it is not."""

    fault: Fault
    severity: str
    named: int | None
    passive: int | None


def effects(
    found: Setup, faults: Sequence[Fault], seeds: int, progress: Callable[[int], None] = lambda _: None
) -> list[Effect]:
    """Sample `seeds` episodes of each fault and size and judge them, on all cores; `progress` gets the number done."""
    sizes = [(fault, severity) for fault in faults for severity in SEVERITIES]
    plans = [Plan(fault.name, severity, seed) for fault, severity in sizes for seed in range(seeds)]
    named = on_all_cores(found, _named, plans, progress)
    shares = np.array(named, float).reshape(len(sizes), seeds, 2, len(STEPS)).mean(axis=1)
    return [
        Effect(fault, severity, _first(mine[0]), _first(mine[1]))
        for (fault, severity), mine in zip(sizes, shares, strict=True)
    ]


def _first(shares: Sequence[float]) -> int | None:
    """Return the step from which on enough episodes are named right."""
    found = None
    for step, share in reversed(list(zip(STEPS, shares, strict=True))):
        if share < ENOUGH:
            break
        found = step
    return found


def _named(setup: Setup, plan: Plan) -> list[list[bool]]:
    """Return for each step whether the right stage is named: with probes, and without."""
    drawn = episode(plan, setup.clips, setup.pools, setup.answers)
    normal = fit(CASCADE, drawn.reference)
    found: list[list[bool]] = [[], []]
    for step in STEPS:
        traffic = drawn.traffic.take(np.arange(drawn.onset + step))
        for mine, probes in zip(found, (_so_far(drawn.probes, step), ()), strict=True):
            mine.append(blame(normal, traffic, probes).label == plan.truth)
    return found


def _so_far(probes: Sequence[ProbeResult], step: int) -> list[ProbeResult]:
    """Return the part of an episode's probes that has been answered after so many utterances."""
    rounds, all_rounds = step // PROBE_EVERY, AFTER // PROBE_EVERY
    if not rounds:
        return []
    return [
        replace(one, failed=round(one.failed * rounds / all_rounds), of=one.of * rounds // all_rounds) for one in probes
    ]


def text(rows: Sequence[Effect]) -> str:
    """Return the table: a line for each fault, with its three sizes."""
    lines = [f"{'fault':34} {'sizes':>18}  {'named after':>18} {'without probes':>18}   what the size is"]
    for first in range(0, len(rows), len(SEVERITIES)):
        mine = rows[first : first + len(SEVERITIES)]
        sizes = " / ".join(f"{one.fault.value(one.severity):g}" for one in mine)
        named = " / ".join("-" if one.named is None else str(one.named) for one in mine)
        passive = " / ".join("-" if one.passive is None else str(one.passive) for one in mine)
        fault = mine[0].fault
        name = f"{fault.level.value}: {fault.name}"
        lines.append(f"{name:34} {sizes:>18}  {named:>18} {passive:>18}   {fault.what}")
    return "\n".join(lines)
